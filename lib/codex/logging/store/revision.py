"""A generation's rows, made anew: set aside beside those that are there, then put in their place in one transaction.

What is as it was isn't written. It is set aside in temporary tables, on the disk, so that nobody waits for it to be
made, and memory is bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import apsw
import zstandard

from codex.logging.errors import DatabaseError, SourceChangedError
from codex.logging.events import Reject, Summary
from codex.logging.store import search_index, segments
from codex.logging.store.inserts import INSERT_EVENT, INSERT_REJECT, INSERT_SUMMARY, INSERT_USAGE
from codex.logging.store.rows import Row, Rows, reject_row, summary_row
from codex.logging.store.segments import Chain

_BEGIN = """
CREATE TEMP TABLE revised_segments (id INTEGER PRIMARY KEY, end_offset, former, chain, bytes);
CREATE TEMP TABLE revised_events (
    id INTEGER PRIMARY KEY, ts, role, kind, message, meta, tool, model, call_id, parent, inherited, "offset", length);
CREATE TEMP TABLE revised_usage (
    generation, "key", event, ts, model, input, cache_read, cache_write, output, reasoning, repeated, inherited)"""
_END = """
DROP TABLE IF EXISTS temp.revised_segments; DROP TABLE IF EXISTS temp.revised_events;
DROP TABLE IF EXISTS temp.revised_usage"""
_SEGMENTS = "SELECT id, end_offset FROM segments WHERE id >= ? AND id < ? ORDER BY id"
_SEGMENT = "SELECT end_offset, chain, bytes FROM segments WHERE id = ?"
_REVISE_SEGMENT = "INSERT INTO temp.revised_segments VALUES (?, ?, ?, ?, ?)"
_DIFFERING = """
SELECT EXISTS (
    SELECT 1 FROM temp.revised_segments AS r LEFT JOIN segments AS s ON s.id = r.id
    WHERE (s.end_offset, s.chain) IS NOT (r.end_offset, r.former))
OR (SELECT count(*) FROM segments WHERE id >= ? AND id < ?) <> (SELECT count(*) FROM temp.revised_segments)"""
_PUT_SEGMENTS = """
UPDATE segments SET chain = r.chain, bytes = coalesce(r.bytes, segments.bytes) FROM temp.revised_segments AS r
WHERE r.id = segments.id AND (r.chain <> r.former OR r.bytes IS NOT NULL)"""
_EVENTS = """
SELECT id, ts, role, kind, message, meta, tool, model, call_id, parent, inherited, "offset", length FROM events
WHERE id BETWEEN ? AND ? ORDER BY id"""
_REVISE_EVENT = "INSERT INTO temp.revised_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GONE = (None,) * 12
_REVISED_EVENTS = "SELECT * FROM temp.revised_events ORDER BY id"
_REVISE_USAGE = "INSERT INTO temp.revised_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REVISED_USAGE = "SELECT * FROM temp.revised_usage ORDER BY rowid"
_REJECTS = "SELECT id, session_id, seq, length, reason, detail FROM ingest_rejects WHERE id BETWEEN ? AND ? ORDER BY id"
_FORGET_SAID = "UPDATE hook_runs SET error = NULL WHERE event = ?"
_FORGET_SECRETS = 'DELETE FROM secrets WHERE generation = ? AND "offset" < ? AND "offset" + length > ?'

Filler = tuple[int, bytes]


class Revision:
    """What a generation's bytes are to be from now on, up to an offset, and the rows that they give.

    One at a time for a connection; `close` it.
    """

    def __init__(self, connection: apsw.Connection, generation: int, session_id: str) -> None:
        self.chain = Chain()
        self._connection = connection
        self._generation = generation
        self._low = generation << 40
        self._session_id = session_id
        self._fillers: list[Filler] = []
        self._starts: list[int] = []
        self._event = self._low  # the last one that was looked at
        self._reject = self._low - 1
        self._rejects: list[tuple[int, Row | None]] = []
        self._summary = Summary()
        connection.execute(_END)
        connection.execute(_BEGIN)

    def close(self) -> None:
        """Forget what was set aside."""
        self._connection.execute(_END)

    def fill(self, fillers: Sequence[Filler], end: int) -> None:
        """Put in fillers, which are bytes with their offsets, in order, and chain the segments on to `end`.

        Raises DatabaseError where the record has a hole, SourceChangedError where it is written meanwhile.
        """
        self._fillers += fillers
        self._starts += [start for start, _ in fillers]
        window = (self._low | self.chain.offset, self._low | end)
        rows: Any = self._connection.execute(_SEGMENTS, window).fetchall()
        for number, until in rows:
            data, former = self._segment(number, until)
            filled = self.filled(data, number - self._low)
            self.chain.update(filled)
            frame = segments.compress(filled) if filled != data else None
            self._connection.execute(_REVISE_SEGMENT, (number, until, former, self.chain.digest(), frame))
        if self.chain.offset != end:
            raise self._changed()

    def _segment(self, number: int, end: int) -> tuple[bytes, object]:
        row: Any = self._connection.execute(_SEGMENT, (number,)).fetchone()
        if row is None or row[0] != end:
            raise self._changed()
        start = number - self._low
        try:
            if start == self.chain.offset:
                return segments.decompress(row[2], end - start), row[1]
        except (zstandard.ZstdError, TypeError):
            pass
        raise DatabaseError(
            f"the record of generation {self._generation} has no sound bytes at offset {self.chain.offset}",
            hint="`codex-ingestd rebuild` mends it; then erase again.",
        )

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(f"the record of generation {self._generation} was written meanwhile")

    def filled(self, data: bytes, start: int) -> bytes:
        """The bytes from `start` on, with the fillers in them."""
        filled = bytearray(data)
        for offset, filler in self._touching(start, start + len(data)):
            first, last = max(offset, start), min(offset + len(filler), start + len(data))
            filled[first - start : last - start] = filler[first - offset : last - offset]
        return bytes(filled)

    def _touching(self, start: int, end: int) -> list[Filler]:
        first = max(0, bisect_right(self._starts, start) - 1)
        near = self._fillers[first : bisect_right(self._starts, end - 1)]
        return [(offset, filler) for offset, filler in near if offset + len(filler) > start]

    def take(self, rows: Rows) -> None:
        """The next rows that the bytes give, made with the generation's key."""
        events = {row[0]: _as_read(row) for row in rows.events}
        if events:
            self._compare(events, self._event + 1, max(events))
            self._event = max(events)
        self._take_rejects(rows.rejects)
        self._connection.executemany(_REVISE_USAGE, rows.usage)
        self._summary = rows.summary

    def _compare(self, events: dict[int, Row], first: int, last: int) -> None:
        """Of the events with ids from first to last, set aside what differs from these."""
        there: dict[int, Row] = {int(row[0]): row for row in self._connection.execute(_EVENTS, (first, last))}
        changed = [number for number in there.keys() | events.keys() if there.get(number) != events.get(number)]
        self._connection.executemany(
            _REVISE_EVENT, [events.get(number, (number, *_GONE)) for number in sorted(changed)]
        )

    def _take_rejects(self, rejects: Sequence[Reject]) -> None:
        for reject in rejects:
            row = reject_row(self._low, self._session_id, reject)
            self._pass_rejects(row[0] - 1)
            self._reject = row[0]
            there: Any = self._connection.execute(_REJECTS, (row[0], row[0])).fetchone()
            # the detail is the parser's words: those of another version of it, unless they tell of what is erased
            is_filled = bool(self._touching(reject.offset, reject.offset + reject.length))
            if there is None or there[:-1] != row[:-1] or is_filled:
                self._rejects.append((row[0], row))

    def _pass_rejects(self, last: int) -> None:
        rows = self._connection.execute(_REJECTS, (self._reject + 1, last))
        self._rejects += [(int(str(row[0])), None) for row in rows]

    def is_of_now(self) -> bool:
        """Whether the segments that this was made of are there still, and no others between them."""
        window = (self._low, self._low | self.chain.offset)
        return not self._connection.execute(_DIFFERING, window).fetchall()[0][0]

    def put(self) -> None:
        """Have all of it in place of what is there, within the caller's transaction. There are no more rows."""
        self._compare({}, self._event + 1, self._low | 0xFFFFFFFFFF)
        self._pass_rejects(self._low | 0xFFFFFFFFFF)
        execute = self._connection.execute
        execute(_PUT_SEGMENTS)
        for start, filler in self._fillers:
            execute(_FORGET_SECRETS, (self._generation, start + len(filler), start))
        for event in execute(_REVISED_EVENTS):
            self._put_event(event)
        for number, reject in self._rejects:
            execute("DELETE FROM ingest_rejects WHERE id = ?", (number,))
            if reject is not None:
                execute(INSERT_REJECT, reject)
        execute("DELETE FROM usage WHERE generation = ?", (self._generation,))
        self._connection.executemany(INSERT_USAGE, execute(_REVISED_USAGE))
        execute(INSERT_SUMMARY, summary_row(self._generation, self._summary))

    def _put_event(self, event: Any) -> None:
        number = event[0]
        search_index.forget_event(self._connection, number)
        self._connection.execute("DELETE FROM events WHERE id = ?", (number,))
        self._connection.execute(_FORGET_SAID, (number,))
        if event[1:] != _GONE:
            self._connection.execute(INSERT_EVENT, event)
            search_index.take_event(self._connection, number)


def _as_read(row: Row) -> Row:
    """The row as SQLite gives it: a long text, which a format may give as UTF-8, is a str there."""
    return tuple(value.decode() if isinstance(value, bytes) else value for value in row)
