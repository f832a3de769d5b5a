"""The one place that writes rows. Each public method is one transaction, or a part of a group's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import apsw

from codex.logging.errors import StaleWatermarkError
from codex.logging.events import Cursor, Generation, Stream, Summary
from codex.logging.store import search_index, segments, spans
from codex.logging.store.connection import immediate, open_writer, scalar, translated
from codex.logging.store.record import Record
from codex.logging.store.rows import Row, Rows, reject_row, summary_row

_GENERATION_COLUMNS = (
    'id, stream, device, inode, head_length, head, marker, "offset", seq, lines, line_seq, parts, skip_from,'
    " skip_reason, base_seq, chain, block, modified, began, ended, how, superseded_by"
)
_STREAM_COLUMNS = "id, root, path, session_id, format, error, parent_session_id, forked_from, state"
_SELECT_GENERATIONS = f"SELECT {_GENERATION_COLUMNS} FROM generations WHERE stream = ? ORDER BY id"  # noqa: S608
_SELECT_STREAM = f"SELECT {_STREAM_COLUMNS} FROM streams WHERE root = ? AND path = ?"  # noqa: S608
_SELECT_STREAM_BY_ID = f"SELECT {_STREAM_COLUMNS} FROM streams WHERE id = ?"  # noqa: S608
_SELECT_STREAM_OF = f"""
SELECT {_STREAM_COLUMNS} FROM streams WHERE id = (SELECT stream FROM generations WHERE id = ?)"""  # noqa: S608
_SELECT_ALL_GENERATIONS = f"SELECT {_GENERATION_COLUMNS} FROM generations ORDER BY id"  # noqa: S608
_SELECT_ALL_STREAMS = f"SELECT {_STREAM_COLUMNS} FROM streams ORDER BY id"  # noqa: S608
_ROOTS = """
WITH RECURSIVE found (root) AS (
    SELECT min(root) FROM streams
    UNION ALL SELECT (SELECT min(root) FROM streams WHERE root > found.root) FROM found WHERE root IS NOT NULL)
SELECT root FROM found WHERE root IS NOT NULL"""
_WATERMARKS = """
SELECT s.path, g.device, g.inode, g."offset", g.modified, g.how IS NOT 'rotated'
FROM streams AS s JOIN generations AS g ON g.stream = s.id
WHERE s.root = ? AND g.superseded_by IS NULL
  AND (g.how = 'rotated' OR g.ended IS NULL AND coalesce(g.how, 'moved') = 'moved')
ORDER BY g.id"""
_VERSION = "PRAGMA data_version"
_STREAM_AT = """
SELECT id, EXISTS (SELECT 1 FROM generations WHERE stream = streams.id) FROM streams WHERE root = ? AND path = ?"""
_STREAMS_SHARING = """
SELECT s.root, s.path FROM generations AS g JOIN streams AS s ON s.id = g.stream
WHERE g.device = ? AND g.inode = ? AND s.id <> ?"""
_LEDGER = {
    "streams": "id, root, path, session_id, parent_session_id, forked_from, format, state",
    "generations": 'id, stream, device, inode, head_length, head, marker, "offset", seq, lines, line_seq, parts,'
    " skip_from, skip_reason, base_seq, chain, block, modified, began, committed_at, ended, how",
    "tombstones": "generation, session_id, length, lines, chain, purged_at",
}
_NAME = "SELECT key, value FROM meta WHERE key = 'database_id'"
_KEEP_NAME = "INSERT INTO meta VALUES (?, ?)"
_NOTHING_INGESTED = f"""
UPDATE generations SET "offset" = 0, seq = base_seq, lines = 0, line_seq = 0, parts = 0, skip_from = -1,
                       skip_reason = '', chain = x'{segments.START.hex()}', block = x'{segments.START.hex()}'
WHERE how IS NOT 'purged'"""  # noqa: S608
_FINISH = """
UPDATE generations SET seq = ?, ended = ?, how = ?, superseded_by = ?, modified = ?, committed_at = ? WHERE id = ?"""
_INSERT_STREAM = """
INSERT INTO streams (root, path, session_id, format, parent_session_id, forked_from)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_INSERT_GENERATION = """
INSERT INTO generations (stream, device, inode, head_length, head, marker, "offset", seq, lines, line_seq, parts,
                         skip_from, skip_reason, base_seq, chain, block, modified, began, committed_at, ended, how)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_MOVE_WATERMARK = """
UPDATE generations SET head_length = ?, head = ?, marker = ?, "offset" = ?, seq = ?, lines = ?, line_seq = ?,
                       parts = ?, skip_from = ?, skip_reason = ?, chain = ?, block = ?, modified = ?,
                       committed_at = ?
WHERE id = ? AND "offset" = ? AND seq = ? AND chain = ? AND superseded_by IS NULL AND how IS NOT 'purged'"""
_LATEST_GENERATION = "SELECT id, seq FROM generations WHERE stream = ? ORDER BY id DESC LIMIT 1"
_MOVE_SEQ = "UPDATE generations SET seq = ? WHERE id = ? AND seq = ?"
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
_SELECT_SUMMARY = """
SELECT "offset", cwd, branch, "commit", title, models, started, last_event, ended, events, turns, tool_calls, errors,
       state, carry
FROM summaries WHERE generation = ?"""
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


class Watermark(NamedTuple):
    """Bytes taken of a stream's file, its time stamp (nanoseconds) then, and whether it was the live one."""

    key: str
    identity: tuple[int, int]
    offset: int
    modified: int
    live: bool

    @classmethod
    def of(cls, generation: Generation, key: str) -> Watermark:
        """Of a generation that is where the ledger says."""
        how = generation.how
        return cls(key, generation.identity, generation.cursor.offset, generation.modified, how != "rotated")


class Store:
    """The database of one process. Not for sharing between threads. Raises DatabaseError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connection = open_writer(path)
        self._held: _Held = {}
        self.connection.create_scalar_function("held", _let_go(self._held), 1)
        self._version: int = scalar(self.connection, _VERSION)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let all that is written within be one transaction: one commit for many small batches.

        Raises DatabaseError, with nothing of it written.
        """
        with translated(self.path), immediate(self.connection):
            yield

    # -- the ledger, read

    def has_changed(self) -> bool:
        """Whether another connection has written since the last call: what was read of the ledger may be outdated."""
        with translated(self.path):
            version: int = scalar(self.connection, _VERSION)
        known, self._version = self._version, version
        return known != version

    def stream(self, root: str, key: str) -> Stream | None:
        """The stream whose live file is `key` under `root`."""
        with translated(self.path):
            return self._stream(self.connection.execute(_SELECT_STREAM, (root, key)).fetchone())

    def streams_by_identity(self, identity: tuple[int, int]) -> list[Stream]:
        """The streams that have a generation with this device and inode."""
        query = "SELECT DISTINCT stream FROM generations WHERE device = ? AND inode = ?"
        with translated(self.path):
            found = [row[0] for row in self.connection.execute(query, identity)]
            rows = [self.connection.execute(_SELECT_STREAM_BY_ID, (number,)).fetchone() for number in found]
        return [stream for row in rows if (stream := self._stream(row))]

    def roots(self) -> list[str]:
        """The roots that any stream was found under."""
        with translated(self.path):
            return [row[0] for row in self.connection.execute(_ROOTS)]

    def watermarks(self, root: str) -> Iterator[Watermark]:
        """How far each file under the root that is where the ledger says has been taken: it needs no second look."""
        with translated(self.path):
            yield from read_watermarks(self.connection, root)

    def live_keys(self, root: str) -> list[str]:
        """The live files' paths of the streams that were last seen present."""
        query = "SELECT path FROM streams WHERE root = ? AND state = 'live' ORDER BY id"
        with translated(self.path):
            return [row[0] for row in self.connection.execute(query, (root,))]

    def recorded(self, generation: int, start: int, end: int) -> bytes:
        """The recorded bytes of a generation in [start, end). Raises DatabaseError where the record has a hole."""
        with translated(self.path):
            return Record(self.connection, generation).read(start, end - start)

    def as_recorded(self, generation: int, start: int, data: bytes) -> bytes:
        """What a file has from `start` on, with the record's own bytes in the generation's spans.

        Raises DatabaseError where the record has a hole there.
        """
        with translated(self.path):
            record, same = Record(self.connection, generation), bytearray(data)
            for span in record.spans_in(start, start + len(data)):
                first, last = max(span.offset, start), min(span.end, start + len(data))
                same[first - start : last - start] = record.read(first, last - first)
        return bytes(same)

    def chain(self, generation: Generation) -> segments.Chain:
        """The generation's chain at its watermark. Raises DatabaseError where the record has a hole."""
        offset = generation.cursor.offset
        start = offset - offset % segments.BLOCK_BYTES
        rest = self.recorded(generation.id, start, offset) if offset > start else b""
        return segments.Chain(offset, generation.block, rest)

    def _stream(self, row: tuple[object, ...] | None) -> Stream | None:
        if row is None:
            return None
        rows = self.connection.execute(_SELECT_GENERATIONS, row[:1])
        return _stream(row, tuple(map(_generation, rows)))

    def summary(self, generation: int) -> Summary:
        """What the generation's events come to so far."""
        with translated(self.path):
            row = self.connection.execute(_SELECT_SUMMARY, (generation,)).fetchone()
        return Summary() if row is None else Summary(*row[:5], tuple(json.loads(row[5])), *row[6:])  # type: ignore[call-arg]

    # -- the ledger and the rows, written

    def commit(
        self, stream: Stream, generation: Generation, rows: Rows, ending: tuple[int, str, bool] | None
    ) -> Stream:
        """Rows, rejects, segment and watermark in one transaction; `generation` is its state after the batch.

        A generation with id 0 begins here, and with `ending` (id, how, superseded) another one ends. Raises
        StaleWatermarkError, with nothing written, when the ledger is no longer the one that the batch was read by.
        """
        now = time.time()
        with translated(self.path), immediate(self.connection):
            stream = self._begin_stream(stream)
            if generation.id:
                self._move_watermark(stream, generation, now)
            else:
                generation = self._begin_generation(stream, generation, now)
            if ending is not None:
                self._end(ending, generation.id, now)
            self._insert_rows(stream.session_id, rows.of(generation.id << 40))
        return _with_generation(stream, generation, ending, now)

    def end(self, stream: Stream, ending: tuple[int, str, bool] | None, state: str | None = None) -> None:
        """Note that one of the stream's generations has ended, and how; `state` is the stream's from then on.

        Raises StaleWatermarkError, with nothing written, when the ledger no longer says this of the stream.
        """
        with translated(self.path), immediate(self.connection):
            self._check_known(stream)
            if ending is not None:
                self._end(ending, None, time.time())
            self.connection.execute("UPDATE streams SET state = coalesce(?, state) WHERE id = ?", (state, stream.id))

    def resume(
        self,
        stream: Stream,
        found: Generation,
        ending: tuple[int, str, bool] | None = None,
        place: tuple[str, str] | None = None,
    ) -> Stream:
        """Note a generation's file under its new identity and state, and the stream as live, and at a new place.

        With `ending` another generation ends. Raises StaleWatermarkError, with nothing written, when the ledger no
        longer says this of the stream, or has another one at the place.
        """
        now = time.time()
        root, key = place or (stream.root, stream.key)
        with translated(self.path), immediate(self.connection):
            self._check_known(stream)
            if place is not None:
                self._make_room(place)
            self.connection.execute(
                "UPDATE generations SET device = ?, inode = ?, modified = ?, how = ?, ended = ? WHERE id = ?",
                (found.device, found.inode, found.modified, found.how, found.ended, found.id),
            )
            if ending is not None:
                self._end(ending, None, now)
            self.connection.execute(
                "UPDATE streams SET root = ?, path = ?, state = 'live' WHERE id = ?", (root, key, stream.id)
            )
        return _without(stream.having(found), ending, None, now)._replace(root=root, key=key, state="live")

    def copy_ledger(self, former: apsw.Connection) -> None:
        """Take over another database's streams and generations, with nothing ingested yet, under the same ids."""
        with translated(self.path), immediate(self.connection):
            for table, rows in read_ledger(former).items():
                columns = _LEDGER[table]
                places = ", ".join("?" * (columns.count(",") + 1))
                self.connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)  # noqa: S608
            self.connection.execute(_NOTHING_INGESTED)
            self.connection.executemany(_KEEP_NAME, former.execute(_NAME).fetchall())

    def finish(self, generation: Generation, committed_at: float) -> None:
        """Give a generation whose bytes were all taken again the state that it had before."""
        ending = (generation.ended, generation.how, generation.superseded_by, generation.modified, committed_at)
        with translated(self.path), immediate(self.connection):
            self.connection.execute(_FINISH, (generation.cursor.seq, *ending, generation.id))

    def purge(self, stream: Stream) -> None:
        """Forget a stream's events, rejects and segments; tombstones with length and chain stay.

        Raises StaleWatermarkError, with nothing written, when the stream has gone on since it was read.
        """
        now = time.time()
        with translated(self.path), immediate(self.connection):
            known = self._stream(self.connection.execute(_SELECT_STREAM_BY_ID, (stream.id,)).fetchone())
            if known is None or [(g.id, g.cursor) for g in known.generations] != [
                (g.id, g.cursor) for g in stream.generations
            ]:
                raise StaleWatermarkError("another importer wrote this stream meanwhile")
            for generation in stream.generations:
                low = generation.id << 40
                search_index.forget(self.connection, generation.id)
                for table in ("events", "ingest_rejects", "segments"):
                    query = f"DELETE FROM {table} WHERE id BETWEEN ? AND ?"  # noqa: S608
                    self.connection.execute(query, (low, low | 0xFFFFFFFFFF))
                self.connection.execute(
                    "UPDATE hook_runs SET error = NULL WHERE event BETWEEN ? AND ?", (low, low | 0xFFFFFFFFFF)
                )
                for table in ("summaries", "usage", "secrets", "secret_watermarks", "redacted_spans"):
                    self.connection.execute(f"DELETE FROM {table} WHERE generation = ?", (generation.id,))  # noqa: S608
                cursor = generation.cursor
                stone = (generation.id, stream.session_id, cursor.offset, cursor.lines, generation.chain, now)
                self.connection.execute("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?, ?, ?)", stone)
                self.connection.execute(
                    "UPDATE generations SET how = 'purged', ended = coalesce(ended, ?) WHERE id = ?",
                    (now, generation.id),
                )
            self.connection.execute("UPDATE streams SET state = 'purged' WHERE id = ?", (stream.id,))

    def note_error(self, root: str, key: str, session_id: str, form: str, error: str | None) -> None:
        """Keep the stream's last error, or clear it; a stream that has no row gets one for an error."""
        with translated(self.path), immediate(self.connection):
            if error is not None:
                self.connection.execute(_INSERT_STREAM, (root, key, session_id, form, None, None))
            self.connection.execute(
                "UPDATE streams SET error = ?, error_at = ? WHERE root = ? AND path = ?",
                (error, time.time() if error else None, root, key),
            )

    def noted(self, key: str) -> str | None:
        """One fact of `meta`."""
        with translated(self.path):
            found: str | None = scalar(self.connection, "SELECT value FROM meta WHERE key = ?", (key,))
        return found

    def note(self, key: str, value: str | None) -> None:
        """Set or remove one fact about the daemon in `meta`."""
        with translated(self.path), immediate(self.connection):
            if value is None:
                self.connection.execute("DELETE FROM meta WHERE key = ?", (key,))
            else:
                self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _check_known(self, stream: Stream) -> None:
        """Raise StaleWatermarkError when the ledger no longer says this of the stream; within a transaction."""
        if scalar(self.connection, _VERSION) != self._version:
            known = self._stream(self.connection.execute(_SELECT_STREAM_BY_ID, (stream.id,)).fetchone())
            if known is None or known._replace(error=stream.error) != stream:
                raise StaleWatermarkError("another importer changed the ledger of this stream first")

    def _make_room(self, place: tuple[str, str]) -> None:
        """Forget a stream that was noted at this place for an error alone; raise StaleWatermarkError for another."""
        for number, has_begun in self.connection.execute(_STREAM_AT, place).fetchall():
            if has_begun:
                raise StaleWatermarkError("another importer found a stream there first")
            self.connection.execute("DELETE FROM streams WHERE id = ?", (number,))

    def _begin_stream(self, stream: Stream) -> Stream:
        if stream.id:
            return stream
        key = (stream.root, stream.key)
        names = (stream.session_id, stream.format, stream.parent, stream.forked_from)
        self.connection.execute(_INSERT_STREAM, (*key, *names))
        return stream._replace(id=scalar(self.connection, _SELECT_STREAM, key))

    def _check_alone(self, stream: Stream, identity: tuple[int, int]) -> None:
        """Raise StaleWatermarkError when another stream is of this very path; within a transaction."""
        path = os.path.realpath(os.path.join(stream.root, stream.key))
        for root, key in self.connection.execute(_STREAMS_SHARING, (*identity, stream.id)):
            if os.path.realpath(os.path.join(root, key)) == path:
                raise StaleWatermarkError("another importer found this file first, under another root")

    def _move_watermark(self, stream: Stream, after: Generation, now: float) -> None:
        known = next(g for g in stream.generations if g.id == after.id)
        fingerprint = (after.head_length, after.head, after.marker)
        state = (*after.cursor, after.chain, after.block, after.modified, now)
        guard = (after.id, known.cursor.offset, known.cursor.seq, known.chain)
        self.connection.execute(_MOVE_WATERMARK, (*fingerprint, *state, *guard))
        moved = self.connection.changes()
        current = stream.generations[-1]
        if moved and current.id != after.id:  # late lines of an older generation take the stream's next numbers
            self.connection.execute(_MOVE_SEQ, (after.cursor.seq, current.id, current.cursor.seq))
            moved = self.connection.changes()
        if not moved:
            raise StaleWatermarkError("another importer moved this watermark first")

    def _begin_generation(self, stream: Stream, new: Generation, now: float) -> Generation:
        latest = self.connection.execute(_LATEST_GENERATION, (stream.id,)).fetchone()
        if latest != ((stream.current.id, stream.seq) if stream.current else None):
            raise StaleWatermarkError("another importer began or continued a generation of this stream first")
        self._check_known(stream)
        if not stream.generations:
            self._check_alone(stream, new.identity)
        fingerprint = (new.head_length, new.head, new.marker)
        state = (*new.cursor, new.base_seq, new.chain, new.block, new.modified, now, now, new.ended, new.how)
        self.connection.execute(_INSERT_GENERATION, (stream.id, *new.identity, *fingerprint, *state))
        self.connection.execute("UPDATE streams SET state = 'live' WHERE id = ? AND state <> 'live'", (stream.id,))
        return new._replace(id=self.connection.last_insert_rowid(), stream=stream.id, began=now)

    def _end(self, ending: tuple[int, str, bool], successor: int | None, now: float) -> None:
        number, how, superseded = ending
        self.connection.execute(
            "UPDATE generations SET ended = ?, how = ?, superseded_by = ? WHERE id = ? AND how IS NOT 'purged'",
            (now, how, successor if superseded else None, number),
        )

    def _insert_rows(self, session_id: str, rows: Rows) -> None:
        execute, execute_many = self.connection.execute, self.connection.executemany
        if rows.usage:
            execute_many(INSERT_USAGE, rows.usage)
        execute(INSERT_SUMMARY, summary_row(rows.key >> 40, rows.summary))
        if rows.rejects:
            execute_many(INSERT_REJECT, [reject_row(rows.key, session_id, reject) for reject in rows.rejects])
        if rows.spans:
            spans.write(self.connection, rows.key >> 40, rows.spans)
        is_long, segment_rows = len(rows.pieces) > 1, _segment_rows(rows)
        for row in islice(segment_rows, len(rows.pieces) - 1):
            execute(_INSERT_SEGMENT, row)
        if not is_long:
            execute_many(INSERT_EVENT, rows.events)
        while is_long and rows.events:
            self._insert_long_event(rows.events)
        execute(_INSERT_SEGMENT, next(segment_rows))  # the last: legacy.py's trigger looks at its events

    def _insert_long_event(self, events: list[Row]) -> None:
        """Insert the first event, and let go of its texts before SQLite makes the row: it needs two copies itself."""
        number, ts, role, kind, message, meta, *rest = events.pop(0)
        self._held.update(message=message, meta=meta)
        del message, meta
        try:
            self.connection.execute(INSERT_EVENT, (number, ts, role, kind, "", None, *rest))
            self.connection.execute(_SET_TEXTS, (number,))
        finally:
            self._held.clear()


def _let_go(held: _Held) -> Callable[..., str | bytes | None]:
    """The SQL function that gives one of the held texts; it knows no store, which would then never be collected."""
    return lambda name: held.pop(name)


def read_ledger(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The ledger's rows, by table: what a database that is built anew can't have from the bytes."""
    return {
        table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
        for table, columns in _LEDGER.items()
    }


def _segment_rows(rows: Rows) -> Iterator[Row]:
    """The batch's segments, each of one piece, which is let go of; lines are counted in the last of them."""
    end = rows.before.offset
    for chain in rows.chains:
        start, end = end, end + len(rows.pieces[0])
        frame = rows.frame or segments.compress(rows.pieces[0])
        del rows.pieces[0]
        lines = 0 if rows.pieces else rows.after.lines - rows.before.lines
        yield (rows.key | start, end, rows.before.seq + 1, lines, chain, frame)


def read_watermarks(connection: apsw.Connection, root: str) -> Iterator[Watermark]:
    """What `Store.watermarks` gives, for readers."""
    for key, device, inode, *rest in connection.execute(_WATERMARKS, (root,)):
        yield Watermark(str(key), (device, inode), *rest)


def read_streams(connection: apsw.Connection) -> list[Stream]:
    """Every stream with its generations, oldest first."""
    generations: dict[object, list[Generation]] = {}
    for row in connection.execute(_SELECT_ALL_GENERATIONS):
        generations.setdefault(row[1], []).append(_generation(row))
    rows = connection.execute(_SELECT_ALL_STREAMS)
    return [_stream(row, tuple(generations.get(row[0], ()))) for row in rows]


def read_stream_of(connection: apsw.Connection, generation: int) -> Stream | None:
    """The stream that this generation is of, with all its generations; None when there is no such one."""
    for row in connection.execute(_SELECT_STREAM_OF, (generation,)):
        rows = connection.execute(_SELECT_GENERATIONS, row[:1])
        return _stream(row, tuple(map(_generation, rows)))
    return None


def _stream(row: tuple[Any, ...], generations: tuple[Generation, ...]) -> Stream:
    number, root, key, session_id, form, *rest = row
    return Stream(number, root, key, session_id, form, generations, *rest)


def _generation(row: tuple[Any, ...]) -> Generation:
    return Generation(*row[:7], Cursor(*row[7:14]), *row[14:])  # type: ignore[call-arg]


def _without(stream: Stream, ending: tuple[int, str, bool] | None, successor: int | None, now: float) -> Stream:
    """The stream once one of its generations has ended."""
    if ending is None:
        return stream
    number, how, superseded = ending
    former = next(g for g in stream.generations if g.id == number)
    return stream.having(former._replace(ended=now, how=how, superseded_by=successor if superseded else None))


def _with_generation(
    stream: Stream, generation: Generation, ending: tuple[int, str, bool] | None, now: float
) -> Stream:
    """The stream as the transaction left it."""
    stream = _without(stream, ending, generation.id, now)
    if stream.generations and stream.generations[-1].id == generation.id:
        return stream._replace(generations=(*stream.generations[:-1], generation))
    known = list(stream.generations)
    if any(g.id == generation.id for g in known):
        seq = generation.cursor.seq
        known = [generation if g.id == generation.id else g for g in known]
        known[-1] = known[-1]._replace(cursor=known[-1].cursor._replace(seq=seq))
    else:
        known.append(generation)
        stream = stream._replace(state="live")
    return stream._replace(generations=tuple(known))
