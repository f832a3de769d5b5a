"""From a chunk to the rows that the store takes: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from codex.logging.events import Batch, Cursor, Event, Reject, Summary
from codex.logging.ingest.formats import Format
from codex.logging.ingest.lines import decode, decode_line, decode_oversize, decode_tail, pieces
from codex.logging.ingest.placed import Placed
from codex.logging.ingest.reader import Chunk
from codex.logging.ingest.summary import fold
from codex.logging.store.rows import Rows, rows_of
from codex.logging.store.spans import Span

Moved = TypeVar("Moved", Event, Reject)


def make_rows(
    form: Format, chunk: Chunk, cursor: Cursor, known: Summary, key: int, spans: Sequence[Span] = ()
) -> Rows | None:
    """What a chunk behind a cursor comes to, after what is known of its generation; None when that is nothing yet.

    The spans are those of the chunk, which holds their filler.
    """
    batch = decode_chunk(chunk, cursor, form, spans)
    return None if batch is None else rows_of(fold(form, known, batch), key)._replace(spans=spans)


def decode_chunk(chunk: Chunk, cursor: Cursor, form: Format, spans: Sequence[Span] = ()) -> Batch | None:
    """What a chunk gives; None when that is nothing yet."""
    if chunk.data and chunk.oversize:
        return decode_oversize(chunk.data, cursor)
    if spans:
        return _decode_placed(chunk, cursor, form, spans)
    if chunk.line:
        return decode_line(chunk.line, cursor, form.decode)
    if chunk.data:
        return decode(chunk.data, cursor, form.decode)
    return decode_tail(chunk.tail, cursor, form.decode) if chunk.tail else None


def _decode_placed(chunk: Chunk, cursor: Cursor, form: Format, spans: Sequence[Span]) -> Batch | None:
    """What a chunk gives with placeholders in the spans' places, at the places that it has in the record."""
    placed = Placed(chunk.content, cursor.offset, spans)
    shown = (
        Chunk(data=placed.text) if chunk.data else Chunk(line=placed.text) if chunk.line else Chunk(tail=placed.text)
    )
    batch = decode_chunk(shown, cursor, form)
    if batch is None:
        return None

    def origin(offset: int) -> int:
        return offset if offset <= cursor.offset else placed.origin(offset - cursor.offset)

    def back(one: Moved) -> Moved:
        start = origin(one.offset)
        return one._replace(offset=start, length=origin(one.offset + one.length) - start)

    after = batch.after._replace(offset=origin(batch.after.offset), skip_from=origin(batch.after.skip_from))
    return batch._replace(
        pieces=pieces(chunk.content[: after.offset - cursor.offset], b"\n" if chunk.line else b""),
        after=after,
        events=[back(one) for one in batch.events],
        rejects=[back(one) for one in batch.rejects],
    )
