"""The files under a watched root: their names, what they are, and their bytes under the lock."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple

import portalocker

from codex.logging.errors import SourceBusyError, SourceChangedError, SourceError
from codex.logging.ingest.beneath import open_beneath
from codex.logging.ingest.packed import Unpacked

_NAME = re.compile(r"(?P<key>.+\.(?:ndjson|jsonl))(?:\.(?P<number>[1-9][0-9]*)|(?P<packed>\.zst))?", re.DOTALL)
_SHARED = portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING
_LOCK_POLL_SECONDS = 0.0001
_BUSY_HINT = "Its lines are read when that process lets go; `codex-ingestd status` shows the lag."


class Location(NamedTuple):
    """A file of a stream. `key` is the live file's path under `root`; `number` counts rotations, 0 is live.

    A `packed` one is the live file that its agent has compressed, under the same name and `.zst`.
    """

    root: str
    key: str
    number: int
    packed: bool = False

    @property
    def path(self) -> str:
        """The absolute path."""
        return _path(self)

    @property
    def name(self) -> str:
        """The path under the root."""
        return self.key + _suffix(self)

    @property
    def stream(self) -> tuple[str, str]:
        """What names the stream: its root and key."""
        return self.root, self.key

    @property
    def session_id(self) -> str:
        """The session that the live file's name says."""
        return os.path.splitext(os.path.basename(self.key))[0]

    def rotated(self, number: int) -> Location:
        """The stream's file at another number."""
        return Location(self.root, self.key, number)


class Facts(NamedTuple):
    """What one look at a file told: where it is, identity, bytes, and nanoseconds.

    `identity` is device and inode, as signed 64 bits, which is what SQLite stores.
    `modified` is its time stamp, `changed` that of its inode, which a renaming moves too. `stored` are its bytes on the
    disk; those of its text, `size`, are others where it is packed and was opened.
    """

    location: Location
    identity: tuple[int, int]
    size: int
    modified: int
    changed: int
    stored: int


@lru_cache(4096)
def _path(location: Location) -> str:
    return os.path.join(location.root, location.key) + _suffix(location)


def _suffix(location: Location) -> str:
    return ".zst" if location.packed else f".{location.number}" if location.number else ""


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def locate(root: str, path: str) -> Location | None:
    """Which stream's file a path is; None when its name is none of ours, or it lies where no scan looks."""
    location = _named(root, path)
    return location if location is not None and _is_text(location.key) else None


def _named(root: str, path: str) -> Location | None:
    relative = path[len(root) + 1 :] if path.startswith(root + os.sep) else ""
    match = _NAME.fullmatch(relative)
    *folders, name = relative.split(os.sep)
    if match is None or name.startswith(".") or any(map(_is_passed_over, folders)):
        return None
    return Location(root, match["key"], int(match["number"] or 0), match["packed"] is not None)


def _is_passed_over(folder: str) -> bool:
    """Whether a scan doesn't enter a folder of this name."""
    return folder.startswith(".") or _NAME.fullmatch(folder) is not None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8: neither SQLite nor JSON takes them
        return False
    return True


def facts_of(location: Location, status: os.stat_result) -> Facts:
    """The facts of a stat or fstat."""
    identity, size = (_signed(status.st_dev), _signed(status.st_ino)), status.st_size
    return Facts(location, identity, size, status.st_mtime_ns, status.st_ctime_ns, size)


def look(location: Location) -> Facts | None:
    """The facts of a regular file, not followed through a link; None when there is none."""
    try:
        status = os.lstat(location.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"{location.path}: {error.strerror}") from error
    return facts_of(location, status) if stat.S_ISREG(status.st_mode) else None


def look_live(location: Location) -> Facts | None:
    """The facts of the stream's live file, packed or not; a plain one counts where both are there."""
    plain = location.rotated(0)
    return look(plain) or look(plain._replace(packed=True))


def survey(location: Location) -> list[tuple[Location, Facts]]:
    """The stream's files, live first, then by ascending number: a file that is renamed meanwhile can't be missed."""
    found: dict[tuple[int, int], tuple[Location, Facts]] = {}
    number, missing = 0, 0
    while missing < 2 or number <= location.number:
        facts = look(location.rotated(number)) if number else look_live(location)
        missing = missing + 1 if facts is None else 0
        if facts is not None:
            found[facts.identity] = (facts.location, facts)
        number += 1
    return sorted(found.values(), key=lambda pair: pair[0].number)


class Found(NamedTuple):
    """One name that a scan came upon; `facts` is None when it is no readable regular file, for `reason`."""

    location: Location
    facts: Facts | None
    reason: str


def scan(root: str) -> Iterator[Found]:
    """Every file under the root whose name is a log's, depth first; links aren't followed.

    A folder that can't be read is told of like a file that can't; a file in a folder that can't be entered is passed
    over, and a root that is missing has no files.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    location = _named(root, entry.path)
                    with suppress(OSError):
                        if location is not None:
                            yield _found(location, entry)
                        elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Found(Location(root, os.path.relpath(folder, root), 0), None, f"can't be read: {error.strerror}")


def _found(location: Location, entry: os.DirEntry[str]) -> Found:
    if not _is_text(location.key):
        return Found(location, None, "has a name that is not UTF-8")
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        return Found(location, facts_of(location, status), "")
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return Found(location, None, f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a regular file")


class Source:
    """One log file, open and under a shared lock, which writers' exclusive lock waits for.

    Raises SourceBusyError when the lock isn't had within `wait` seconds, SourceChangedError when the path names
    another file by then than it did at the look that gave `seen`, SourceError when it can't be read as a log.
    """

    def __init__(self, seen: Facts, wait: float) -> None:
        self.location = seen.location
        self._start, self._window = 0, b""
        self._descriptor = _open(self.location)
        try:
            lock(self._descriptor, self.location.path, _SHARED, wait, _BUSY_HINT)
            self.facts = facts_of(self.location, _status(self._descriptor, self.location.path))
            named = look(self.location)
            if named is None or not named.identity == self.facts.identity == seen.identity:
                raise SourceChangedError(f"{self.location.path} was replaced while it was opened")
        except BaseException:
            os.close(self._descriptor)
            raise
        self._unpacked = Unpacked.of(self._descriptor, self.location.path) if self.location.packed else None
        if self._unpacked is not None:
            self.facts = self.facts._replace(size=self._unpacked.size)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unpacked is not None:
            self._unpacked.park()
        else:
            os.close(self._descriptor)  # which releases the lock: nobody else has this descriptor

    def read(self, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset`, which lie within the file as it was when it was opened.

        Raises SourceChangedError when it has become shorter, as a writer who takes no lock may make it.
        """
        start = offset - self._start
        if start >= 0 and start + length <= len(self._window):
            return self._window[start : start + length]
        if self._unpacked is not None:
            return self._unpacked.read(offset, length)
        return read_exactly(self._descriptor, self.location.path, offset, length)

    def prefetch(self, offset: int, length: int) -> None:
        """Read at most `length` bytes from `offset` at once: later reads of them give what stood there together."""
        self._window = self.read(offset, max(0, min(length, self.facts.size - offset)))
        self._start = offset


def _open(location: Location) -> int:
    try:
        return open_beneath(location.root, location.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceChangedError(f"{location.path} is gone") from error
    except OSError as error:
        reason = "a symbolic link leads there" if error.errno == errno.ELOOP else error.strerror
        hint = "Give the daemon's user the right to read it; links are not followed."
        raise SourceError(f"{location.path}: {reason}", hint=hint) from error


def _status(descriptor: int, path: str) -> os.stat_result:
    try:
        return os.fstat(descriptor)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error


def read_exactly(descriptor: int, path: str, offset: int, length: int) -> bytes:
    """The `length` bytes of a file from `offset`. Raises SourceChangedError where there are fewer, SourceError."""
    try:
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                raise SourceChangedError(f"{path} was truncated while it was read")
            data += more
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    return data


def lock(
    descriptor: int,
    path: str,
    flags: portalocker.LockFlags,
    wait: float,
    hint: str,
    poll: float = _LOCK_POLL_SECONDS,
) -> None:
    """Have a file's lock within `wait` seconds; it is tried each `poll` seconds.

    Raises SourceBusyError, with the hint, where somebody else keeps it, SourceError where it can't be locked.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            portalocker.lock(descriptor, flags)
        except portalocker.AlreadyLocked as error:
            if time.monotonic() >= deadline:
                raise SourceBusyError(f"{path} is locked by another process", hint=hint) from error
            time.sleep(poll)
        except portalocker.LockException as error:
            raise SourceError(f"{path} can't be locked: {error}", hint="Its file system must have locks.") from error
        else:
            return
