"""A copy of a database without its secrets: built anew from redacted bytes, so that nothing else is in the file.

What is taken out becomes redacted spans: rows have placeholders, segments filler, and the chain is of that, so that the
copy verifies as it is. What the bytes were is in `redactions`, as a hash of the former chain that only the holder of
the key can make.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, takewhile
from typing import Any

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.events import Cursor, Generation, Stream
from codex.logging.findings import Found, survey
from codex.logging.ingest.formats import named
from codex.logging.ingest.redactor import carry, in_lines, merged
from codex.logging.rebuild import copy_others
from codex.logging.replay import batches
from codex.logging.secrets.placeholder import digest, keyed, placeholder
from codex.logging.secrets.search import Search
from codex.logging.store import redactions
from codex.logging.store.connection import immediate
from codex.logging.store.record import Record
from codex.logging.store.rows import rows_of
from codex.logging.store.segments import START, Chain, link
from codex.logging.store.spans import Span, masked, proof
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import read_streams

_ROWS = ("events", "ingest_rejects", "segments")
_TOLD = ("summaries", "usage", "redacted_spans")
_COLUMNS = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"
_FORGET_HEADS = """
UPDATE generations SET head_length = 0, head = x'', marker = x''
WHERE id IN (SELECT generation FROM redacted_spans) AND head_length > 0"""


def write_redacted(former: apsw.Connection, path: str, found: Sequence[Found], search: Search) -> None:
    """Write the copy, in one file without a log, where there is none yet.

    Raises DatabaseError where anything is still found in it, or it can't be written.
    """
    with closing(Store(path)) as new:
        for setting, value in (("locking_mode", "exclusive"), ("journal_mode", "memory"), ("synchronous", "off")):
            new.connection.pragma(setting, value)
        new.copy_ledger(former)
        carry(former, new)
        dates: Any = former.execute("SELECT id, committed_at FROM generations").fetchall()
        committed: dict[int, float] = dict(dates)
        redacted: list[tuple[Generation, int]] = []
        for stream in read_streams(former):
            for generation in stream.generations:
                here = [one for one in found if one.generation == generation.id]
                if here:
                    source = _Hidden(Record(former, generation.id), here, search.key)
                    _redact(former, new, stream, generation, source)
                    new.finish(generation, committed[generation.id])
                    redacted.append((generation, len(here)))
                elif generation.how != "purged":
                    _copy(former, new.connection, generation)
        for finding in copy_others(former, new.connection, lambda row: _without_secrets(row, search)):
            raise DatabaseError(f"{path}: {finding.detail}")
        with immediate(new.connection):
            for generation, count in redacted:
                redactions.note(new.connection, generation, count, keyed(generation.chain, search.key))
        forget_heads(new.connection)
        if left := survey(new.connection, search):
            one = left[0]
            raise DatabaseError(
                f"a secret ({one.rule}) can't be taken out of {one.session_id or 'a table'}, line {one.seq}",
                hint="Allow it, or purge the session.",
            )
        new.connection.pragma("journal_mode", "delete")


class _Hidden:
    """A generation's bytes with filler in the secrets' places, and in those that had it already."""

    def __init__(self, record: Record, found: Iterable[Found], key: bytes) -> None:
        self._record = record
        self.spans = sorted(_spans(record, found, key))
        self._ends = [span.end for span in self.spans]

    def spans_in(self, start: int, end: int) -> list[Span]:
        """Those that have a byte in [start, end)."""
        first = bisect_right(self._ends, start)
        return list(takewhile(lambda span: span.offset < end, islice(self.spans, first, None)))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of [offset, offset + length)."""
        data = self._record.read(offset, length)
        return masked(data, offset, self.spans_in(offset, offset + length), self._record.read)


def _spans(record: Record, found: Iterable[Found], key: bytes) -> Iterator[Span]:
    """What was found, and what was known; what overlaps is one, in each line."""
    known = {span.offset: span for span in record.spans_in(0, 1 << 40)}
    places = [(one.offset, one.offset + one.length, one.rule) for one in found]
    places += [(span.offset, span.end, span.rule) for span in known.values()]
    for start, end, rule in merged(places):
        span = known.get(start)
        if span is not None and span.end == end:
            yield span
            continue
        said = record.read(start, end - start)
        is_object = said[:1] + said[-1:] == b"{}"
        for first, last, _ in [(0, len(said), rule)] if is_object else in_lines(said, [(0, len(said), rule)]):
            part = said[first:last]
            yield Span(start + first, len(part), rule, digest(key, part), proof(key, part), time.time())


def _redact(former: apsw.Connection, new: Store, stream: Stream, generation: Generation, source: _Hidden) -> None:
    """Take a generation's bytes again, as they are without the secrets."""
    breaks, form = dict(Record(former, generation.id).breaks()), named(stream.format)
    begun = generation._replace(
        cursor=Cursor(seq=generation.base_seq), chain=START, block=START, ended=None, how=None, superseded_by=None
    )
    chain, stream = Chain(), stream._replace(generations=(begun,))
    start = begun.cursor, new.summary(generation.id)
    for batch in batches(source, form, generation, breaks, start, spans_in=source.spans_in):
        rows, spans = rows_of(batch, generation.id << 40), source.spans_in(batch.before.offset, batch.after.offset)
        rows = rows._replace(chains=link(rows.pieces, chain).chains, spans=spans)
        begun = begun._replace(cursor=batch.after, chain=chain.digest(), block=chain.block)
        stream = new.commit(stream, begun, rows, None)


def forget_heads(connection: apsw.Connection) -> None:
    """Of what has spans no hash of a few of its bytes may stay, without a key: it could be guessed by."""
    with immediate(connection):
        connection.execute(_FORGET_HEADS)


def _copy(former: apsw.Connection, new: apsw.Connection, generation: Generation) -> None:
    """A generation without any secret, row by row."""
    low = generation.id << 40
    with immediate(new):
        _copy_rows(former, new, "generations", "id = ?", (generation.id,))
        for table in _ROWS:
            _copy_rows(former, new, table, "id BETWEEN ? AND ?", (low, low | 0xFFFFFFFFFF))
        for table in _TOLD:
            _copy_rows(former, new, table, "generation = ?", (generation.id,))


def _copy_rows(
    former: apsw.Connection, new: apsw.Connection, table: str, condition: str, values: tuple[int, ...]
) -> None:
    columns = [f'"{row[0]}"' for row in former.execute(_COLUMNS, (table,))]
    chosen, places = ", ".join(columns), ", ".join("?" * len(columns))
    rows = former.execute(f"SELECT {chosen} FROM {table} WHERE {condition}", values)  # noqa: S608
    new.executemany(f"INSERT OR REPLACE INTO {table} ({chosen}) VALUES ({places})", rows)  # noqa: S608


def _without_secrets(row: tuple[Any, ...], search: Search) -> tuple[Any, ...]:
    return tuple(_cell_without(cell, search) for cell in row)


def _cell_without(cell: object, search: Search) -> object:
    if isinstance(cell, str):
        return redacted_text(cell, search)
    return _redacted(cell, search) if isinstance(cell, bytes) else cell


def redacted_text(text: str, search: Search) -> str:
    """A text with placeholders in the places of its secrets."""
    data = text.encode("utf-8", "surrogatepass")
    redacted = _redacted(data, search)
    return text if redacted is data else redacted.decode("utf-8", "surrogatepass")


def _redacted(data: bytes, search: Search) -> bytes:
    parts, place = [], 0
    for match, hashed in search.find(data):
        parts += [data[place : match.start], placeholder(match.rule, hashed).encode()]
        place = match.end
    return data if not parts else b"".join([*parts, data[place:]])
