"""Checkpoints of the write-ahead log, off the commit path: their fsync may take longer than a thousand commits."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, suppress
from types import TracebackType

import apsw

EVERY_SECONDS = 1.0
WAL_BYTES = 4 << 20
RELIEF_BYTES = 64 << 20


class Checkpointer(AbstractContextManager["Checkpointer"]):
    """A thread with a connection of its own that checkpoints once the log has grown, or has rested."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)

    def __enter__(self) -> Checkpointer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def relieve(self, writer: apsw.Connection) -> None:
        """Between two commits: checkpoint on the writer's own time where the thread can't keep up."""
        if self._size() > RELIEF_BYTES:
            _checkpoint(writer)

    def _run(self) -> None:
        connection = apsw.Connection(self._path)
        former, done = (0, 0), True
        while not self._stop.wait(EVERY_SECONDS):
            state = self._state()
            rested = state == former and not done
            if rested or (state[0] > WAL_BYTES and state != former):
                _checkpoint(connection)
            done = rested or (state == former and done)
            former = state
        connection.close()

    def _size(self) -> int:
        return self._state()[0]

    def _state(self) -> tuple[int, int]:
        """Bytes and time of change of the write-ahead log."""
        try:
            status = os.stat(f"{self._path}-wal")
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns


def _checkpoint(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):  # busy or out of space: the log keeps the rows, and the next round tries again
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
