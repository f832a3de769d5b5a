"""From a chunk to the rows that the store takes: pure."""

from __future__ import annotations

from codex.logging.events import Batch, Cursor, Summary
from codex.logging.ingest.formats import Format
from codex.logging.ingest.lines import decode, decode_line, decode_oversize, decode_tail
from codex.logging.ingest.reader import Chunk
from codex.logging.ingest.summary import fold
from codex.logging.store.rows import Rows, rows_of


def make_rows(form: Format, chunk: Chunk, cursor: Cursor, known: Summary, key: int) -> Rows | None:
    """What a chunk behind a cursor comes to, after what is known of its generation; None when that is nothing yet."""
    batch = decode_chunk(chunk, cursor, form)
    return None if batch is None else rows_of(fold(form, known, batch), key)


def decode_chunk(chunk: Chunk, cursor: Cursor, form: Format) -> Batch | None:
    """What a chunk gives; None when that is nothing yet."""
    if chunk.data and chunk.oversize:
        return decode_oversize(chunk.data, cursor)
    if chunk.line:
        return decode_line(chunk.line, cursor, form.decode)
    if chunk.data:
        return decode(chunk.data, cursor, form.decode)
    return decode_tail(chunk.tail, cursor, form.decode) if chunk.tail else None
