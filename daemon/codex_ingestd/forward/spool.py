"""The local database as a spool: what comes next for a sink, in order, in short reads. It knows no engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from codex.logging.store.connection import open_reader, translated
from codex_ingestd.forward.secrecy import Secrecy
from codex_ingestd.forward.sent import Sent, State
from codex_ingestd.forward.sink import (
    Batch,
    EventRow,
    Part,
    RejectRow,
    Row,
    SpanRow,
    SummaryRow,
    TombstoneRow,
    UsageRow,
    Watermark,
)

_ROW_BYTES = 200  # what a row costs besides its text
_PART_EVENTS = 50  # what a generation costs at the sink, in events
_KNOWN_CALLS = 200_000
_EVENT_TEXTS = (EventRow._fields.index("message"), EventRow._fields.index("meta"))
_REJECT_TEXTS = (RejectRow._fields.index("reason"), RejectRow._fields.index("detail"))
_EVENTS = """
SELECT id, "offset", part, coalesce(ts, ?), seq, length, ts, role, kind, message, meta, tool, model, call_id, parent,
       inherited
FROM main.events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"""
_REJECTS = """
SELECT id, "offset", seq, length, reason, detail
FROM main.ingest_rejects WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"""
_LINK_BEFORE = """
SELECT end_offset, chain FROM main.segments WHERE id BETWEEN ? AND ? AND end_offset <= ? ORDER BY id DESC LIMIT 1"""
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


class Lag(NamedTuple):
    """What the sink lacks, as it was at the last look: generations, and bytes of their files."""

    generations: int = 0
    bytes: int = 0


class Spool:
    """One sink's way through the local database. Raises DatabaseError."""

    def __init__(self, database: str, sink: str, secrecy: Secrecy | None = None) -> None:
        self._path = database
        self._secrecy = secrecy
        self._connection = open_reader(database)
        self._sent = Sent(self._connection, sink)
        self._queue: list[tuple[int, int]] = []
        self._calls: OrderedDict[int, dict[int, tuple[int, int]]] = OrderedDict()

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def begin(self, watermarks: Iterable[Watermark]) -> None:
        """Go on from what the sink has. Raises DivergedError where that isn't of this record."""
        with self._read():
            self._sent.begin(watermarks)
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
            rows = self._sent.behind()
        self._queue = rows[::-1]
        sizes = [size for _, size in rows if size > 0]
        return Lag(len(sizes), sum(sizes))

    @property
    def is_behind(self) -> bool:
        """Whether there is more of what the last look found."""
        return bool(self._queue)

    def next(self, events: int, room: int) -> Batch | None:
        """About so many events, or bytes of text of them; None when all that the last look found was sent.

        Raises DivergedError where the sink's rows are not this record's.
        """
        parts: list[Part] = []
        cost = taken = size = 0
        while self._queue and cost < events and size < room:
            generation = self._queue[-1][0]
            self._prove(generation)
            with self._read():
                part = self._part(generation, events - cost, room - size)
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
        self._sent.note([part.after for part in batch.parts])
        for part in batch.parts:
            if part.usage:
                calls = self._calls.setdefault(part.after.generation, {})
                calls.update((row.key, (row.event_seq << 8 | row.event_part, row.repeated)) for row in part.usage)
                self._calls.move_to_end(part.after.generation)
        while sum(map(len, self._calls.values())) > _KNOWN_CALLS and len(self._calls) > 1:
            self._calls.popitem(last=False)

    def lost(self, batch: Batch) -> None:
        """Nobody knows whether the sink has it: until `begin` that it is to be sent again."""
        self._sent.note([part.before for part in batch.parts])

    @contextmanager
    def _read(self) -> Iterator[None]:
        """One state of the database, for a moment: no reader holds up a checkpoint."""
        with translated(self._path), self._connection:
            yield

    def _prove(self, generation: int) -> None:
        """See once that what the sink has of it is of this record. Raises DivergedError."""
        with translated(self._path):
            self._sent.prove(generation)

    def _part(self, generation: int, limit: int, room: int) -> Part | None:
        """What is next of a generation; None where there is nothing new by now."""
        state = self._sent.state(generation)
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
            state = self._sent.state(before.generation)
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
        with translated(self._path):
            self._sent.compare(state, after)
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

    def _spans(self, state: State) -> tuple[SpanRow, ...]:
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
