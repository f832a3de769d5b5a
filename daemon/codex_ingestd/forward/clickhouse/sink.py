"""The sink ClickHouse: a batch is an insert of its rows under a token, then one for each kind of ledger row, and the
watermarks last.

There is no transaction. What makes it once all the same: an insert puts all of its rows of a month there or none; the
same rows under the same token are passed over; a batch of which no answer came goes again in the same bounds (see
journal.py); and before the first rows of a generation are sent by a connection, the sink is asked what it has of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice, repeat
from typing import Any
from uuid import UUID

from codex.logging.address import Address
from codex_ingestd.forward.clickhouse.journal import Bounds, Journal, Note, bounds_of
from codex_ingestd.forward.clickhouse.schema import bring_up_to_date
from codex_ingestd.forward.clickhouse.server import Server
from codex_ingestd.forward.errors import StaleSinkError
from codex_ingestd.forward.identity import Host
from codex_ingestd.forward.pace import Batches
from codex_ingestd.forward.sink import (
    Batch,
    EventRow,
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

_HOSTS = ("host_id", "machine", "name", "username", "database", "version", "first_seen", "last_seen")
_STREAMS = ("host_id", *StreamRow._fields, "batch")
_KEY = ("host_id", "session_id", "generation")
_EVENTS = (*_KEY, *EventRow._fields[1:], "sent_at")
_REJECTS = (*_KEY, *RejectRow._fields[1:])
_SUMMARIES = ("host_id", *SummaryRow._fields, "batch")
_USAGE = ("host_id", *UsageRow._fields, "batch")
_TOMBSTONES = ("host_id", *TombstoneRow._fields)
_SPANS = ("host_id", "session_id", *SpanRow._fields, "batch")
_GENERATIONS = (
    *("host_id", "local", "id", "stream", "began", "offset", "seq", "lines", "chain", "committed_at", "ended", "how"),
    *("superseded_by_local", "sent_event", "sent_reject", "sent_offset", "sent_chain", "ledger", "batch"),
)
_FIRST_SEEN = "SELECT first_seen FROM sink_hosts FINAL WHERE host_id = {host:UUID}"
_WATERMARKS = """
SELECT local, began, sent_event, sent_reject, sent_offset, sent_chain, ledger FROM sink_generations FINAL
WHERE host_id = {host:UUID}"""
_SOME_WATERMARKS = _WATERMARKS + " AND local IN {some:Array(Int64)}"
_NUMBER = "SELECT max(batch) FROM sink_generations WHERE host_id = {host:UUID}"
_ANY = "SELECT 1 FROM sink_events WHERE host_id = {host:UUID} LIMIT 1"
_LAST = """
SELECT generation, max(seq * 256 + part) FROM sink_events
WHERE host_id = {host:UUID} AND session_id IN {sessions:Array(String)} AND generation IN {generations:Array(UInt128)}
GROUP BY generation"""
_THERE = """
SELECT seq * 256 + part FROM sink_events
WHERE host_id = {host:UUID} AND session_id = {session:String} AND generation = {generation:UInt128}
  AND seq * 256 + part BETWEEN {first:Int64} AND {last:Int64}"""
_WITHIN = 0xFFFFFFFFFF  # of an event's id: what is its own in the generation
_LATEST = (1 << 51) - 1  # microseconds: some day in 2041
_HASH_BITS = 37


class ClickHouseSink:
    """See sink.Sink. What a batch costs there is mostly that it is one, so that it is never small for being slow."""

    batches = Batches(20_000, 20_000, 20_000, 16 << 20, 0.5)

    def __init__(self, address: Address, host: Host, server: Server) -> None:
        self.name = address.name
        self._host = host
        self._server = server
        self._journal = Journal(host.database, host.id, address.name)
        self._number = 0
        self._streams: dict[int, StreamRow] = {}
        self._is_new = False  # there was nothing of this host before this connection's first
        self._there: dict[int, int] = {}  # by generation: the last event that was there before this connection's first

    def open(self) -> None:
        """Connect anew; the schema is made where the user may make it."""
        self._streams.clear()
        self._there.clear()
        self._server.open()
        with self._server.told("connecting"):
            bring_up_to_date(self._server.client)
            host, now = self._host, time.time()
            first = self._server.rows(_FIRST_SEEN, host=host.id)
            self._is_new = not self._server.rows(_ANY, host=host.id)
            facts = (host.id, host.machine, host.name, host.user, host.database, host.version)
            self._server.insert("sink_hosts", _HOSTS, [(*facts, first[0][0] if first else now, now)])

    def watermarks(self) -> Iterable[Watermark]:
        """What it has of this host."""
        with self._server.told("reading its watermarks"):
            self._number = self._server.rows(_NUMBER, host=self._host.id)[0][0]
            return self._marks(_WATERMARKS)

    def unfinished(self) -> Bounds:
        """The last batch that was about to be sent; it may be there already."""
        note = self._journal.note
        return () if note is None else note.bounds

    def send(self, batch: Batch) -> None:
        """Take a batch; by the token of the one before, where it is that one once more."""
        note, bounds = self._journal.note, bounds_of(batch)
        with self._server.told("sending"):
            self._see_watermarks(batch)
            if note is None or not note.is_of(bounds):
                note = Note(max(self._number, note.number if note else 0) + 1, bounds)
                self._journal.write(note)
            self._number = max(self._number + 1, note.number)
            self._put_events(batch, note.token(self._host.id))
            self._put_ledger(batch)
            rows = [self._generation(part) for part in batch.parts]
            self._server.insert("sink_generations", _GENERATIONS, rows)

    def tend(self) -> bool:
        """There is nothing."""
        return False

    def close(self) -> None:
        """Let go of the connection, and let somebody else send."""
        self._server.close()
        self._journal.close()

    def _marks(self, query: str, **values: object) -> list[Watermark]:
        rows = self._server.rows(query, host=self._host.id, **values)
        return [Watermark(*row)._replace(chain=bytes.fromhex(row[5])) for row in rows]

    def _see_watermarks(self, batch: Batch) -> None:
        """See that nobody else went on; raises StaleSinkError."""
        some = [part.before.generation for part in batch.parts]
        found = {mark.generation: mark for mark in self._marks(_SOME_WATERMARKS, some=some)}
        for part in batch.parts:
            mark = found.get(part.before.generation, Watermark(part.before.generation, part.before.began))
            if mark[:4] != part.before[:4]:
                raise StaleSinkError(f"{self.name}: another forwarder of this host went on first")

    def _put_events(self, batch: Batch, token: str) -> None:
        """Those that aren't there yet."""
        self._ask(batch)
        columns: list[list[Any]] = [[] for _ in _EVENTS]
        for part in batch.parts:
            rows = self._lacking(part)
            fixed = zip(columns, self._key(part), strict=False)
            for column, value in fixed:
                column.extend(repeat(value, len(rows)))
            for column, values in zip(columns[len(_KEY) :], islice(zip(*rows, strict=True), 1, None), strict=False):
                column.extend(values)
        columns[-1] = [time.time()] * len(columns[0])
        self._server.insert_columns("sink_events", _EVENTS, columns, token)

    def _ask(self, batch: Batch) -> None:
        """Learn of generations that come first to this connection up to which event they are there."""
        new = {self._id(p): p for p in batch.parts if p.events and p.after.generation not in self._there}
        if new:
            sessions = list({part.stream.session_id for part in new.values()})
            asked: dict[str, Any] = {"sessions": sessions, "generations": list(new)}
            last = {} if self._is_new else dict(self._server.rows(_LAST, host=self._host.id, **asked))
            self._there.update((part.after.generation, last.get(number, -1)) for number, part in new.items())

    def _lacking(self, part: Part) -> list[Row]:
        """Its events without those that are there."""
        if not part.events or part.events[0][0] & _WITHIN > self._there[part.after.generation]:
            return part.events
        host, session, generation = self._key(part)
        first, last = (part.events[end][0] & _WITHIN for end in (0, -1))
        values: dict[str, Any] = {"host": host, "session": session, "generation": generation}
        there = {row[0] for row in self._server.rows(_THERE, first=first, last=last, **values)}
        return [row for row in part.events if row[0] & _WITHIN not in there]

    def _put_ledger(self, batch: Batch) -> None:
        """All but the generations, whose watermarks come last. Of two rows of one key the greater number counts."""
        host, number, insert = self._host.id, self._number, self._server.insert
        parts = [(self._key(part), part) for part in batch.parts]
        streams = {part.stream.local: part.stream for part in batch.parts}
        changed = {local: row for local, row in streams.items() if self._streams.get(local) != row}
        insert("sink_streams", _STREAMS, [(host, *row, number) for row in changed.values()])
        self._streams.update(changed)
        insert("sink_rejects", _REJECTS, [(*key, *row[1:]) for key, part in parts for row in part.rejects])
        summaries = [(host, key[2], *part.summary[1:], number) for key, part in parts if part.summary is not None]
        insert("sink_summaries", _SUMMARIES, summaries)
        insert("sink_usage", _USAGE, [(host, key[2], *row[1:], number) for key, part in parts for row in part.usage])
        stones = [(key, part.tombstone) for key, part in parts if part.tombstone is not None]
        rows = [(host, key[2], *row._replace(chain=row.chain.hex())[1:]) for key, row in stones]  # type: ignore[arg-type]
        insert("sink_tombstones", _TOMBSTONES, rows)
        insert("sink_redacted_spans", _SPANS, [(*key, *row[1:], number) for key, part in parts for row in part.spans])

    def _generation(self, part: Part) -> Row:
        now, after = part.generation, part.after
        facts = (
            now.offset,
            now.seq,
            now.lines,
            now.chain.hex(),
            now.committed_at,
            now.ended,
            now.how,
            now.superseded_by,
        )
        marks = (after.event, after.reject, after.offset, after.chain.hex(), after.ledger)
        return (self._host.id, now.local, self._id(part), now.stream, now.began, *facts, *marks, self._number)

    def _key(self, part: Part) -> tuple[UUID, str, int]:
        return self._host.id, part.stream.session_id, self._id(part)

    def _id(self, part: Part) -> int:
        return generation_id(self._host.id, part.generation.local, part.generation.began)


def generation_id(host: UUID, local: int, began: float) -> int:
    """The number that a generation has at the sink: of 88 bits, and the greater the later it began."""
    made_of = f"{host} {local}".encode()
    low = int.from_bytes(blake2b(made_of, digest_size=8, person=b"codex-life").digest(), "big") >> (64 - _HASH_BITS)
    return min(_LATEST, max(0, int(began * 1e6))) << _HASH_BITS | low
