"""Is the record whole, and is it what the sources say? Read-only, beside a running daemon, in short steps.

The chain and the accounting prove that the rows hold together; the sources, where they are still there, that the
record is what was written; a decoding anew (`deep`) that each row says what its bytes say.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from codex.logging.config import BATCH_BYTES, LINE_LIMIT
from codex.logging.errors import DatabaseError
from codex.logging.events import Batch, Cursor, Event, Generation, Reject
from codex.logging.ingest.formats import native
from codex.logging.ingest.lines import decode, decode_oversize, decode_tail
from codex.logging.ingest.reader import Bytes, Limits, next_chunk
from codex.logging.ingest.sources import Location, survey
from codex.logging.store.record import Record, Segment
from codex.logging.store.segments import Chain
from codex.logging.store.sqlite import event_row, read_streams, reject_row

_LIMITS = Limits(BATCH_BYTES, LINE_LIMIT)
_PAGE = 5000
_BOM = b"\xef\xbb\xbf"
_EVENT_ROWS = """
SELECT id, ts, role, kind, message, meta, "offset", length FROM events WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"""
_REJECT_ROWS = """
SELECT id, session_id, seq, length, reason, detail FROM ingest_rejects WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"""
_COVERED = """
SELECT (SELECT coalesce(sum(length), 0) FROM events WHERE id BETWEEN ?1 AND ?2)
     + (SELECT coalesce(sum(length), 0) FROM ingest_rejects WHERE id BETWEEN ?1 AND ?2)"""
_SPANS = """
SELECT "offset", length FROM events WHERE id BETWEEN ?1 AND ?2
UNION ALL SELECT "offset", length FROM ingest_rejects WHERE id BETWEEN ?1 AND ?2 ORDER BY 1, 2"""
_TOMBSTONES = "SELECT generation, length, chain FROM tombstones"


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
    """A generation to check; `path` is its source file, None where that is gone."""

    session_id: str
    generation: Generation
    path: str | None
    tombstone: Tombstone | None

    @property
    def length(self) -> int:
        """Recorded bytes."""
        return self.generation.cursor.offset

    def finding(self, kind: str, offset: int, end: int, detail: str) -> Finding:
        """A finding of this generation."""
        return Finding(self.session_id, self.generation.id, kind, offset, end, detail)


def targets(connection: apsw.Connection, session_ids: Sequence[str] = ()) -> list[Target]:
    """Every generation of the sessions (all sessions, when none is named), oldest first."""
    tombstones = {row[0]: Tombstone(*row[1:]) for row in connection.execute(_TOMBSTONES)}
    found = []
    for stream in read_streams(connection):
        if session_ids and stream.session_id not in session_ids:
            continue
        files = {facts.identity: place.path for place, facts in survey(Location(stream.root, stream.key, 0))}
        for generation in stream.generations:
            home = stream.at(generation.identity) is generation and generation.how != "truncated"
            path = files.get(generation.identity) if home else None
            found.append(Target(stream.session_id, generation, path, tombstones.get(generation.id)))
    return found


def check(
    connection: apsw.Connection, target: Target, *, deep: bool = False, chains: dict[int, bytes | None] | None = None
) -> Iterator[int | Finding]:
    """Check one generation: bytes done and findings as they come, a step at most about a MiB.

    The keys of `chains` are lengths at which the chain is wanted; their values are filled in.
    """
    if target.tombstone is not None:
        yield from _check_tombstone(target)
        return
    record = Record(connection, target.generation.id)
    line_feeds = yield from _check_bytes(record, target, chains or {})
    if line_feeds is not None:
        yield from _check_accounting(connection, record, target, line_feeds)
        if deep:
            yield from _check_rows(connection, record, target)


def _check_tombstone(target: Target) -> Iterator[Finding]:
    assert target.tombstone is not None
    if target.tombstone != (target.length, target.generation.chain):
        yield target.finding("tombstone", 0, target.length, "the tombstone isn't the ledger's length and chain")


def _check_bytes(
    record: Record, target: Target, chains: dict[int, bytes | None]
) -> Generator[int | Finding, None, int | None]:
    """The segments, their chain, and the source beside them; the count of line feeds, None behind a hole."""
    line_feeds, offset, whole, chained, alike = 0, 0, True, True, True
    chain = Chain()
    with _Source(target.path) as source:
        while offset < target.length:
            segment = record.segment(offset)
            if segment is None or segment.data is None:
                end = segment.end if segment else record.next_start(offset) or target.length
                detail = "the segment is damaged" if segment else "the segment is missing"
                yield target.finding("segment", offset, min(end, target.length), detail)
                whole, offset = False, end
                continue
            piece = segment.data[offset - segment.start : target.length - segment.start]
            line_feeds += piece.count(b"\n")
            if alike and (difference := source.difference(piece, offset)) is not None:
                alike = False
                yield target.finding("source", offset + difference, offset + len(piece), source.fault)
            if whole and chained:
                chained = _chain_on(chain, piece, segment, target, chains)
                if not chained:
                    yield target.finding("segment", segment.start, segment.end, "the bytes don't fit the chain")
            offset += len(piece)
            yield len(piece)
    if whole and chained and chain.digest() != target.generation.chain:
        yield target.finding("chain", target.length, target.length, "the ledger's chain isn't the segments'")
    return line_feeds if whole else None


def _chain_on(chain: Chain, piece: bytes, segment: Segment, target: Target, chains: dict[int, bytes | None]) -> bool:
    start = chain.offset
    for length in sorted(length for length in chains if start < length <= start + len(piece)):
        chain.update(piece[chain.offset - start : length - start])
        chains[length] = chain.digest()
    chain.update(piece[chain.offset - start :])
    return chain.offset != segment.end or chain.digest() == segment.chain


class _Source:
    """The source file beside the record, if there is one; read without its lock: those bytes don't change."""

    def __init__(self, path: str | None) -> None:
        self._descriptor = -1 if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.fault = ""

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def difference(self, piece: bytes, offset: int) -> int | None:
        """Where in `piece` the source first differs; None where it doesn't, or there is none."""
        if self._descriptor < 0:
            return None
        other = os.pread(self._descriptor, len(piece), offset)
        if other == piece:
            return None
        if len(other) < len(piece) and piece.startswith(other):
            self.fault = f"the source ends at {offset + len(other)}, before what was ingested"
            return len(other)
        self.fault = "the source was changed after it was ingested"
        return next(place for place, pair in enumerate(zip(piece, other, strict=False)) if pair[0] != pair[1])


def _check_accounting(
    connection: apsw.Connection, record: Record, target: Target, line_feeds: int
) -> Iterator[Finding]:
    """Every byte is in one event, one reject, the open skip, or between them as white space."""
    low, cursor = target.generation.id << 40, target.generation.cursor
    skipping = cursor.offset - cursor.skip_from if cursor.skip_from >= 0 else 0
    covered = connection.execute(_COVERED, (low, low | 0xFFFFFFFFFF)).fetchone()
    assert covered is not None
    if covered[0] + skipping + line_feeds == target.length:
        return  # between the spans stand line feeds alone: objects and rejects hold none
    end = 0
    limit = target.length - skipping
    spans: Iterable[Any] = connection.execute(_SPANS, (low, low | 0xFFFFFFFFFF)).fetchall()
    for start, length in [*spans, (limit, 0)]:
        if start < end:
            yield target.finding("accounting", start, end, "two rows claim these bytes")
        elif not _is_blank(record.read(end, start - end), end):
            yield target.finding("accounting", end, start, "bytes that are no event, no reject and no white space")
        end = max(end, start + length)


def _is_blank(gap: bytes, offset: int) -> bool:
    return not gap.removeprefix(_BOM if offset == 0 else b"").strip(b" \t\r\n")


def _check_rows(connection: apsw.Connection, record: Record, target: Target) -> Iterator[int | Finding]:
    """Decode the recorded bytes again: each row must be what its bytes say, and none may be more or fewer."""
    key = target.generation.id << 40
    events = _Rows(connection, _EVENT_ROWS, target)
    rejects = _Rows(connection, _REJECT_ROWS, target)
    start = Cursor(seq=target.generation.base_seq)
    for batch in batches(record, target.generation, dict(record.breaks()), start):
        yield from events.compare((event_row(key, event), event) for event in batch.events)
        made = ((reject_row(key, target.session_id, reject), reject) for reject in batch.rejects)
        yield from rejects.compare(made)
        yield 0
    yield from events.end()
    yield from rejects.end()


def batches(source: Bytes, generation: Generation, breaks: Mapping[int, int], start: Cursor) -> Iterator[Batch]:
    """The batches that a generation's bytes give when they are decoded anew, from a cursor on.

    `breaks` (see Record.breaks) are the places where the numbering jumps. Raises DatabaseError where the bytes don't
    end as they did.
    """
    cursor, length = start, generation.cursor.offset
    while cursor.offset < length:
        if cursor.offset in breaks:
            cursor = cursor._replace(seq=breaks[cursor.offset] - 1)
        size = min((place for place in breaks if place > cursor.offset), default=length)
        chunk = next_chunk(source, size, cursor, _LIMITS, tail=True)
        batch: Batch | None
        if chunk.data:
            batch = decode_oversize(chunk.data, cursor) if chunk.oversize else decode(chunk.data, cursor, native.decode)
        else:
            batch = decode_tail(chunk.tail, cursor, native.decode)
        if batch is None:
            raise DatabaseError(f"generation {generation.id} can't be decoded from offset {cursor.offset}")
        yield batch
        cursor = batch.after


class _Rows:
    """A generation's rows of one table, in the order of their ids, beside what they should be."""

    def __init__(self, connection: apsw.Connection, query: str, target: Target) -> None:
        self._rows = _paged(connection, query, target.generation.id << 40)
        self._target = target
        self._next = next(self._rows, None)

    def compare(self, made: Iterable[tuple[tuple[object, ...], Event | Reject]]) -> Iterator[Finding]:
        for expected, source in made:
            where = (source.offset, source.offset + source.length)
            while self._next is not None and self._next[0] < expected[0]:  # type: ignore[operator]
                yield self._surplus()
            if self._next is None or self._next[0] != expected[0]:
                yield self._target.finding("row", *where, f"the row of line {source.seq} is missing")
            else:
                if self._next != expected:
                    yield self._target.finding("row", *where, f"the row of line {source.seq} isn't what its bytes say")
                self._next = next(self._rows, None)

    def end(self) -> Iterator[Finding]:
        while self._next is not None:
            yield self._surplus()

    def _surplus(self) -> Finding:
        assert self._next is not None
        number, self._next = self._next[0], next(self._rows, None)
        return self._target.finding("row", 0, 0, f"row {number} has no bytes behind it")


def _paged(connection: apsw.Connection, query: str, low: int) -> Iterator[tuple[object, ...]]:
    """The rows page by page: an open cursor would hold up the daemon's checkpoints."""
    first = low
    while True:
        page: list[Any] = connection.execute(query, (first, low | 0xFFFFFFFFFF, _PAGE)).fetchall()
        yield from page
        if len(page) < _PAGE:
            return
        first = page[-1][0] + 1
