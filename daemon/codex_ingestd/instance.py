"""One daemon per database: a lock file beside it, which the system lets go of when its holder dies.

In it the holder tells of itself, in place: that goes on when the database takes nothing and the disk is full.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType

import msgspec
import portalocker

from codex.logging.errors import DaemonRunningError, DatabaseError
from codex.logging.owners import make_folders
from codex.logging.served import held_lock
from codex.logging.store.private import refuse_open
from codex_ingestd.health.judge import Facts

_EXCLUSIVE = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ROOM = 4096  # had from the start, so that a full disk stops no later word
_TRIES = 3
_WAIT_SECONDS = 1.0  # who asks for the state has the lock for a moment


class Instance(AbstractContextManager["Instance"]):
    """Held while a daemon serves the database. Raises DaemonRunningError, naming the other one's pid.

    Raises ConfigError where the database isn't this user's alone.
    """

    def __init__(self, database: str) -> None:
        self.path = f"{database}.lock"
        self._database = database
        self._descriptor = -1

    def __enter__(self) -> Instance:
        try:
            make_folders(os.path.dirname(self.path))
            refuse_open(self._database)
            self._descriptor = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise DatabaseError(f"{self.path}: {error.strerror}", hint="Choose another place with --db.") from error
        try:
            self._lock()
        except portalocker.AlreadyLocked as error:
            pid = _facts(self._descriptor).pid
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
        self.tell(Facts(os.getpid(), time.monotonic()))
        return self

    def _lock(self) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                portalocker.lock(self._descriptor, _EXCLUSIVE)
            except portalocker.AlreadyLocked:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def tell(self, facts: Facts) -> None:
        """Leave the facts where `told` finds them; a disk that fails keeps them from being told, nothing else."""
        text = json.dumps(msgspec.to_builtins(facts), ensure_ascii=False) + "\n"
        with suppress(OSError):
            os.pwrite(self._descriptor, text.encode("utf-8", "replace").ljust(_ROOM), 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def told(database: str) -> Facts | None:
    """What the daemon that serves the database last told of itself; None when there is none."""
    with held_lock(database) as descriptor:
        return None if descriptor is None else _facts(descriptor)


def _facts(descriptor: int) -> Facts:
    for _ in range(_TRIES):  # it may be written at this moment
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(_line(descriptor), type=Facts)
    return Facts(0, time.monotonic())


def _line(descriptor: int) -> bytes:
    """The file's first line."""
    data = b""
    while piece := os.pread(descriptor, _ROOM, len(data)):
        data += piece
        if b"\n" in piece:
            break
    return data.partition(b"\n")[0]
