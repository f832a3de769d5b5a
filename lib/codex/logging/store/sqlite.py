"""The one place that writes rows. Each public method is one transaction, or a part of a group's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from codex.logging.errors import StaleWatermarkError
from codex.logging.events import Ending, Generation, Stream, Summary
from codex.logging.store import search_index, segments
from codex.logging.store.connection import immediate, open_writer, scalar, translated
from codex.logging.store.inserts import Inserts
from codex.logging.store.record import Record
from codex.logging.store.rows import Rows
from codex.logging.store.streams import (
    LEDGER,
    Watermark,
    read_ledger,
    read_live_keys,
    read_roots,
    read_stream,
    read_stream_by_id,
    read_streams_by_identity,
    read_watermarks,
)

_VERSION = "PRAGMA data_version"
_ID_OF_STREAM = "SELECT id FROM streams WHERE root = ? AND path = ?"
_STREAM_AT = """
SELECT id, EXISTS (SELECT 1 FROM generations WHERE stream = streams.id) FROM streams WHERE root = ? AND path = ?"""
_STREAMS_SHARING = """
SELECT s.root, s.path FROM generations AS g JOIN streams AS s ON s.id = g.stream
WHERE g.device = ? AND g.inode = ? AND s.id <> ?"""
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
_SELECT_SUMMARY = """
SELECT "offset", cwd, branch, "commit", title, models, started, last_event, ended, events, turns, tool_calls, errors,
       state, carry
FROM summaries WHERE generation = ?"""


class Store:
    """The database of one process. Not for sharing between threads. Raises DatabaseError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connection = open_writer(path)
        self._inserts = Inserts(self.connection)
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
            return read_stream(self.connection, root, key)

    def streams_by_identity(self, identity: tuple[int, int]) -> list[Stream]:
        """The streams that have a generation with this device and inode."""
        with translated(self.path):
            return read_streams_by_identity(self.connection, identity)

    def roots(self) -> list[str]:
        """The roots that any stream was found under."""
        with translated(self.path):
            return read_roots(self.connection)

    def watermarks(self, root: str) -> Iterator[Watermark]:
        """How far each file under the root that is where the ledger says has been taken: it needs no second look."""
        with translated(self.path):
            yield from read_watermarks(self.connection, root)

    def live_keys(self, root: str) -> list[str]:
        """The live files' paths of the streams that were last seen present."""
        with translated(self.path):
            return read_live_keys(self.connection, root)

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

    def summary(self, generation: int) -> Summary:
        """What the generation's events come to so far."""
        with translated(self.path):
            row = self.connection.execute(_SELECT_SUMMARY, (generation,)).fetchone()
        return Summary() if row is None else Summary(*row[:5], tuple(json.loads(row[5])), *row[6:])  # type: ignore[call-arg]

    # -- the ledger and the rows, written

    def commit(self, stream: Stream, generation: Generation, rows: Rows, ending: Ending | None) -> Stream:
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
            self._inserts.write(stream.session_id, rows.of(generation.id << 40))
        if ending is not None:
            stream = stream.ended(ending, now, generation.id)
        return stream.advanced(generation)

    def end(self, stream: Stream, ending: Ending | None, state: str | None = None) -> None:
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
        ending: Ending | None = None,
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
        stream = stream.having(found)
        if ending is not None:
            stream = stream.ended(ending, now)
        return stream._replace(root=root, key=key, state="live")

    def copy_ledger(self, former: apsw.Connection) -> None:
        """Take over another database's streams and generations, with nothing ingested yet, under the same ids."""
        with translated(self.path), immediate(self.connection):
            for table, rows in read_ledger(former).items():
                columns = LEDGER[table]
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
            known = read_stream_by_id(self.connection, stream.id)
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
            known = read_stream_by_id(self.connection, stream.id)
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
        return stream._replace(id=scalar(self.connection, _ID_OF_STREAM, key))

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

    def _end(self, ending: Ending, successor: int | None, now: float) -> None:
        number, how, is_superseded = ending
        self.connection.execute(
            "UPDATE generations SET ended = ?, how = ?, superseded_by = ? WHERE id = ? AND how IS NOT 'purged'",
            (now, how, successor if is_superseded else None, number),
        )
