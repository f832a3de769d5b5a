"""Is the record whole, and is it what the sources say? Read-only, beside a running daemon, in short steps.

The chain and the accounting prove that the rows hold together; the sources, where they are still there, that the
record is what was written; a decoding anew (`deep`) that each row says what its bytes say.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import apsw

from codex.logging.beside import Beside, check_filler
from codex.logging.errors import DatabaseError
from codex.logging.ingest.formats import native
from codex.logging.ingest.reader import Limits
from codex.logging.replay import LIMITS, check_rows
from codex.logging.store import search_index
from codex.logging.store.connection import scalar
from codex.logging.store.record import Record, Segment
from codex.logging.store.segments import Chain
from codex.logging.targets import Finding, Target, orphans, targets

__all__ = ["Finding", "Target", "check", "orphans", "targets"]

_PAGE = 2000
_PIECE = 1 << 20
_BLANKS = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_TABLES = ("events", "ingest_rejects")
# The parts that another format than the native one makes of one object stand for the same bytes.
_COVERED = {
    table: f"""
SELECT count(*), max(id), sum(iif("offset" < ?3 AND NOT again, length, 0)), sum("offset" >= ?3) FROM (
    SELECT id, "offset", length, ?5 AND EXISTS (
        SELECT 1 FROM {table} AS former
        WHERE former.id = e.id - 1 AND former."offset" = e."offset" AND former.length = e.length) AS again
    FROM {table} AS e WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?4)"""  # noqa: S608
    for table in _TABLES
}
_SPANS = {
    table: f"""
SELECT CAST("offset" AS INTEGER), CAST(length AS INTEGER), id FROM {table}
WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3"""  # noqa: S608
    for table in _TABLES
}
_LEFT = """
SELECT (SELECT count(*) FROM events WHERE id BETWEEN ?1 AND ?2)
     + (SELECT count(*) FROM ingest_rejects WHERE id BETWEEN ?1 AND ?2)
     + (SELECT count(*) FROM segments WHERE id BETWEEN ?1 AND ?2)"""


def check(
    connection: apsw.Connection,
    target: Target,
    *,
    deep: bool = False,
    chains: dict[int, bytes | None] | None = None,
    limits: Limits = LIMITS,
) -> Iterator[int | Finding]:
    """Check one generation: bytes done and findings as they come, a step at most about a MiB, or one longer line.

    The keys of `chains` are lengths at which the chain is wanted; their values are filled in.
    """
    try:
        if deep:
            yield from _check_index(connection, target)
        if target.tombstone is not None:
            yield from _check_tombstone(connection, target)
            return
        record = Record(connection, target.generation.id)
        walk = _Walk(record, target, {} if chains is None else chains)
        yield from walk.steps()
        if not walk.whole:
            return
        yield from _check_ledger(connection, record, target, walk)
        yield from _check_accounting(connection, record, target, walk.line_feeds)
        if deep:
            yield from check_rows(connection, record, target, limits)
    except (apsw.CorruptError, DatabaseError, UnicodeDecodeError) as error:
        yield target.finding("database", 0, target.length, str(error))


def has_sound_bytes(connection: apsw.Connection, target: Target) -> bool:
    """Whether the segments give the bytes that the ledger's chain is of."""
    walk = _Walk(Record(connection, target.generation.id), target._replace(at_home=False), {})
    try:
        whole = all(isinstance(step, int) for step in walk.steps())
    except apsw.CorruptError:
        return False
    return whole and walk.chain.digest() == target.generation.chain


def _check_index(connection: apsw.Connection, target: Target) -> Iterator[int | Finding]:
    """The search index is no part of the record: whatever is wrong with it, the rows are checked as well."""
    try:
        for wrong in search_index.differences(connection, target.generation.id):
            yield 0 if wrong is None else target.finding("index", 0, target.length, wrong)
    except apsw.CorruptError as error:
        yield target.finding("index", 0, target.length, f"the search index is damaged: {error}")


def _check_tombstone(connection: apsw.Connection, target: Target) -> Iterator[Finding]:
    if target.tombstone != (target.length, target.generation.chain):
        yield target.finding("tombstone", 0, target.length, "the tombstone isn't the ledger's length and chain")
    if left := scalar(connection, _LEFT, target.ids):
        yield target.finding("tombstone", 0, target.length, f"{left} rows are left of what was purged")


class _Walk:
    """One pass over a generation's bytes: the segments, their chain, and the source beside them."""

    def __init__(self, record: Record, target: Target, chains: dict[int, bytes | None]) -> None:
        self.whole = True
        self.line_feeds = 0
        self.chain = Chain()
        self.chained = True
        self._record = record
        self._target = target
        self._chains = chains

    def steps(self) -> Iterator[int | Finding]:
        """Bytes done, and what is wrong with them."""
        offset = 0
        source = Beside(self._record, self._target)
        try:
            while offset < self._target.length:
                segment = self._record.segment(offset)
                if segment is None or segment.data is None:
                    found = self._hole(offset, segment)
                    yield found
                    offset = found.end
                    continue
                piece = segment.data[offset - segment.start : self._target.length - segment.start]
                yield from check_filler(self._record, self._target, offset, offset + len(piece))
                yield from source.compare(piece, offset)
                yield from self._take(piece, segment)
                offset += len(piece)
                yield len(piece)
        finally:
            source.close()

    def _hole(self, offset: int, segment: Segment | None) -> Finding:
        self.whole = self.chained = False
        following = segment.following if segment is not None else self._record.next_start(offset)
        end = self._target.length if following is None else min(following, self._target.length)
        detail = "the segment is missing" if segment is None else "the segment is damaged"
        return self._target.finding("segment", offset, end, detail)

    def _take(self, piece: bytes, segment: Segment) -> Iterator[Finding]:
        self.line_feeds += piece.count(b"\n")
        if segment.following is not None and segment.following < segment.end:
            detail = "another segment lies within this one"
            yield self._target.finding("segment", segment.following, segment.end, detail)
        if self.chained:
            self._chain_on(piece)
            if self.chain.offset == segment.end and self.chain.digest() != segment.chain:
                self.chained = False
                detail = "the bytes don't fit the chain"
                yield self._target.finding("segment", segment.start, segment.end, detail)

    def _chain_on(self, piece: bytes) -> None:
        chain, start = self.chain, self.chain.offset
        for length in sorted(length for length in self._chains if start < length <= start + len(piece)):
            chain.update(piece[chain.offset - start : length - start])
            self._chains[length] = chain.digest()
        chain.update(piece[chain.offset - start :])


def _check_ledger(connection: apsw.Connection, record: Record, target: Target, walk: _Walk) -> Iterator[Finding]:
    """What the ledger says of a generation must be what its bytes give."""
    generation, length = target.generation, target.length
    if walk.chained and (walk.chain.digest(), walk.chain.block) != (generation.chain, generation.block):
        yield target.finding("chain", length, length, "the ledger's chain isn't the segments'")
    if generation.cursor.lines != walk.line_feeds + bool(generation.cursor.line_seq):
        detail = f"the ledger has {generation.cursor.lines} lines, the bytes {walk.line_feeds} line ends"
        yield target.finding("chain", 0, length, detail)
    behind = record.next_start(length - 1)
    if behind is not None and not target.has_moved_on(connection):
        yield target.finding("segment", behind, behind, "a segment behind all that was ingested")


def _check_accounting(
    connection: apsw.Connection, record: Record, target: Target, line_feeds: int
) -> Iterator[int | Finding]:
    """Every byte is in one event, one reject, the open skip, or between them as white space."""
    covered, behind = target.length - target.closed, 0
    for query in _COVERED.values():
        (first, last), count = target.ids, _PAGE
        while count == _PAGE:
            values = (first, last, target.closed, _PAGE, _has_parts(target))
            page: Any = connection.execute(query, values).fetchone()
            count, covered, behind = page[0], covered + (page[2] or 0), behind + (page[3] or 0)
            first = (page[1] or 0) + 1
            yield 0
    if behind and target.has_moved_on(connection):
        behind = 0  # rows that were committed meanwhile
    if behind or covered + line_feeds != target.length:  # between the spans stand line feeds: spans hold none
        yield from _check_spans(connection, record, target, allowed_behind=not behind)


def _check_spans(
    connection: apsw.Connection, record: Record, target: Target, *, allowed_behind: bool
) -> Iterator[int | Finding]:
    end = 0
    spans = [_spans(connection, query, target) for query in _SPANS.values()]
    for start, length in heapq.merge(*spans, [(target.closed, 0)]):
        if start >= target.closed and length:
            if not allowed_behind:
                yield target.finding("accounting", start, start + length, "a row of bytes that were never ingested")
            continue
        if start < end:
            yield target.finding("accounting", start, min(end, start + length), "two rows claim these bytes")
        elif (lost := _content(record, end, start)) is not None:
            yield target.finding("accounting", *lost, "bytes that are no event, no reject and no white space")
        end = max(end, start + length)
        yield 0


def _spans(connection: apsw.Connection, query: str, target: Target) -> Iterator[tuple[int, int]]:
    first, last = target.ids
    full, former, parted = True, None, _has_parts(target)
    while full:
        page: list[Any] = connection.execute(query, (first, last, _PAGE)).fetchall()
        full = len(page) == _PAGE
        for offset, length, number in page:
            if not parted or former != (offset, length, number - 1):
                yield offset, length
            former = (offset, length, number)
            first = number + 1


def _has_parts(target: Target) -> bool:
    return target.format != native.name


def _content(record: Record, start: int, end: int) -> tuple[int, int] | None:
    """From the first to behind the last byte in [start, end) that is no white space; None where all are."""
    places = []
    for place in range(start, end, _PIECE):
        gap = record.read(place, min(_PIECE, end - place))
        if (bare := gap.strip(_BLANKS)) and bare != (_BOM if place == 0 else b""):
            places += [place + len(gap) - len(gap.lstrip(_BLANKS)), place + len(gap.rstrip(_BLANKS))]
    return (places[0], places[-1]) if places else None
