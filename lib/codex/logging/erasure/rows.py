"""Erase places of a generation from what is recorded of it: bytes, chain, rows, and what is told of them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice, takewhile

import apsw

from codex.logging.erasure.places import Place, is_recorded_without
from codex.logging.errors import SourceChangedError
from codex.logging.events import Cursor, Generation, Summary
from codex.logging.ingest.formats import named
from codex.logging.ingest.ledger import MARKER_BYTES, digest
from codex.logging.ingest.reader import Bytes
from codex.logging.replay import batches
from codex.logging.secrets.placeholder import digest as placeholder_digest
from codex.logging.secrets.placeholder import keyed
from codex.logging.store import redactions, spans
from codex.logging.store.record import Record
from codex.logging.store.revision import Revision
from codex.logging.store.rows import rows_of
from codex.logging.store.spans import ERASED, Span, filler, proof
from codex.logging.targets import Target

_SET_CHAIN = "UPDATE generations SET chain = ?, block = ? WHERE id = ?"
_SET_EDGES = "UPDATE generations SET head = ?, marker = ? WHERE id = ?"


class Draft:
    """A generation without some places, up to a cursor: made while others write, then put in place in a transaction.

    Methods raise DatabaseError, and SourceChangedError where what it was made of is something else by now.
    """

    def __init__(self, connection: apsw.Connection, target: Target, key: bytes) -> None:
        self.places: list[Place] = []
        self.cursor = Cursor()
        self._connection = connection
        self._key = key
        self._spans: list[Span] = []
        self._ends: list[int] = []
        self._record = Record(connection, target.generation.id)
        self._revision = Revision(connection, target.generation.id, target.session_id)
        self._at = Cursor(seq=target.generation.base_seq), Summary()

    def close(self) -> None:
        """Forget what was made."""
        self._revision.close()

    def take(self, target: Target, found: Sequence[Place], source: Bytes | None) -> None:
        """Go on to where the target ends, with these places behind those before; what a file says of them is proven."""
        end = target.generation.cursor.offset
        self._record = record = Record(self._connection, target.generation.id)
        there = record.spans_in(0, end)
        new = [place for place in found if not is_recorded_without(place, there)]
        fillers = [self._hide(place, source or record) for place in new]
        if self._spans:
            self._revision.fill(fillers, end)
            breaks, form = dict(record.breaks()), named(target.format)
            for batch in batches(self, form, target.generation, breaks, self._at, spans_in=self.spans_in):
                self._revision.take(rows_of(batch, target.generation.id << 40))
                self._at = batch.after, batch.summary
        self.places += found
        self.cursor = target.generation.cursor

    def _hide(self, place: Place, source: Bytes) -> tuple[int, bytes]:
        """Its span from now on, and its filler."""
        said = source.read(place.start, place.end - place.start)
        hashed = placeholder_digest(self._key, place.what)
        self._spans.append(Span(place.start, len(said), ERASED, hashed, proof(self._key, said), time.time()))
        self._ends.append(place.end)
        return place.start, filler(said, whole=place.whole)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes as they are to be recorded."""
        return self._revision.filled(self._record.read(offset, length), offset)

    def spans_in(self, start: int, end: int) -> list[Span]:
        """The spans as they are to be recorded, of [start, end)."""
        new = islice(self._spans, bisect_right(self._ends, start), None)
        mine = list(takewhile(lambda span: span.offset < end, new))
        there = (span for span in self._record.spans_in(start, end) if not self._is_replaced(span))
        return sorted([*mine, *there])

    def _is_replaced(self, there: Span) -> bool:
        at = bisect_right(self._ends, there.offset)
        return at < len(self._spans) and self._spans[at].offset <= there.offset

    def check(self, target: Target) -> None:
        """Whether the target only grew since."""
        cursor = target.generation.cursor
        is_open = self.cursor.skip_from >= 0 and cursor != self.cursor
        if cursor.offset < self.cursor.offset or is_open or (self._spans and not self._revision.is_of_now()):
            raise SourceChangedError("its record was written meanwhile")

    def check_file(self, source: Bytes) -> None:
        """Whether the file that is to be overwritten says what it said."""
        for span in self._spans:
            if proof(self._key, source.read(span.offset, span.length)) != span.proof:
                raise SourceChangedError("the file was written meanwhile")

    def put(self, target: Target) -> None:
        """Record the target, which ends where this does, like that; within the caller's transaction."""
        generation = target.generation
        if not self._spans:
            return
        for span in self._spans:
            spans.forget(self._connection, generation.id, span.offset, span.end)
        spans.write(self._connection, generation.id, self._spans)
        redactions.note(self._connection, generation, len(self._spans), keyed(generation.chain, self._key))
        self._revision.put()
        chain = self._revision.chain
        self._connection.execute(_SET_CHAIN, (chain.digest(), chain.block, generation.id))


def set_edges(connection: apsw.Connection, generation: Generation, found: Sequence[Place], source: Bytes) -> None:
    """Know the generation's file by its first and last bytes as they are once these places are overwritten."""
    record, offset = Record(connection, generation.id), generation.cursor.offset
    edges = []
    for first, last in ((0, generation.head_length), (max(0, offset - MARKER_BYTES), offset)):
        data = bytearray(source.read(first, last - first))
        for place in found:
            low, high = max(place.start, first), min(place.end, last)
            if low < high:
                data[low - first : high - first] = record.read(low, high - low)
        edges.append(digest(bytes(data)))
    connection.execute(_SET_EDGES, (*edges, generation.id))
