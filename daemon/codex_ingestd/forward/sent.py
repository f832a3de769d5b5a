"""What a sink has of each generation, beside what is here: how far it is behind, and whether it is of this record.

It stands in a table of the connection's own, in memory: some 100 bytes for each generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apsw

from codex.logging.store.connection import scalar
from codex.logging.store.record import Record
from codex.logging.store.segments import Chain
from codex_ingestd.forward.errors import DivergedError
from codex_ingestd.forward.sink import GenerationRow, StreamRow, Watermark

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
_LINK_AT = "SELECT chain FROM main.segments WHERE id BETWEEN ? AND ? AND end_offset = ? ORDER BY id DESC LIMIT 1"
_SPAN_BEFORE = 'SELECT 1 FROM main.redacted_spans WHERE generation = ? AND "offset" < ?'


class State(NamedTuple):
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


class Sent:
    """One sink's watermarks, in a reader's connection. SQLite's errors are as SQLite raises them."""

    def __init__(self, connection: apsw.Connection, sink: str) -> None:
        self._connection = connection
        self._sink = sink
        self._proven: set[int] = set()
        connection.execute(_SENT)
        connection.execute(_RECALL, (sink,))

    def begin(self, watermarks: Iterable[Watermark]) -> None:
        """Go on from what the sink says that it has. Raises DivergedError where a generation isn't the one here."""
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

    def behind(self) -> list[tuple[int, int]]:
        """The generations of which the sink lacks something, with how many bytes of their files; the next one first."""
        rows: Any = self._connection.execute(_BEHIND).fetchall()
        return list(rows)

    def note(self, watermarks: Sequence[Watermark]) -> None:
        """The sink has got there, by rows of this record."""
        self._connection.executemany(_SET, watermarks)
        self._proven.update(mark.generation for mark in watermarks)

    def state(self, generation: int) -> State | None:
        """How a generation stands; None where there is no such one."""
        row: Any = self._connection.execute(_STATE, (generation,)).fetchone()
        if row is None:
            return None
        now = GenerationRow(*row[11:22])
        event, reject, offset, chain, ledger, spans = row[22:]
        before = Watermark(generation, now.began)
        if event is not None:
            before = Watermark(generation, now.began, event, reject, offset, chain, ledger)
        return State(row[0], StreamRow(*row[1:11]), now, before, spans)

    def prove(self, generation: int) -> None:
        """See once that the record has, at the sink's offset, the chain that the sink has. Raises DivergedError."""
        if generation in self._proven:
            return
        with self._connection:  # and no longer: the bytes may be many, and a read holds up the checkpoint
            state = self.state(generation)
        if state is not None:
            self.compare(state, state.before)
        self._proven.add(generation)

    def compare(self, state: State, mark: Watermark) -> None:
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
        for piece in Record(self._connection, now.local).chunks(offset):
            chain.update(piece)
        return chain.digest()

    def _was_redacted(self, state: State) -> bool:
        """Whether something was taken out of what the sink has, since it was told of it."""
        values = (state.generation.local, state.before.offset)
        return (state.spans or 0) > state.told_spans and scalar(self._connection, _SPAN_BEFORE, values) is not None
