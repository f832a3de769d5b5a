"""What there is to check: each life of each log's file, where its source is, and what a check found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import apsw

from codex.logging.errors import SourceError
from codex.logging.events import Cursor, Generation, Stream
from codex.logging.ingest.batches import decode_chunk
from codex.logging.ingest.beneath import open_beneath
from codex.logging.ingest.formats import Format, named
from codex.logging.ingest.packed import Unpacked
from codex.logging.ingest.reader import Limits, next_chunk
from codex.logging.ingest.sources import Facts, Location, facts_of, survey
from codex.logging.store.connection import has_relation, scalar
from codex.logging.store.spans import Span, masked
from codex.logging.store.streams import read_stream_of, read_streams

_TOMBSTONE = "SELECT length, chain FROM tombstones WHERE generation = ?"
_TOMBSTONES = "SELECT generation, length, chain FROM tombstones"
_STATE = 'SELECT "offset", how, superseded_by FROM generations WHERE id = ?'
_NEXT_GENERATION = "SELECT min(id) FROM generations WHERE id > ?"
_NEXT_OF = {
    "events": "SELECT min(id) >> 40 FROM events WHERE id > ?",
    "ingest_rejects": "SELECT min(id) >> 40 FROM ingest_rejects WHERE id > ?",
    "segments": "SELECT min(id) >> 40 FROM segments WHERE id > ?",
}
_REDACTED = """
SELECT coalesce((SELECT secrets FROM redactions WHERE generation = ?1), 0),
       (SELECT count(*) FROM redacted_spans WHERE generation = ?1)"""
_TRIES = 3  # it may be renamed between the look and the opening
_FIRST_BYTES = 1 << 20
_AT_HOME = frozenset({None, "rotated", "moved"})


class Finding(NamedTuple):
    """What is wrong, and where: bytes [offset, end) of a generation."""

    session_id: str
    generation: int
    kind: str
    offset: int
    end: int
    detail: str


class Tombstone(NamedTuple):
    """What is left of a purged generation: its length in bytes and its chain there."""

    length: int
    chain: bytes


class Target(NamedTuple):
    """A generation to check, as the ledger has it now; `live` is where its stream's live file is.

    `redacted` is how many secrets were taken out of it.
    """

    session_id: str
    generation: Generation
    live: Location
    format: str
    at_home: bool
    tombstone: Tombstone | None = None
    redacted: int = 0

    @property
    def length(self) -> int:
        """Recorded bytes."""
        return self.generation.cursor.offset

    @property
    def closed(self) -> int:
        """Bytes that rows account for: all that are recorded, but for those of an open skip."""
        cursor = self.generation.cursor
        return cursor.skip_from if cursor.skip_from >= 0 else cursor.offset

    @property
    def ids(self) -> tuple[int, int]:
        """The first and the last id that a row of this generation can have."""
        low = self.generation.id << 40
        return low, low | 0xFFFFFFFFFF

    def source(self) -> Facts | None:
        """The generation's file by now; None where it is gone. Raises SourceError."""
        files = survey(self.live) if self.at_home else ()
        return next((facts for _, facts in files if facts.identity == self.generation.identity), None)

    def has_moved_on(self, connection: apsw.Connection) -> bool:
        """Whether the ledger has changed since: more was committed, or the file begins another life."""
        generation = self.generation
        row = connection.execute(_STATE, (generation.id,)).fetchone()
        return row != (self.length, generation.how, generation.superseded_by)

    def finding(self, kind: str, offset: int, end: int, detail: str) -> Finding:
        """A finding of this generation."""
        return Finding(self.session_id, self.generation.id, kind, offset, end, detail)


class SourceFile(AbstractContextManager["SourceFile"]):
    """A generation's source, if it is still there; read without its lock, since what was ingested doesn't change.

    A file that was cut, and has got less than a line since, is as good as gone: nothing in it can be ingested yet.
    Raises SourceError where it can't be read.
    """

    def __init__(self, target: Target) -> None:
        self._descriptor = -1
        self._unpacked: Unpacked | None = None
        for _ in range(_TRIES):
            facts = target.source()
            if facts is None:
                return
            try:
                self._descriptor = open_beneath(facts.location.root, facts.location.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SourceError(f"{facts.location.path}: {error.strerror}") from error
            status = os.fstat(self._descriptor)
            if facts_of(facts.location, status).identity == target.generation.identity:
                self._unpacked = Unpacked(self._descriptor, facts.location.path) if facts.location.packed else None
                break
            self.close()
        if self.is_there and not self._is_ingestible(named(target.format)):
            self.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_there(self) -> bool:
        """Whether there is a file."""
        return self._descriptor >= 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`, at most `length` of them; fewer only at the end of the file."""
        if self._unpacked is not None:
            return self._unpacked.read(offset, length)
        pieces = []
        try:
            while length and (piece := os.pread(self._descriptor, length, offset)):
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
        except OSError as error:
            raise SourceError(f"the source can't be read at {offset}: {error.strerror}") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _is_ingestible(self, form: Format) -> bool:
        first = self.read(0, _FIRST_BYTES)
        if len(first) == _FIRST_BYTES or b"\n" in first:
            return True
        limits = Limits(_FIRST_BYTES, _FIRST_BYTES)
        return decode_chunk(next_chunk(self, len(first), Cursor(), limits, tail=True), Cursor(), form) is not None

    def close(self) -> None:
        """Close the file."""
        if self.is_there:
            os.close(self._descriptor)
            self._descriptor = -1


class Masked:
    """A file's bytes as they are recorded: with filler in the spans."""

    def __init__(self, file: SourceFile, spans_in: Callable[[int, int], Sequence[Span]]) -> None:
        self._file = file
        self._spans_in = spans_in

    def read(self, offset: int, length: int) -> bytes:
        """As SourceFile.read."""
        data = self._file.read(offset, length)
        spans = self._spans_in(offset, offset + len(data))
        return masked(data, offset, spans, self._file.read) if spans else data


def targets(connection: apsw.Connection, session_ids: Sequence[str] = ()) -> list[Target]:
    """Every generation of the sessions (all sessions, when none is named), stream by stream, oldest first."""
    stones = {number: Tombstone(*rest) for number, *rest in connection.execute(_TOMBSTONES)}
    return [
        _target(connection, stream, generation, stones.get(generation.id))
        for stream in read_streams(connection)
        if not session_ids or stream.session_id in session_ids
        for generation in stream.generations
    ]


def targets_of(connection: apsw.Connection, stream: Stream) -> list[Target]:
    """Every generation of one stream, oldest first."""
    return [_target(connection, stream, one, _stone(connection, one.id)) for one in stream.generations]


def next_target(connection: apsw.Connection, after: int) -> Target | None:
    """The first generation behind this number; None behind the last."""
    number = scalar(connection, _NEXT_GENERATION, (after,))
    stream = read_stream_of(connection, number) if number is not None else None
    if stream is None:
        return None
    generation = next(generation for generation in stream.generations if generation.id == number)
    return _target(connection, stream, generation, _stone(connection, generation.id))


def orphans(connection: apsw.Connection) -> Iterator[Finding]:
    """Rows of generations that the ledger doesn't have."""
    for name, query in _NEXT_OF.items():
        try:
            number = scalar(connection, query, (-(1 << 63),))
            while number is not None:
                if scalar(connection, "SELECT 1 FROM generations WHERE id = ?", (number,)) is None:
                    yield Finding("", number, "ledger", 0, 0, f"there is a row of it in {name}, but not in generations")
                number = scalar(connection, query, (number << 40 | 0xFFFFFFFFFF,))
        except apsw.CorruptError as error:
            yield Finding("", 0, "database", 0, 0, f"{name}: {error}")


def _stone(connection: apsw.Connection, generation: int) -> Tombstone | None:
    row = connection.execute(_TOMBSTONE, (generation,)).fetchone()
    return None if row is None else Tombstone(*row)


def _target(connection: apsw.Connection, stream: Stream, generation: Generation, stone: Tombstone | None) -> Target:
    redacted, spans = 0, 0
    if has_relation(connection, "redacted_spans"):
        row: Any = connection.execute(_REDACTED, (generation.id,)).fetchone()
        redacted, spans = row
    is_of_file = spans or not redacted  # with spans its offsets are its file's still
    at_home = bool(is_of_file) and generation.how in _AT_HOME and stream.at(generation.identity) is generation
    live = Location(stream.root, stream.key, 0)
    return Target(stream.session_id, generation, live, stream.format, at_home, stone, redacted or spans)
