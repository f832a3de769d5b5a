"""The local database as a spool: what comes next for a sink, in order, in short reads. It knows no engine.

What the sink has stands in a table of this connection's own, in memory: some 100 bytes for each generation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from codex.logging.store.connection import open_reader, scalar, translated
from codex.logging.store.record import Record
from codex.logging.store.segments import Chain
from codex_ingestd.forward.errors import DivergedError
from codex_ingestd.forward.secrecy import Secrecy
from codex_ingestd.forward.sink import (
    Batch,
    EventRow,
    GenerationRow,
    Part,
    RejectRow,
    Row,
    SpanRow,
    StreamRow,
    SummaryRow,
    TombstoneRow,
    UsageRow,
    Watermark,
)

BATCH_BYTES = 8 << 20
_ROW_BYTES = 200  # what a row costs besides its text
_PART_EVENTS = 50  # what a generation costs at the sink, in events
_KNOWN_CALLS = 200_000
_EVENT_TEXTS = (EventRow._fields.index("message"), EventRow._fields.index("meta"))
_REJECT_TEXTS = (RejectRow._fields.index("reason"), RejectRow._fields.index("detail"))
_SENT = """
PRAGMA temp_store = memory;
CREATE TEMP TABLE sent (
    generation INTEGER PRIMARY KEY, began REAL NOT NULL, event INTEGER NOT NULL, reject INTEGER NOT NULL,
    "offset" INTEGER NOT NULL, chain BLOB NOT NULL, ledger TEXT NOT NULL)"""
# What was noted of the sink tells how far it is behind, as long as it can't be asked.
_RECALL = """
INSERT INTO temp.sent
SELECT generation, 0, event, reject, "offset", chain, '' FROM main.forward_watermarks WHERE sink = ?"""
_FORGET = "DELETE FROM temp.sent"
_SET = """
INSERT OR REPLACE INTO temp.sent (generation, began, event, reject, "offset", chain, ledger)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_ALL_SENT = 'SELECT generation, began, event, reject, "offset", chain, ledger FROM temp.sent'
_NOTED = """
SELECT w.generation FROM temp.sent AS w JOIN main.forward_watermarks AS k ON k.generation = w.generation
WHERE k.sink = ? AND k."offset" = w."offset" AND k.chain = w.chain AND k.event = w.event"""
# When something was last taken out of a generation, microseconds; rows that were read since are without it.
_SPANS_MARK = """
(SELECT CAST(max(x.redacted_at) * 1e6 AS INTEGER) FROM main.redacted_spans AS x WHERE x.generation = g.id)"""
# Which state of a generation's own rows this is, in one text that differs where any of it does.
_LEDGER = f"""
g."offset" || ' ' || g.seq || ' ' || coalesce(g.how, '') || ' ' || coalesce(g.ended, '') || ' '
|| coalesce(g.superseded_by, '') || ' ' || s.state || ' ' || coalesce(s.error_at, '') || ' '
|| coalesce(s.parent_session_id, '') || ' ' || coalesce(s.forked_from, '') || ' ' || coalesce({_SPANS_MARK}, '')"""
_FROM = """
FROM main.generations AS g
JOIN main.streams AS s ON s.id = g.stream
LEFT JOIN temp.sent AS w ON w.generation = g.id"""
# What grew least comes first, so that live rows never wait for a backlog; but the sink hears of a session's generations
# in their order, since it numbers them so. Where the sink is ahead it is to follow.
_BEHIND = f"""
SELECT g.id, g."offset" - coalesce(w."offset", 0) {_FROM}
WHERE w.ledger IS NOT {_LEDGER} AND (g."offset" >= coalesce(w."offset", 0) OR g.ended IS NOT NULL)
ORDER BY CASE WHEN w.generation IS NULL THEN max(g."offset") OVER (
    PARTITION BY s.session_id, w.generation IS NULL ORDER BY g.id) ELSE g."offset" - w."offset" END, g.id"""
_ANOTHER = f"""
SELECT g.id, s.session_id {_FROM}
WHERE w.began <> g.began
   OR (w."offset" = g."offset" AND w.chain <> g.chain AND g.how IS NOT 'purged'
       AND NOT EXISTS (SELECT 1 FROM main.redacted_spans AS x WHERE x.generation = g.id))
LIMIT 1"""  # noqa: S608
_STATE = f"""
SELECT {_LEDGER}, s.id, s.root, s.path, s.session_id, s.parent_session_id, s.format, s.state, s.error, s.error_at,
       s.forked_from, g.id, g.stream, g.began, g."offset", g.seq, g.lines, g.chain, g.committed_at, g.ended, g.how,
       g.superseded_by, w.event, w.reject, w."offset", w.chain, w.ledger, {_SPANS_MARK} {_FROM} WHERE g.id = ?"""
_EVENTS = """
SELECT id, "offset", part, coalesce(ts, ?), seq, length, ts, role, kind, message, meta, tool, model, call_id, parent,
       inherited
FROM main.events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"""
_REJECTS = """
SELECT id, "offset", seq, length, reason, detail
FROM main.ingest_rejects WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"""
_LINK_BEFORE = """
SELECT end_offset, chain FROM main.segments WHERE id BETWEEN ? AND ? AND end_offset <= ? ORDER BY id DESC LIMIT 1"""
_LINK_AT = "SELECT chain FROM main.segments WHERE id BETWEEN ? AND ? AND end_offset = ? ORDER BY id DESC LIMIT 1"
_SUMMARY = """
SELECT generation, "offset", cwd, branch, "commit", title, models, started, last_event, ended, events, turns,
       tool_calls, errors, state
FROM main.summaries WHERE generation = ?"""
_CALLS = "SELECT key, event & 0xffffffffff, repeated FROM main.usage WHERE generation = ?"
_CALL = """
SELECT generation, key, (event >> 8) & 0xffffffff, event & 0xff, ts, model, input, cache_read, cache_write, output,
       reasoning, repeated, inherited
FROM main.usage WHERE generation = ? AND key = ?"""
_TOMBSTONE = """
SELECT generation, session_id, length, lines, chain, purged_at FROM main.tombstones WHERE generation = ?"""
_SPANS = """
SELECT generation, "offset", length, rule, redacted_at FROM main.redacted_spans
WHERE generation = ? AND CAST(redacted_at * 1e6 AS INTEGER) > ?"""
_SPAN_BEFORE = 'SELECT 1 FROM main.redacted_spans WHERE generation = ? AND "offset" < ?'


class _State(NamedTuple):
    """A generation as it is now, beside what the sink has of it."""

    ledger: str
    stream: StreamRow
    generation: GenerationRow
    before: Watermark
    spans: int | None

    @property
    def told_spans(self) -> int:
        """Up to when the sink was told what was taken out of its rows, as `spans`."""
        return int(self.before.ledger.rpartition(" ")[2] or 0)


class Lag(NamedTuple):
    """What the sink lacks, as it was at the last look: generations, and bytes of their files."""

    generations: int = 0
    bytes: int = 0


class Spool:
    """One sink's way through the local database. Raises DatabaseError."""

    def __init__(self, database: str, sink: str, secrecy: Secrecy | None = None) -> None:
        self._path = database
        self._sink = sink
        self._secrecy = secrecy
        self._connection = open_reader(database)
        self._connection.execute(_SENT)
        self._connection.execute(_RECALL, (sink,))
        self._queue: list[tuple[int, int]] = []
        self._proven: set[int] = set()
        self._calls: OrderedDict[int, dict[int, tuple[int, int]]] = OrderedDict()

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def begin(self, watermarks: Iterable[Watermark]) -> None:
        """Go on from what the sink has. Raises DivergedError where that isn't of this record."""
        with self._read():
            sent: Any = self._connection.execute(_ALL_SENT).fetchall()
            known = {row[0]: row for row in sent if row[0] in self._proven}
            self._connection.execute(_FORGET)
            self._proven.clear()
            for mark in watermarks:
                self._connection.execute(_SET, mark)
                if known.get(mark.generation) == mark:
                    self._proven.add(mark.generation)
            self._proven.update(int(str(row[0])) for row in self._connection.execute(_NOTED, (self._sink,)))
            another = self._connection.execute(_ANOTHER).fetchone()
        if another is not None:
            raise DivergedError(f"its generation {another[0]} is not the one of {another[1]} here")
        self._calls.clear()
        self.look()
        for generation, _ in self._queue:
            self._prove(generation)

    def changed(self) -> int:
        """A number that differs once somebody has committed."""
        return int(self._connection.pragma("data_version"))

    def look(self) -> Lag:
        """See what there is to send."""
        with self._read():
            rows: Any = self._connection.execute(_BEHIND).fetchall()
        self._queue = rows[::-1]
        sizes = [size for _, size in rows if size > 0]
        return Lag(len(sizes), sum(sizes))

    def next(self, events: int) -> Batch | None:
        """About so many events, or 8 MiB of text; None when all that the last look found was sent.

        Raises DivergedError where the sink's rows are not this record's.
        """
        parts: list[Part] = []
        cost = taken = size = 0
        while self._queue and cost < events and size < BATCH_BYTES:
            generation = self._queue[-1][0]
            self._prove(generation)
            with self._read():
                part = self._part(generation, events - cost, BATCH_BYTES - size)
            if part is not None:
                parts.append(part)
                taken += len(part.events)
                cost += len(part.events) + len(part.rejects) + _PART_EVENTS
                size += _size(part)
                if part.after.is_amid:
                    break
            self._queue.pop()
        return Batch(parts, taken, size) if parts else None

    def again(self, bounds: tuple[tuple[Watermark, Watermark], ...]) -> Batch | None:
        """The batch whose parts lie between these watermarks, once more.

        None where the sink has it, or the record doesn't. Raises DivergedError where the record has other bytes.
        """
        parts = [part for before, after in bounds if (part := self._between(before, after)) is not None]
        if not parts or len(parts) < len(bounds):
            return None
        return Batch(parts, sum(len(part.events) for part in parts), sum(map(_size, parts)))

    def sent(self, batch: Batch) -> None:
        """The sink has committed it."""
        self._connection.executemany(_SET, [part.after for part in batch.parts])
        for part in batch.parts:
            self._proven.add(part.after.generation)
            if part.usage:
                calls = self._calls.setdefault(part.after.generation, {})
                calls.update((row.key, (row.event_seq << 8 | row.event_part, row.repeated)) for row in part.usage)
                self._calls.move_to_end(part.after.generation)
        while sum(map(len, self._calls.values())) > _KNOWN_CALLS and len(self._calls) > 1:
            self._calls.popitem(last=False)

    @contextmanager
    def _read(self) -> Iterator[None]:
        """One state of the database, for a moment: no reader holds up a checkpoint."""
        with translated(self._path), self._connection:
            yield

    def _state(self, generation: int) -> _State | None:
        row: Any = self._connection.execute(_STATE, (generation,)).fetchone()
        if row is None:
            return None
        now = GenerationRow(*row[11:22])
        event, reject, offset, chain, ledger, spans = row[22:]
        before = Watermark(generation, now.began)
        if event is not None:
            before = Watermark(generation, now.began, event, reject, offset, chain, ledger)
        return _State(row[0], StreamRow(*row[1:11]), now, before, spans)

    def _prove(self, generation: int) -> None:
        """See once that the record has, at the sink's offset, the chain that the sink has. Raises DivergedError."""
        if generation in self._proven:
            return
        with self._read():
            state = self._state(generation)
        if state is not None:
            self._compare(state, state.before)
        self._proven.add(generation)

    def _compare(self, state: _State, mark: Watermark) -> None:
        """See that the record has a watermark's chain. Raises DivergedError."""
        now = state.generation
        if mark.offset and now.how != "purged":
            if now.offset < mark.offset:
                raise DivergedError(f"of generation {now.local} it has more than was ever here")
            if self._chain(now, mark.offset) != mark.chain and not self._was_redacted(state):
                raise DivergedError(f"of generation {now.local}, {state.stream.session_id}, it has other bytes")

    def _chain(self, now: GenerationRow, offset: int) -> bytes:
        """The record's chain at an offset; from its bytes, where no row tells it any more."""
        if offset == now.offset:
            return now.chain
        low = now.local << 40
        found = scalar(self._connection, _LINK_AT, (low, low | offset, offset))
        if found is not None:
            return bytes(found)
        chain = Chain()
        with translated(self._path):
            for piece in Record(self._connection, now.local).chunks(offset):
                chain.update(piece)
        return chain.digest()

    def _was_redacted(self, state: _State) -> bool:
        """Whether something was taken out of what the sink has, since it was told of it."""
        values = (state.generation.local, state.before.offset)
        return (state.spans or 0) > state.told_spans and scalar(self._connection, _SPAN_BEFORE, values) is not None

    def _part(self, generation: int, limit: int, room: int) -> Part | None:
        """What is next of a generation; None where there is nothing new by now."""
        state = self._state(generation)
        if state is None or state.ledger == state.before.ledger:
            return None
        now, before = state.generation, state.before
        low = now.local << 40
        high = low | 0xFFFFFFFFFF
        spans = self._spans(state) if before.event and (state.spans or 0) > state.told_spans else ()
        events, more = self._rows(_EVENTS, (now.began, max(low - 1, before.event), high, limit), room, _EVENT_TEXTS)
        events = self._hidden(generation, events)
        rejects: list[Row] = []
        if not more:
            rejects, more = self._rows(_REJECTS, (max(low - 1, before.reject), high, limit), room, _REJECT_TEXTS)
        after = before._replace(
            event=events[-1][0] if events else before.event, reject=rejects[-1][0] if rejects else before.reject
        )
        if more:
            end = _end(RejectRow(*rejects[-1])) if rejects else _end(EventRow(*events[-1]))
            after = self._amid(after._replace(ledger=_amid(state.spans)), end)
            return Part(before, after, state.stream, now, events, rejects, spans=spans)
        after = after._replace(offset=now.offset, chain=now.chain, ledger=state.ledger)
        summary: Any = self._connection.execute(_SUMMARY, (generation,)).fetchone()
        stone: Any = self._connection.execute(_TOMBSTONE, (generation,)).fetchone()
        return Part(
            before,
            after,
            state.stream,
            now,
            events,
            rejects,
            SummaryRow(*summary) if summary else None,
            self._usage(generation),
            TombstoneRow(*stone) if stone else None,
            spans,
        )

    def _hidden(self, generation: int, events: list[Row]) -> list[Row]:
        """The events without what stays at home."""
        if not events or self._secrecy is None:
            return events
        return self._secrecy.hide(self._connection, generation, events)

    def _between(self, before: Watermark, after: Watermark) -> Part | None:
        """What lies behind one watermark and up to another; None where one end isn't at the sink, or the other here."""
        with self._read():
            state = self._state(before.generation)
            if state is None or state.before[:4] != before[:4]:
                return None
            low, began = before.generation << 40, state.generation.began
            events: Any = self._connection.execute(
                _EVENTS, (began, max(low - 1, before.event), after.event, -1)
            ).fetchall()
            events = self._hidden(before.generation, events)
            rejects: Any = self._connection.execute(
                _REJECTS, (max(low - 1, before.reject), after.reject, -1)
            ).fetchall()
        for rows, first, last in ((events, before.event, after.event), (rejects, before.reject, after.reject)):
            if last != (rows[-1][0] if rows else first):
                return None
        self._compare(state, after)
        after = after._replace(ledger=_amid(state.told_spans))
        return Part(state.before, after, state.stream, state.generation, events, rejects)

    def _rows(self, query: str, values: tuple[Any, ...], room: int, texts: tuple[int, int]) -> tuple[list[Row], bool]:
        """The next rows, for so many bytes of their two long texts; and whether there may be more than that."""
        rows: list[Row] = []
        first, second = texts
        for row in self._connection.execute(query, values):
            rows.append(row)
            room -= len(row[first]) + len(row[second] or "") + _ROW_BYTES
            if room <= 0:
                break
        return rows, room <= 0 or len(rows) >= values[-1]

    def _amid(self, after: Watermark, end: int) -> Watermark:
        """The watermark where more is to come behind `end`: its chain is the last segment's that ends before that."""
        low = after.generation << 40
        link: Any = self._connection.execute(_LINK_BEFORE, (low, low | end, end)).fetchone()
        if link is None or link[0] <= after.offset:
            return after
        return after._replace(offset=link[0], chain=link[1])

    def _spans(self, state: _State) -> tuple[SpanRow, ...]:
        """What was taken out since, of rows that were sent before."""
        rows: Any = self._connection.execute(_SPANS, (state.generation.local, state.told_spans))
        return tuple(SpanRow(*row) for row in rows)

    def _usage(self, generation: int) -> tuple[UsageRow, ...]:
        """The calls of a generation that aren't at the sink as they are by now, for all that is remembered."""
        known = self._calls.get(generation, {})
        calls: Any = self._connection.execute(_CALLS, (generation,)).fetchall()
        changed = [key for key, *mark in calls if known.get(key) != tuple(mark)]
        rows: list[Any] = [self._connection.execute(_CALL, (generation, key)).fetchone() for key in changed]
        return tuple(UsageRow(*row) for row in rows)


def _amid(spans: int | None) -> str:
    """What stands for the ledger while more events are to come."""
    return f"~ {spans or ''}"


def _end(row: EventRow | RejectRow) -> int:
    return row.offset + row.length


def _size(part: Part) -> int:
    return sum(len(row[9]) + len(row[10] or "") + _ROW_BYTES for row in part.events) + _ROW_BYTES * len(part.rejects)
