"""Erase places of a generation from what is recorded of it: bytes, chain, rows, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import apsw

from codex.logging.erasure.places import Place, is_recorded_without
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


def erase_rows(
    connection: apsw.Connection, target: Target, found: Sequence[Place], key: bytes, source: Bytes | None
) -> None:
    """Record these places without what they said, within the caller's transaction; what the file says is proven.

    Raises DatabaseError.
    """
    generation = target.generation
    record = Record(connection, generation.id)
    there = record.spans_in(0, generation.cursor.offset)
    new = [place for place in found if not is_recorded_without(place, there)]
    if not new:
        return
    said = [(source or record).read(place.start, place.end - place.start) for place in new]
    now = time.time()
    for place, words in zip(new, said, strict=True):
        spans.forget(connection, generation.id, place.start, place.end)
        hashed = placeholder_digest(key, place.what)
        span = Span(place.start, place.end - place.start, ERASED, hashed, proof(key, words), now)
        spans.write(connection, generation.id, [span])
    fillers = [(place.start, filler(words, whole=place.whole)) for place, words in zip(new, said, strict=True)]
    revision = Revision(connection, generation.id, target.session_id, fillers)
    chain = revision.fill()
    redactions.note(connection, generation, len(new), keyed(generation.chain, key))
    connection.execute(_SET_CHAIN, (chain.digest(), chain.block, generation.id))
    record, start = Record(connection, generation.id), (Cursor(seq=generation.base_seq), Summary())
    breaks = dict(record.breaks())
    for batch in batches(record, named(target.format), generation, breaks, start, spans_in=record.spans_in):
        revision.take(rows_of(batch, generation.id << 40))
    revision.end()


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
