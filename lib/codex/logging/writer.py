"""Append records to an NDJSON file: one line, one write, under the file's lock.

Other languages that append to the same files must take the same lock, flock(2) on the file itself
(not fcntl or lockf locks, which don't see it), or write each line with one write(2) to an O_APPEND descriptor.
"""

from __future__ import annotations

import json
import os
import threading
import time
from types import TracebackType

from codex.logging import config

if os.name == "posix":
    import fcntl

    _BUSY: type[OSError] | tuple[type[OSError], ...] = BlockingIOError

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

else:  # the same lock by portalocker, whose import costs more than a hundred appends
    import portalocker

    _BUSY = (portalocker.LockException, BlockingIOError)  # type: ignore[assignment]

    def _try_lock(descriptor: int) -> None:
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)

    def _unlock(descriptor: int) -> None:
        portalocker.unlock(descriptor)


LOCK_SECONDS = 2.0
_POLL_SECONDS = 0.00005
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
_OPEN_FLAGS = (
    os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
)  # fmt: skip


def append_ndjson(path: str | os.PathLike[str], record: dict[str, object]) -> None:
    """Append one record as one line of UTF-8 JSON; missing folders are made.

    A write that fails is retried once and then warned of, never raised: logging can't stop the agent.
    With TEST_MODE=1 nothing is written. Raises TypeError when the record is no dict.
    """
    line = encode(record)
    if not config.test_mode():
        with Appender(path) as appender:
            appender.write(line)


def encode(record: dict[str, object]) -> bytes:
    """One line, with its line feed. What JSON can't say (NaN, a set, a lone surrogate) is said nearest to it."""
    if not isinstance(record, dict):
        raise TypeError(f"a record is a dict, not {type(record).__name__}")
    try:
        return _ENCODER.encode(record).encode() + b"\n"
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_plain(record, ()), separators=(",", ":")).encode() + b"\n"


def _plain(value: object, above: tuple[int, ...]) -> object:
    """The nearest thing that JSON can say; a cycle, or what lies deeper than 64 levels, by its type's name."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return str(value)
    if id(value) in above or len(above) == 64:
        return f"<{type(value).__name__}>"
    above = (*above, id(value))
    if isinstance(value, dict):
        return {str(key): _plain(item, above) for key, item in value.items()}
    return [_plain(item, above) for item in value]


class Appender:
    """A log file kept open between appends. It notices rotation, deletion and fork, and opens the file anew."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = config.absolute(path)
        self._descriptor = -1
        self._process = 0
        # flock doesn't exclude threads that share a descriptor; re-entrant for a signal handler's last words
        self._threads = threading.RLock()

    def append(self, record: dict[str, object]) -> None:
        """As append_ndjson, on this file."""
        line = encode(record)
        if not config.test_mode():
            self.write(line)

    def write(self, line: bytes) -> None:
        """Append whole lines; the bytes must end in a line feed. Never raises OSError: see append_ndjson."""
        with self._threads:
            try:
                self._write(line)
            except OSError:
                self._retry(line)

    def _retry(self, line: bytes) -> None:
        self.close()
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self._write(line)
        except OSError as error:
            self.close()
            warn(f"not logged: {error}; {len(line)} bytes for {self.path} are lost")

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        with self._threads:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0 and self._process == os.getpid():
                os.close(descriptor)

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        limit = config.rotate_bytes()
        deadline = 0.0
        while True:
            descriptor = self._open()
            locked, deadline = _lock(descriptor, deadline)
            try:
                status = os.fstat(descriptor)
                if not self._is_current(status):
                    self.close()  # rotated or deleted while we waited
                elif limit and status.st_size >= limit and locked and _rotate(self.path):
                    self.close()
                else:
                    _append_line(descriptor, status.st_size, line, locked)
                    return
            finally:
                if locked and self._descriptor >= 0:
                    _unlock(descriptor)

    def _open(self) -> int:
        process = os.getpid()
        if self._descriptor >= 0 and self._process != process:
            # A lock on a descriptor inherited by fork is shared with the parent: it would exclude nobody.
            os.close(self._descriptor)
            self._descriptor = -1
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, _OPEN_FLAGS, config.file_mode())
            self._process = process
        return self._descriptor

    def _is_current(self, status: os.stat_result) -> bool:
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        return now.st_ino == status.st_ino and now.st_dev == status.st_dev


def _lock(descriptor: int, deadline: float) -> tuple[bool, float]:
    """Whether the lock was had by the deadline, and the deadline; an agent waits 2 s in all, not for ever.

    Without the lock the append goes on: one write to an O_APPEND descriptor can't tear, it only can't rotate.
    """
    try:
        _try_lock(descriptor)
    except _BUSY:
        pass
    else:
        return True, deadline
    deadline = deadline or time.monotonic() + LOCK_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        try:
            _try_lock(descriptor)
        except _BUSY:
            continue
        return True, deadline
    return False, deadline


def _append_line(descriptor: int, size: int, line: bytes, locked: bool) -> None:
    if size and _last_byte(descriptor, size) != b"\n":
        line = b"\n" + line  # a dead writer's torn tail must not fuse with this record
    written = os.write(descriptor, line)
    if written != len(line):
        if locked:
            os.ftruncate(descriptor, size)
        raise OSError(28, "No space left on device for the whole line")


def _last_byte(descriptor: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, 1, size - 1)
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1)


def _rotate(path: str) -> bool:
    """Shift path.1 to path.2 and so on, then path to path.1. False when a name is in the way: append on."""
    free = 1
    while os.path.lexists(f"{path}.{free}"):
        free += 1
    try:
        for number in range(free, 1, -1):
            os.rename(f"{path}.{number - 1}", f"{path}.{number}")
        os.rename(path, f"{path}.1")
    except OSError as error:
        warn(f"not rotated: {error}")
        return False
    return True


def warn(message: str) -> None:
    """Tell a person, by the logger `codex.logging`, without ever raising."""
    import logging  # costs more than an append: only when there is something to say

    logging.getLogger("codex.logging").warning("%s", message)
