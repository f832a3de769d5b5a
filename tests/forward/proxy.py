"""A network that fails: it lies between a client and a server, and stalls, swallows, resets or half-closes at will."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

_PIECE = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


class _Link:
    """One connection through it, and a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket, flows: threading.Event) -> None:
        self._ends = (client, server)
        self._flows = flows
        self._swallows = False
        ways = ((client, server), (server, client))
        self._threads = [threading.Thread(target=self._pump, args=way, daemon=True) for way in ways]
        for thread in self._threads:
            thread.start()

    def swallow(self) -> None:
        """From now on nothing arrives, and nobody is told."""
        self._swallows = True

    def reset(self) -> None:
        """Both sides get a reset."""
        for end in self._ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                end.shutdown(socket.SHUT_RD)  # the pump that waits for it lets go
        self._close()

    def half_close(self) -> None:
        """The client hears the server's end, which goes on taking what it says."""
        with suppress(OSError):
            self._ends[0].shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Leave nothing of it."""
        self.reset()
        for thread in self._threads:
            thread.join()

    def _close(self) -> None:
        for end in self._ends:
            end.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                self._flows.wait()
                if not self._swallows:
                    target.sendall(piece)
        with suppress(OSError):
            if not self._swallows:
                target.shutdown(socket.SHUT_WR)


class Proxy:
    """Listens on a port of its own, and connects each client with a server's, within its context."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._upstream = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flows = threading.Event()
        self._flows.set()
        self._links: list[_Link] = []
        self._ever: list[_Link] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for link in self._ever:
            link.end()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                client.close()
            else:
                link = _Link(client, server, self._flows)
                self._links.append(link)
                self._ever.append(link)

    def stall(self) -> None:
        """Nothing goes on, until `resume`."""
        self._flows.clear()

    def resume(self) -> None:
        """What was held up goes on."""
        self._flows.set()

    def fail(self, how: str) -> None:
        """Every connection that there is: "swallow", "reset" or "half_close". New ones are sound."""
        links, self._links = self._links, []
        for link in links:
            getattr(link, how)()
