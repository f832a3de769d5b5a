"""A limit on how long a connection may be silent: nothing tells that what was sent into a dead network was lost."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import AbstractContextManager, suppress
from types import TracebackType


class Patience(AbstractContextManager["Patience"]):
    """Shuts the socket of a descriptor down where the block takes longer than `seconds`: whoever waits for it wakes."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> Patience:
        self._timer.start()
        return self

    def _cut(self) -> None:
        self.is_over = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        self._socket.close()
