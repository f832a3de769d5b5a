"""A generation's rows, made anew where they are: what is as it was isn't written. Within the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import zstandard

from codex.logging.errors import DatabaseError
from codex.logging.events import Reject, Summary
from codex.logging.store import search_index, segments
from codex.logging.store.inserts import INSERT_EVENT, INSERT_REJECT, INSERT_SUMMARY, INSERT_USAGE
from codex.logging.store.rows import Row, Rows, reject_row, summary_row
from codex.logging.store.segments import Chain

_SEGMENTS = "SELECT id, end_offset FROM segments WHERE id BETWEEN ? AND ? ORDER BY id"
_SEGMENT = "SELECT chain, bytes FROM segments WHERE id = ?"
_EVENTS = """
SELECT id, ts, role, kind, message, meta, tool, model, call_id, parent, inherited, "offset", length FROM events
WHERE id BETWEEN ? AND ? ORDER BY id"""
_REJECTS = "SELECT id, session_id, seq, length, reason, detail FROM ingest_rejects WHERE id BETWEEN ? AND ? ORDER BY id"
_FORGET_SAID = "UPDATE hook_runs SET error = NULL WHERE event = ?"
_FORGET_SECRETS = 'DELETE FROM secrets WHERE generation = ? AND "offset" < ? AND "offset" + length > ?'

Filler = tuple[int, bytes]


class Revision:
    """What a generation's bytes are from now on, and the rows that they give."""

    def __init__(
        self, connection: apsw.Connection, generation: int, session_id: str, fillers: Sequence[Filler]
    ) -> None:
        """The fillers are bytes with their offsets, in order: what stands there from now on."""
        self._connection = connection
        self._generation = generation
        self._low = generation << 40
        self._session_id = session_id
        self._fillers = fillers
        self._event = self._low  # the last one that was looked at
        self._reject = self._low - 1
        self._summary = Summary()
        connection.execute("DELETE FROM usage WHERE generation = ?", (generation,))
        for start, filler in fillers:
            connection.execute(_FORGET_SECRETS, (generation, start + len(filler), start))

    def fill(self) -> Chain:
        """Put the fillers in, and chain the segments anew: the chain behind the last of them.

        Raises DatabaseError where the record has a hole.
        """
        chain = Chain()
        rows: Any = self._connection.execute(_SEGMENTS, (self._low, self._low | 0xFFFFFFFFFF)).fetchall()
        for number, end in rows:
            start = number - self._low
            former, frame = self._connection.execute(_SEGMENT, (number,)).fetchall()[0]
            try:
                data = segments.decompress(frame, end - start) if start == chain.offset else None  # type: ignore[arg-type]
            except (zstandard.ZstdError, TypeError):
                data = None
            if data is None:
                raise DatabaseError(
                    f"the record of generation {self._generation} has no sound bytes at offset {chain.offset}",
                    hint="`codex-ingestd rebuild` mends it; then erase again.",
                )
            filled = self._filled(data, start)
            chain.update(filled)
            self._keep(number, former, chain.digest(), filled if filled != data else None)
        return chain

    def _filled(self, data: bytes, start: int) -> bytes:
        filled = bytearray(data)
        for offset, filler in self._fillers:
            first, last = max(offset, start), min(offset + len(filler), start + len(data))
            if first < last:
                filled[first - start : last - start] = filler[first - offset : last - offset]
        return bytes(filled)

    def _keep(self, number: int, former: object, chain: bytes, filled: bytes | None) -> None:
        if filled is not None:
            frame = segments.compress(filled)
            self._connection.execute("UPDATE segments SET chain = ?, bytes = ? WHERE id = ?", (chain, frame, number))
        elif chain != former:
            self._connection.execute("UPDATE segments SET chain = ? WHERE id = ?", (chain, number))

    def take(self, rows: Rows) -> None:
        """The next rows that the bytes give, made with the generation's key."""
        events = {row[0]: _as_read(row) for row in rows.events}
        if events:
            self._compare(events, self._event + 1, max(events))
            self._event = max(events)
        self._take_rejects(rows.rejects)
        if rows.usage:
            self._connection.executemany(INSERT_USAGE, rows.usage)
        self._summary = rows.summary

    def end(self) -> None:
        """There are no more."""
        self._compare({}, self._event + 1, self._low | 0xFFFFFFFFFF)
        self._forget_rejects(self._low | 0xFFFFFFFFFF)
        self._connection.execute(INSERT_SUMMARY, summary_row(self._generation, self._summary))

    def _compare(self, events: dict[int, Row], first: int, last: int) -> None:
        """Of the events with ids from first to last, write what differs from these."""
        there: dict[int, Row] = {int(row[0]): row for row in self._connection.execute(_EVENTS, (first, last))}
        changed = [number for number in there.keys() | events.keys() if there.get(number) != events.get(number)]
        for number in sorted(changed):
            if number in there:
                search_index.forget_event(self._connection, number)
                self._connection.execute("DELETE FROM events WHERE id = ?", (number,))
                self._connection.execute(_FORGET_SAID, (number,))
            if number in events:
                self._connection.execute(INSERT_EVENT, events[number])
                search_index.take_event(self._connection, number)

    def _take_rejects(self, rejects: Sequence[Reject]) -> None:
        for reject in rejects:
            row = reject_row(self._low, self._session_id, reject)
            self._forget_rejects(row[0] - 1)
            self._reject = row[0]
            there: Any = self._connection.execute(_REJECTS, (row[0], row[0])).fetchone()
            # the detail is the parser's words: those of another version of it, unless they tell of what is erased
            if there is None or there[:-1] != row[:-1] or self._is_filled(reject):
                self._connection.execute("DELETE FROM ingest_rejects WHERE id = ?", (row[0],))
                self._connection.execute(INSERT_REJECT, row)

    def _forget_rejects(self, last: int) -> None:
        query = "DELETE FROM ingest_rejects WHERE id BETWEEN ? AND ?"
        self._connection.execute(query, (self._reject + 1, last))

    def _is_filled(self, reject: Reject) -> bool:
        end = reject.offset + reject.length
        return any(offset < end and reject.offset < offset + len(filler) for offset, filler in self._fillers)


def _as_read(row: Row) -> Row:
    """The row as SQLite gives it: a long text, which a format may give as UTF-8, is a str there."""
    return tuple(value.decode() if isinstance(value, bytes) else value for value in row)
