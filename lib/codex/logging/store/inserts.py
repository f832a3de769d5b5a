"""Rows, put into their tables: the one part of a commit that grows with the lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import apsw

from codex.logging.store import segments, spans
from codex.logging.store.rows import Row, Rows, reject_row, summary_row

INSERT_EVENT = """
INSERT INTO events (id, ts, role, kind, message, meta, tool, model, call_id, parent, inherited, "offset", length)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_SET_TEXTS = """
UPDATE events SET message = CAST(held('message') AS TEXT), meta = CAST(held('meta') AS TEXT) WHERE id = ?"""
INSERT_REJECT = """
INSERT INTO ingest_rejects (id, session_id, seq, length, reason, detail) VALUES (?, ?, ?, ?, ?, ?)"""
_INSERT_SEGMENT = """
INSERT INTO segments (id, end_offset, first_seq, lines, chain, bytes) VALUES (?, ?, ?, ?, ?, ?)"""
INSERT_SUMMARY = """
INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# Of the lines that tell of one call the one with the most output counts, the first among equals.
INSERT_USAGE = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    repeated = repeated + excluded.repeated + iif(
        excluded.output > output, input + cache_read + cache_write + output,
        excluded.input + excluded.cache_read + excluded.cache_write + excluded.output),
    event = iif(excluded.output > output, excluded.event, event),
    ts = iif(excluded.output > output, excluded.ts, ts),
    model = iif(excluded.output > output, excluded.model, model),
    input = iif(excluded.output > output, excluded.input, input),
    cache_read = iif(excluded.output > output, excluded.cache_read, cache_read),
    cache_write = iif(excluded.output > output, excluded.cache_write, cache_write),
    reasoning = iif(excluded.output > output, excluded.reasoning, reasoning),
    output = max(excluded.output, output)"""

_Held = dict[str, str | bytes | None]


class Inserts:
    """What puts rows into one connection's database, within the caller's transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._held: _Held = {}
        connection.create_scalar_function("held", _let_go(self._held), 1)

    def write(self, session_id: str, rows: Rows) -> None:
        """Insert the rows of a generation that has its id; they let go of their pieces and events one by one."""
        execute, execute_many = self._connection.execute, self._connection.executemany
        if rows.usage:
            execute_many(INSERT_USAGE, rows.usage)
        execute(INSERT_SUMMARY, summary_row(rows.key >> 40, rows.summary))
        if rows.rejects:
            execute_many(INSERT_REJECT, [reject_row(rows.key, session_id, reject) for reject in rows.rejects])
        if rows.spans:
            spans.write(self._connection, rows.key >> 40, rows.spans)
        is_long, segment_rows = len(rows.pieces) > 1, _segment_rows(rows)
        for row in islice(segment_rows, len(rows.pieces) - 1):
            execute(_INSERT_SEGMENT, row)
        if not is_long:
            execute_many(INSERT_EVENT, rows.events)
        while is_long and rows.events:
            self._write_long(rows.events)
        execute(_INSERT_SEGMENT, next(segment_rows))  # the last: legacy.py's trigger looks at its events

    def _write_long(self, events: list[Row]) -> None:
        """Insert the first event, and let go of its texts before SQLite makes the row: it needs two copies itself."""
        number, ts, role, kind, message, meta, *rest = events.pop(0)
        self._held.update(message=message, meta=meta)
        del message, meta
        try:
            self._connection.execute(INSERT_EVENT, (number, ts, role, kind, "", None, *rest))
            self._connection.execute(_SET_TEXTS, (number,))
        finally:
            self._held.clear()


def _let_go(held: _Held) -> Callable[..., str | bytes | None]:
    """The SQL function that gives one of the held texts; it knows no store, which would then never be collected."""
    return lambda name: held.pop(name)


def _segment_rows(rows: Rows) -> Iterator[Row]:
    """The batch's segments, each of one piece, which is let go of; lines are counted in the last of them."""
    end = rows.before.offset
    for chain in rows.chains:
        start, end = end, end + len(rows.pieces[0])
        frame = rows.frame or segments.compress(rows.pieces[0])
        del rows.pieces[0]
        lines = 0 if rows.pieces else rows.after.lines - rows.before.lines
        yield (rows.key | start, end, rows.before.seq + 1, lines, chain, frame)
