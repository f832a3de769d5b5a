"""A copy of a database without its secrets: built anew from redacted bytes, so that nothing else is in the file.

Every row is decoded from what is left of its line, and the chain is of those bytes: the copy verifies as it is. What
the bytes were is in `redactions`, as a hash of the former chain that only the holder of the key can make.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import blake2b
from typing import Any, NamedTuple

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.events import Generation, Stream
from codex.logging.findings import Found, Search, survey
from codex.logging.ingest.formats import named
from codex.logging.rebuild import copy_others
from codex.logging.replay import batches
from codex.logging.secrets.placeholder import placeholder
from codex.logging.store.connection import immediate
from codex.logging.store.record import Record
from codex.logging.store.rows import rows_of
from codex.logging.store.segments import START, Chain, link
from codex.logging.store.sqlite import Store, read_streams

_ROWS = ("events", "ingest_rejects", "segments")
_TOLD = ("summaries", "usage")
_COLUMNS = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"
_NOTE = """
INSERT INTO redactions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET secrets = secrets + excluded.secrets"""
_FORGET_HEAD = "UPDATE generations SET head_length = 0, head = x'', marker = x'' WHERE id = ?"


def write_redacted(former: apsw.Connection, path: str, found: Sequence[Found], search: Search) -> None:
    """Write the copy, in one file without a log, where there is none yet.

    Raises DatabaseError where anything is still found in it, or it can't be written.
    """
    with closing(Store(path)) as new:
        for setting, value in (("locking_mode", "exclusive"), ("journal_mode", "memory"), ("synchronous", "off")):
            new.connection.pragma(setting, value)
        new.copy_ledger(former)
        dates: Any = former.execute("SELECT id, committed_at FROM generations").fetchall()
        committed: dict[int, float] = dict(dates)
        redacted: list[tuple[Generation, int]] = []
        for stream in read_streams(former):
            for generation in stream.generations:
                spans = [one for one in found if one.generation == generation.id]
                if spans:
                    _redact(former, new, stream, generation, _Redacted(Record(former, generation.id), spans))
                    new.finish(generation, committed[generation.id])
                    redacted.append((generation, len(spans)))
                elif generation.how != "purged":
                    _copy(former, new.connection, generation)
        for finding in copy_others(former, new.connection, lambda row: _without_secrets(row, search)):
            raise DatabaseError(f"{path}: {finding.detail}")
        for generation, count in redacted:
            _note(new.connection, generation, count, search.key)
        if left := survey(new.connection, search):
            one = left[0]
            raise DatabaseError(
                f"a secret ({one.rule}) can't be taken out of {one.session_id or 'a table'}, line {one.seq}",
                hint="Allow it, or purge the session.",
            )
        new.connection.pragma("journal_mode", "delete")


class _Piece(NamedTuple):
    """From `start` of the redacted bytes on: a placeholder, or the bytes from `origin` on."""

    start: int
    origin: int
    text: bytes | None


class _Redacted:
    """A generation's bytes with placeholders in the secrets' places."""

    def __init__(self, record: Record, spans: Iterable[Found]) -> None:
        self._record = record
        self._pieces = [_Piece(0, 0, None)]
        for span in sorted(spans, key=lambda span: (span.offset, -span.length)):
            last = self._pieces[-1]
            if span.offset < last.origin:
                self._pieces[-1] = last._replace(origin=max(last.origin, span.offset + span.length))
                continue
            start = last.start + span.offset - last.origin
            text = _in_place_of(record.read(span.offset, span.length), placeholder(span.rule, span.hash))
            if start == last.start:
                self._pieces.pop()
            self._pieces += [
                _Piece(start, span.offset, text),
                _Piece(start + len(text), span.offset + span.length, None),
            ]
        self._starts = [piece.start for piece in self._pieces]
        self._origins = [piece.origin for piece in self._pieces]

    def place(self, offset: int) -> int:
        """Where a byte of the original is; one of a secret is behind its placeholder."""
        at = bisect_right(self._origins, offset) - 1
        piece = self._pieces[at]
        if piece.text is not None:
            return piece.start if offset == piece.origin else self._pieces[at + 1].start
        return piece.start + offset - piece.origin

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of [offset, offset + length)."""
        parts, end = [], offset + length
        at = bisect_right(self._starts, offset) - 1
        while offset < end:
            piece = self._pieces[at]
            until = min(end, self._starts[at + 1]) if at + 1 < len(self._pieces) else end
            within = offset - piece.start
            if piece.text is None:
                parts.append(self._record.read(piece.origin + within, until - offset))
            else:
                parts.append(piece.text[within : within + until - offset])
            offset, at = until, at + 1
        return b"".join(parts)


def _in_place_of(secret: bytes, words: str) -> bytes:
    """A placeholder; for a whole line an object with it. Line ends stay, since lines are numbered."""
    text = words.encode() if not secret.lstrip().startswith(b"{") else b'{"redacted":"' + words.encode() + b'"}'
    return text + b"\n" * secret.count(b"\n")


def _redact(former: apsw.Connection, new: Store, stream: Stream, generation: Generation, source: _Redacted) -> None:
    """Take a generation's bytes again, as they are without the secrets."""
    cursor = generation.cursor
    skip = source.place(cursor.skip_from) if cursor.skip_from >= 0 else -1
    end = generation._replace(cursor=cursor._replace(offset=source.place(cursor.offset), skip_from=skip))
    breaks = {source.place(offset): seq for offset, seq in Record(former, generation.id).breaks()}
    begun = generation._replace(
        cursor=type(cursor)(seq=generation.base_seq), chain=START, block=START, ended=None, how=None, superseded_by=None
    )
    chain, stream = Chain(), stream._replace(generations=(begun,))
    for batch in batches(source, named(stream.format), end, breaks, (begun.cursor, new.summary(generation.id))):
        rows = rows_of(batch, generation.id << 40)
        rows = rows._replace(chains=link(rows.pieces, chain).chains)
        begun = begun._replace(cursor=batch.after, chain=chain.digest(), block=chain.block)
        stream = new.commit(stream, begun, rows, None)


def _note(connection: apsw.Connection, generation: Generation, count: int, key: bytes) -> None:
    """What it was, for the key's holder; no hash of a few of its bytes, which could be guessed by."""
    proof = blake2b(generation.chain, key=key, digest_size=len(generation.chain)).digest()
    with immediate(connection):
        connection.execute(_NOTE, (generation.id, count, generation.cursor.offset, proof, time.time()))
        connection.execute(_FORGET_HEAD, (generation.id,))


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
    return tuple(_redacted_text(cell, search) if isinstance(cell, str) else cell for cell in row)


def _redacted_text(text: str, search: Search) -> str:
    data, parts, place = text.encode("utf-8", "surrogatepass"), [], 0
    for match, hashed in search.find(data):
        parts += [data[place : match.start], placeholder(match.rule, hashed).encode()]
        place = match.end
    return text if not parts else b"".join([*parts, data[place:]]).decode("utf-8", "surrogatepass")
