"""A generation's recorded bytes, decoded once more: what its rows must be, and whether they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apsw

from codex.logging.config import BATCH_BYTES, LINE_LIMIT
from codex.logging.errors import DatabaseError
from codex.logging.events import Batch, Cursor, Event, Generation, Reject, Summary
from codex.logging.ingest.batches import decode_chunk
from codex.logging.ingest.formats import Format, named
from codex.logging.ingest.reader import Bytes, Chunk, Limits, next_chunk
from codex.logging.ingest.summary import fold
from codex.logging.store.record import Record
from codex.logging.store.rows import event_row, reject_row
from codex.logging.store.spans import Span
from codex.logging.targets import Finding, Target

LIMITS = Limits(BATCH_BYTES, LINE_LIMIT)
_PAGE = 500
_EVENT_ROWS = """
SELECT id, ts, role, kind, message, meta, tool, model, call_id, parent, inherited, "offset", length FROM events
WHERE id BETWEEN ?1 AND ?2 AND "offset" < ?3 ORDER BY id LIMIT ?4"""
_REJECT_ROWS = """
SELECT id, session_id, seq, length, reason FROM ingest_rejects
WHERE id BETWEEN ?1 AND ?2 AND "offset" < ?3 ORDER BY id LIMIT ?4"""


def batches(
    source: Bytes,
    form: Format,
    generation: Generation,
    breaks: Mapping[int, int],
    start: tuple[Cursor, Summary],
    limits: Limits = LIMITS,
    spans_in: Callable[[int, int], Sequence[Span]] = lambda start, end: (),
) -> Iterator[Batch]:
    """The batches that a generation's bytes give when they are decoded anew, from a cursor and its summary on.

    `spans_in` gives the spans that have a byte between two offsets: the source must have filler there. `breaks` (see
    Record.breaks) are the places where the numbering jumps. Raises DatabaseError where the bytes don't end as they did.
    """
    (cursor, summary), end = start, generation.cursor
    while cursor.offset < end.offset:
        if cursor.offset in breaks:
            cursor = cursor._replace(seq=breaks[cursor.offset] - 1)
        ahead = (place for place in (*breaks, end.skip_from) if place > cursor.offset)
        chunk = _chunk(source, min(ahead, default=end.offset), cursor, end, limits)
        batch = decode_chunk(chunk, cursor, form, spans_in(cursor.offset, cursor.offset + len(chunk.content)))
        if batch is None:
            raise DatabaseError(
                f"generation {generation.id} can't be decoded from offset {cursor.offset}",
                hint="Its recorded length isn't where a line, or a whole object, ends: the ledger was changed.",
            )
        batch = fold(form, summary, batch)
        yield batch
        cursor, summary = batch.after, batch.summary


def _chunk(source: Bytes, size: int, cursor: Cursor, end: Cursor, limits: Limits) -> Chunk:
    if end.skip_reason == "oversize" and cursor.offset == end.skip_from:  # the limit lies behind what was recorded
        return Chunk(source.read(cursor.offset, min(limits.batch, size - cursor.offset)), oversize=True)
    return next_chunk(source, size, cursor, limits, tail=True)


def check_rows(
    connection: apsw.Connection, record: Record, target: Target, limits: Limits = LIMITS
) -> Iterator[int | Finding]:
    """Decode the recorded bytes again: each row must be what its bytes say, and none may be more or fewer."""
    low = target.generation.id << 40
    events = _Rows(connection, _EVENT_ROWS, target, lambda row: (row[-2], row[-1]))
    rejects = _Rows(connection, _REJECT_ROWS, target, lambda row: (row[0] - low, row[3]))
    start = Cursor(seq=target.generation.base_seq), Summary()
    breaks = dict(record.breaks())
    for batch in batches(record, named(target.format), target.generation, breaks, start, limits, record.spans_in):
        yield from events.compare((_as_read(event_row(low, event)), event) for event in batch.events)
        # without the detail: those are the parser's words, and another version of it may choose others
        made = ((reject_row(low, target.session_id, reject)[:-1], reject) for reject in batch.rejects)
        yield from rejects.compare(made)
        yield 0
    yield from events.end()
    yield from rejects.end()


def _as_read(row: tuple[object, ...]) -> tuple[object, ...]:
    """The row as SQLite gives it: a long text, which a format may give as UTF-8, is a str there."""
    return tuple(value.decode() if isinstance(value, bytes) else value for value in row)


class _Rows:
    """A generation's rows of one table, in the order of their ids, beside what they should be."""

    def __init__(
        self,
        connection: apsw.Connection,
        query: str,
        target: Target,
        span: Callable[[tuple[Any, ...]], tuple[int, int]],
    ) -> None:
        self._rows = _paged(connection, query, target)
        self._target = target
        self._span = span
        self._next = next(self._rows, None)

    def compare(self, made: Iterable[tuple[tuple[Any, ...], Event | Reject]]) -> Iterator[Finding]:
        """Compare the next rows with those that were made of the bytes."""
        for expected, source in made:
            where = (source.offset, source.offset + source.length)
            while self._next is not None and self._next[0] < expected[0]:
                yield self._surplus()
            if self._next is None or self._next[0] != expected[0]:
                yield self._target.finding("row", *where, f"the row of line {source.seq} is missing")
                continue
            if self._next != expected:
                yield self._target.finding("row", *where, f"the row of line {source.seq} isn't what its bytes say")
            self._next = next(self._rows, None)

    def end(self) -> Iterator[Finding]:
        """The rows that are left."""
        while self._next is not None:
            yield self._surplus()

    def _surplus(self) -> Finding:
        assert self._next is not None
        row, self._next = self._next, next(self._rows, None)
        offset, length = self._span(row)
        return self._target.finding("row", offset, offset + length, f"row {row[0]} isn't of these bytes")


def _paged(connection: apsw.Connection, query: str, target: Target) -> Iterator[tuple[Any, ...]]:
    """The rows page by page: an open cursor would hold up the daemon's checkpoints."""
    first, last = target.ids
    while True:
        page: list[Any] = connection.execute(query, (first, last, target.closed, _PAGE)).fetchall()
        yield from page
        if len(page) < _PAGE:
            return
        first = page[-1][0] + 1
