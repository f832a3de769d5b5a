"""What happened, told to the one loop from other threads and from signal handlers."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue

EVERYTHING = ""


class Marks:
    """Paths that something happened to, each held once; EVERYTHING stands for all that is watched."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def put(self, path: str) -> None:
        """From any thread."""
        with self._lock:
            if path in self._held:
                return
            self._held.add(path)
        self._queue.put(path)

    def wake(self) -> None:
        """Make a waiting `take` return; without the lock, for a signal handler that may have interrupted its holder."""
        self._queue.put(EVERYTHING)

    def take(self, timeout: float) -> list[str]:
        """All that is marked, waiting for the first at most `timeout` seconds."""
        try:
            taken = [self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()]
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
        except Empty:
            return []
        with self._lock:
            self._held.difference_update(taken)
        return taken
