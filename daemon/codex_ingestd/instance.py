"""One daemon per database: a lock file beside it, which the system lets go of when its holder dies."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from types import TracebackType

import portalocker

from codex.logging.errors import DaemonRunningError, DatabaseError

_EXCLUSIVE = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_SHARED = portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING


class Instance(AbstractContextManager["Instance"]):
    """Held while a daemon serves the database. Raises DaemonRunningError, naming the other one's pid."""

    def __init__(self, database: str) -> None:
        self.path = f"{database}.lock"
        self._database = database
        self._descriptor = -1

    def __enter__(self) -> Instance:
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DatabaseError(f"{self.path}: {error.strerror}", hint="Choose another place with --db.") from error
        try:
            portalocker.lock(self._descriptor, _EXCLUSIVE)
        except portalocker.AlreadyLocked as error:
            pid = _pid(self._descriptor)
            os.close(self._descriptor)
            raise DaemonRunningError(
                f"a daemon already serves {self._database}: pid {pid or 'unknown'}",
                hint="Stop that one first, or give this one another --db.",
            ) from error
        except portalocker.LockException as error:
            os.close(self._descriptor)
            raise DatabaseError(
                f"{self.path} can't be locked: {error}", hint="Choose a --db on a file system that has locks."
            ) from error
        with suppress(OSError):  # a full disk keeps the pid from being told, not the lock from being held
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def running(database: str) -> int | None:
    """The pid of the daemon that serves the database, 0 when it isn't known; None when there is none."""
    try:
        descriptor = os.open(f"{database}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        portalocker.lock(descriptor, _SHARED)
    except portalocker.AlreadyLocked:
        return _pid(descriptor) or 0
    except portalocker.LockException:
        return None
    finally:
        os.close(descriptor)
    return None


def _pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else None
