"""Append records to an NDJSON file: one line, one write, under the file's lock.

Other languages that append to the same files must take the same lock, flock(2) on the file itself
(not fcntl or lockf locks, which don't see it), or write each line with one write(2) to an O_APPEND descriptor.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from codex.logging import config
from codex.logging.encoding import encode
from codex.logging.owners import make_folders

if sys.platform != "win32":
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _last_byte(descriptor: int, size: int) -> bytes:
        return os.pread(descriptor, 1, size - 1)

else:  # the same lock by portalocker, whose import costs more than a hundred appends
    import portalocker

    def _try_lock(descriptor: int) -> bool:
        try:
            portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        portalocker.unlock(descriptor)

    def _last_byte(descriptor: int, size: int) -> bytes:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1)


LOCK_SECONDS = 2.0
_POLL_SECONDS = 0.00005
_MAX_LOOKS = 32
_TELL_SECONDS = 60.0
_OPEN_FLAGS = (
    os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
)  # fmt: skip
_stuck: set[str] = set()  # paths whose lock was waited for in vain: the next append there doesn't wait again
_not_rotated: set[str] = set()  # paths whose rotation failed, and was warned of


class _Lost(NamedTuple):
    """Records of one path that could not be written and were not told of yet; `told` is when others were."""

    records: int = 0
    length: int = 0
    reason: str = ""
    told: float | None = None


_lost: dict[str, _Lost] = {}
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_lost.clear)  # the parent tells of its own


class _Here(threading.local):
    """What this thread is in the middle of; a signal handler, or a handler of our warnings, may call us there."""

    appending = False
    warning = False


_here = _Here()


def append_ndjson(path: str | os.PathLike[str], record: dict[str, object]) -> None:
    """Append one record as one line of UTF-8 JSON; missing folders are made.

    A write that fails is retried once and then warned of, never raised: logging can't stop the agent.
    With TEST_MODE=1 nothing is written. Raises TypeError when the record is no dict.
    """
    line = encode(record)
    with Appender(path) as appender:
        appender.write(line)


class Appender:
    """A log file kept open between appends. It notices rotation, deletion and fork, and opens the file anew."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = config.absolute(path)
        self._descriptor = -1
        self._process = os.getpid()
        self._threads = threading.RLock()  # flock doesn't exclude threads that share a descriptor

    def append(self, record: dict[str, object]) -> None:
        """As append_ndjson, on this file."""
        self.write(encode(record))

    def write(self, line: bytes) -> None:
        """Append whole lines; the bytes must end in a line feed. Never raises OSError: see append_ndjson."""
        if config.test_mode():
            return
        if _here.appending:
            # A signal handler in the middle of an append: this thread itself may hold the lock.
            with Appender(self.path) as other:
                other._write_or_warn(line, 0)
            return
        self._notice_fork()
        _here.appending = True
        try:
            with self._threads:
                self._write_or_warn(line, 0 if self.path in _stuck else LOCK_SECONDS)
        finally:
            _here.appending = False

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        self._notice_fork()
        with self._threads:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                try:
                    os.close(descriptor)
                except OSError as error:
                    warn(f"{self.path}: {error}")

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _notice_fork(self) -> None:
        process = os.getpid()
        if process != self._process:
            # The parent's descriptor shares its lock, and would exclude nobody; the thread that held `_threads`
            # may not be here.
            self._threads = threading.RLock()
            self._descriptor = -1
            self._process = process

    def _write_or_warn(self, line: bytes, patience: float) -> None:
        try:
            try:
                self._write(line, patience)
            except OSError:
                self._retry(line, patience)
            if self.path in _lost:
                _tell_of_lost(self.path)
        except BaseException:  # raised by a signal handler, maybe before we knew that we had the lock
            self.close()
            raise

    def _retry(self, line: bytes, patience: float) -> None:
        self.close()
        try:
            make_folders(os.path.dirname(self.path))
            self._write(line, patience)
        except OSError as error:
            self.close()
            lost = _lost.get(self.path, _Lost())
            _lost[self.path] = _Lost(lost.records + 1, lost.length + len(line), str(error), lost.told)

    def _write(self, line: bytes, patience: float) -> None:
        deadline = time.monotonic() + patience
        for looks in range(_MAX_LOOKS, 0, -1):
            descriptor = self._open()
            locked = self._lock(descriptor, deadline)
            try:
                status = os.fstat(descriptor)
                if looks == 1 or (self._is_current(status) and not (locked and self._rotates(status.st_size))):
                    _append_line(descriptor, status.st_size, line, locked)
                    return
            finally:
                if locked:
                    self._unlock(descriptor)
            self.close()

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = _open(self.path)
        return self._descriptor

    def _lock(self, descriptor: int, deadline: float) -> bool:
        """Whether the lock was had by the deadline: an agent doesn't wait for ever.

        Without it the append goes on: one write to an O_APPEND descriptor can't tear, it only can't rotate.
        """
        try:
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    _stuck.add(self.path)
                    return False
                time.sleep(_POLL_SECONDS)
        except OSError:  # a file system without locks
            return False
        _stuck.discard(self.path)
        return True

    def _unlock(self, descriptor: int) -> None:
        try:
            _unlock(descriptor)
        except OSError:
            self.close()  # which releases it as well; the line is written, and must not be written again

    def _is_current(self, status: os.stat_result) -> bool:
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        return now.st_ino == status.st_ino and now.st_dev == status.st_dev

    def _rotates(self, size: int) -> bool:
        limit = config.rotate_bytes()
        return 0 < limit <= size and _rotate(self.path)


def _open(path: str) -> int:
    try:
        return os.open(path, _OPEN_FLAGS)
    except FileNotFoundError:
        mode = config.file_mode()
        descriptor = os.open(path, _OPEN_FLAGS | os.O_CREAT, mode)
    if sys.platform != "win32":
        with suppress(OSError):
            os.fchmod(descriptor, mode)  # the mode that was asked for, whatever the umask
    return descriptor


def _append_line(descriptor: int, size: int, line: bytes, locked: bool) -> None:
    if size and _last_byte(descriptor, size) != b"\n":
        line = b"\n" + line  # a dead writer's torn tail must not fuse with this record
    written = os.write(descriptor, line)
    if written != len(line):
        if locked and os.fstat(descriptor).st_size == size + written:
            os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, "no space for the whole line")


def _rotate(path: str) -> bool:
    """Shift path.1 to path.2 and so on, then path to path.1. False when that can't be: append on."""
    free = 1
    while os.path.lexists(f"{path}.{free}"):
        free += 1
    try:
        for number in range(free, 1, -1):
            os.rename(f"{path}.{number - 1}", f"{path}.{number}")
        os.rename(path, f"{path}.1")
    except OSError as error:
        if path not in _not_rotated:
            _not_rotated.add(path)
            warn(f"not rotated: {error}")
        return False
    return True


def _tell_of_lost(path: str) -> None:
    """Of the first record at once, of those that follow in one sum a minute, of the rest at exit."""
    lost, now = _lost[path], time.monotonic()
    if lost.records and (lost.told is None or now - lost.told >= _TELL_SECONDS):
        _lost[path] = _Lost(told=now)
        _warn_of_lost(path, lost)
        if lost.told is None:
            atexit.register(_tell_of_rest)  # after the warning, which loads `logging`: it closes its handlers at exit


def _tell_of_rest() -> None:
    while _lost:
        path, lost = _lost.popitem()
        if lost.records:
            _warn_of_lost(path, lost)


def _warn_of_lost(path: str, lost: _Lost) -> None:
    warn(f"not logged: {lost.reason}; {lost.records} records ({lost.length} bytes) for {path} are lost")


def warn(message: str) -> None:
    """Tell a person, by the logger `codex.logging`, without ever raising."""
    if _here.warning:
        return
    import logging  # costs more than an append: only when there is something to say

    _here.warning = True
    try:
        with suppress(Exception):
            logging.getLogger("codex.logging").warning("%s", message)
    finally:
        _here.warning = False
