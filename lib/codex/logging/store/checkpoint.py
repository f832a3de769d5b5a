"""Checkpoints of the write-ahead log, off the commit path: their fsync may take longer than a thousand commits."""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.store.disk import sync_data

EVERY_SECONDS = 1.0
# As long as the log grows: a checkpoint has little left to sync then, and commits wait for the disk a fifth as long.
SYNC_SECONDS = 0.1
WAL_BYTES = 4 << 20
RELIEF_BYTES = 64 << 20
# Soon again where it failed: room that is made on a full disk is the file's before it is the log's.
_RETRY_SECONDS = 0.1
_REST = 10.0  # the writer rests for so many times what a checkpoint took that didn't get all done

NO_THREAD_HINT = "The system gives no more threads: free memory, or raise the limit of tasks."

_State = tuple[int, int]


class Checkpointer(AbstractContextManager["Checkpointer"]):
    """A thread with a connection of its own that syncs the log, and checkpoints once it has grown, or has rested."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = identity(path)
        self._connection: apsw.Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._done: _State = (0, 0)
        self._relief_at = 0.0

    def __enter__(self) -> Checkpointer:
        with suppress(apsw.Error):  # the thread tries again
            self._connection = self._open()
        try:
            self._thread.start()
        except RuntimeError as error:
            raise DatabaseError(f"no thread for checkpoints: {error}", hint=NO_THREAD_HINT) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def relieve(self, writer: apsw.Connection) -> None:
        """Between two commits: checkpoint on the writer's own time where the thread can't keep up.

        Or where the disk has less room than the log is large: else there may be none for the file when it is needed.
        """
        state = self._state()
        if state == self._done or state[0] <= min(RELIEF_BYTES, self._room()) or time.monotonic() < self._relief_at:
            return
        began = time.monotonic()
        with suppress(apsw.Error):  # the log keeps the rows
            self._checkpoint(writer, state)
        if state != self._done:
            now = time.monotonic()
            self._relief_at = now + (now - began) * _REST

    def _run(self) -> None:
        synced = former = (0, 0)
        wait, due = EVERY_SECONDS, 0.0
        while not self._stop.wait(wait):
            state, wait = self._state(), EVERY_SECONDS
            if state != synced:
                synced, wait = state, min(SYNC_SECONDS, EVERY_SECONDS)
                with suppress(OSError):  # the checkpoint tells
                    sync_data(f"{self._path}-wal")
            if time.monotonic() < due:
                continue
            due = time.monotonic() + EVERY_SECONDS
            if state != self._done and (state == former or state[0] > WAL_BYTES):
                try:
                    self._connection = self._connection or self._open()
                    self._checkpoint(self._connection, state)
                except apsw.Error:
                    wait, due = _RETRY_SECONDS, 0.0
            former = state
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READWRITE)
        if identity(self._path) != self._file:  # the log beside it is another file's, and must not be brought into it
            connection.close()
            raise apsw.CantOpenError(f"{self._path} is another file by now")
        connection.pragma("schema_version")  # a connection that hasn't read yet doesn't know of any log
        return connection

    def _checkpoint(self, connection: apsw.Connection, state: _State) -> None:
        """Bring what no reader holds up from the log into the file; `state` is the log's before."""
        frames, taken = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if frames == taken:
            self._done = state

    def _room(self) -> int:
        """Bytes that may still be written to the disk."""
        try:
            disk = os.statvfs(os.path.dirname(self._path))
        except OSError:
            return RELIEF_BYTES
        return disk.f_bavail * disk.f_frsize

    def _state(self) -> _State:
        """Bytes and time of change of the write-ahead log."""
        try:
            status = os.stat(f"{self._path}-wal")
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode; None where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
