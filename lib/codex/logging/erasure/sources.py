"""A log file that is overwritten where it says what is to be erased, while its writers wait for its lock.

It stays the same file, as long as it was, so that who has it open for appending goes on with it. One that is compressed
is written anew instead: nobody appends to that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import portalocker

from codex.logging.erasure.repacked import Repacked
from codex.logging.errors import SourceChangedError, SourceError
from codex.logging.ingest.beneath import open_beneath
from codex.logging.ingest.sources import Facts, Location, facts_of, lock, look, read_exactly

_LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.005
_ALONE = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING


class Overwritten:
    """An open log file under its writers' lock. Takes over the descriptor."""

    grows = True
    names = 1  # whatever else names it is the same file still

    def __init__(self, descriptor: int, location: Location) -> None:
        self._descriptor = descriptor
        self._location = location
        self._path = location.path

    @property
    def facts(self) -> Facts:
        """What it is by now: who takes no lock may append."""
        return facts_of(self._location, os.fstat(self._descriptor))

    @property
    def size(self) -> int:
        """Its length by now."""
        return self.facts.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`. Raises SourceChangedError where there are fewer, SourceError."""
        return read_exactly(self._descriptor, self._path, offset, length)

    def prepare(self) -> None:
        """Raise SourceError where it can't be overwritten: whoever opened it for that has found out."""

    def overwrite(self, offset: int, data: bytes) -> None:
        """Put other bytes there. Raises SourceError."""
        try:
            while data:
                done = os.pwrite(self._descriptor, data, offset)
                offset, data = offset + done, data[done:]
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror}") from error

    def sync(self) -> None:
        """Have it on the disk. Raises SourceError."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close it, which lets go of the lock."""
        os.close(self._descriptor)


@contextmanager
def opened(seen: Facts) -> Iterator[Overwritten | Repacked]:
    """A file as it was seen, to be overwritten; nobody else has its lock meanwhile.

    Raises SourceBusyError where the lock isn't had within 10 s, SourceChangedError where the path names another file by
    then, SourceError where it can't be written, or is compressed and not whole.
    """
    path = seen.location.path
    try:
        descriptor = open_beneath(seen.location.root, seen.location.name, os.O_RDWR)
    except FileNotFoundError as error:
        raise SourceChangedError(f"{path} is gone") from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", hint="Give this user the right to write it.") from error
    with ExitStack() as open_still:
        open_still.callback(os.close, descriptor)
        lock(descriptor, path, _ALONE, _LOCK_SECONDS, "Erase again later.", _POLL_SECONDS)
        here, named = facts_of(seen.location, os.fstat(descriptor)), look(seen.location)
        if named is None or not named.identity == here.identity == seen.identity:
            raise SourceChangedError(f"{path} was replaced while it was opened")
        open_still.pop_all()
        with closing((Repacked if seen.location.packed else Overwritten)(descriptor, seen.location)) as file:
            yield file
