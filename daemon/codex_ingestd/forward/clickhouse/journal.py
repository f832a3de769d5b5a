"""What was about to be sent, in a file beside the database, whose lock lets one forwarder send there at a time.

An engine without transactions can't tell whether a batch of which no answer came is there, will be, or not: it goes
again, in the same bounds and by the same token. The note is for the end of a process. It isn't synced: whatever takes
the machine's power lasts longer than a batch that was on its way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

import portalocker

from codex_ingestd.forward.errors import SinkError
from codex_ingestd.forward.sink import Batch, Watermark

_EXCLUSIVE = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING

Bounds = tuple[tuple[Watermark, Watermark], ...]


class Note(NamedTuple):
    """A batch: its number, greater than any before, and of each part the watermarks that it lies between."""

    number: int
    bounds: Bounds

    def token(self, host: UUID) -> str:
        """A name that no other rows of any host have."""
        rows = [(before.generation, before.event, after.event) for before, after in self.bounds]
        made_of = json.dumps([host.hex, self.number, rows])
        return blake2b(made_of.encode(), digest_size=16, person=b"codex-batch").hexdigest()

    def is_of(self, bounds: Bounds) -> bool:
        """Whether a batch of these bounds has the same rows."""
        return _rows(self.bounds) == _rows(bounds)


def bounds_of(batch: Batch) -> Bounds:
    """Between which watermarks the parts of a batch lie."""
    return tuple((part.before, part.after) for part in batch.parts)


class Journal:
    """The note of one database, host and sink. Raises SinkError."""

    def __init__(self, database: str, host: UUID, sink: str) -> None:
        name = blake2b(f"{host} {sink}".encode(), digest_size=8).hexdigest()
        self._path = f"{database}.forward-{name}"
        self._descriptor: int | None = None
        self._note: Note | None = None

    @property
    def note(self) -> Note | None:
        """The last batch that was about to be sent; None where there was none, or nobody can read what it was."""
        if self._descriptor is None:
            self._note = _parsed(self._take())
        return self._note

    def write(self, note: Note) -> None:
        """Put a note in the place of the former one."""
        text = json.dumps([note.number, [[_plain(mark) for mark in pair] for pair in note.bounds]]).encode()
        descriptor = self._take()
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}", hint="Forwarding notes there what it sends.") from error
        self._note = note

    def close(self) -> None:
        """Let somebody else send."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> int:
        if self._descriptor is None:
            descriptor = -1
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                portalocker.lock(descriptor, _EXCLUSIVE)
            except (OSError, portalocker.LockException) as error:
                with suppress(OSError):
                    os.close(descriptor)
                if isinstance(error, portalocker.AlreadyLocked):
                    raise SinkError(f"another forwarder of this database sends; it holds {self._path}") from error
                raise SinkError(f"{self._path} can't be locked: {error}") from error
            self._descriptor = descriptor
        return self._descriptor


def _rows(bounds: Iterable[tuple[Watermark, Watermark]]) -> list[tuple[int, ...]]:
    return [(*before[:4], after.event, after.reject) for before, after in bounds]  # type: ignore[misc]


def _plain(mark: Watermark) -> list[object]:
    return list(mark._replace(chain=mark.chain.hex()))  # type: ignore[arg-type]


def _parsed(descriptor: int) -> Note | None:
    """The note in the file; a half one was never sent."""
    try:
        number, pairs = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        marks = [[Watermark(*mark)._replace(chain=bytes.fromhex(mark[5])) for mark in pair] for pair in pairs]
        return Note(number, tuple((before, after) for before, after in marks))
    except (OSError, ValueError, TypeError, IndexError):
        return None
