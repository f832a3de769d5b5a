"""Give the NDJSON back, byte for byte, from the database alone."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import apsw

from codex.logging.errors import CodexLoggingError, NoSuchSessionError
from codex.logging.events import Generation, Stream
from codex.logging.store.connection import scalar
from codex.logging.store.record import Record
from codex.logging.store.streams import read_streams

_PLACE = """
SELECT generation, "offset" FROM events WHERE id BETWEEN ?1 AND ?2
UNION ALL SELECT generation, "offset" FROM ingest_rejects
WHERE generation = ?3 AND seq = ?4 AND id BETWEEN ?3 << 40 AND (?3 << 40) + 0xffffffffff
ORDER BY 2 LIMIT 1"""
_WINDOW = 1 << 16


def session_streams(connection: apsw.Connection, session_id: str) -> list[Stream]:
    """The session's streams. Raises NoSuchSessionError, naming near ones, when there is none."""
    streams = read_streams(connection)
    found = [stream for stream in streams if stream.session_id == session_id]
    if not found:
        near = get_close_matches(session_id, {stream.session_id for stream in streams}, 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`codex-ingestd status` lists the sessions."
        raise NoSuchSessionError(f"there is no session {session_id!r} in the database", hint=hint)
    return found


def chosen_generations(streams: list[Stream], number: int | None) -> list[Generation]:
    """The generations in the default view, or the one with this number. Raises CodexLoggingError for a wrong one."""
    if number is None:
        standing = [generation for stream in streams for generation in stream.standing]
        if not standing and any(stream.generations for stream in streams):
            raise CodexLoggingError("the session was purged: its bytes are gone")
        return standing
    known = [generation for stream in streams for generation in stream.generations]
    found = [generation for generation in known if generation.id == number]
    if not found:
        names = ", ".join(str(generation.id) for generation in known)
        raise NoSuchSessionError(f"the session has no generation {number}", hint=f"It has {names}.")
    return found


def restored(connection: apsw.Connection, generations: list[Generation]) -> Iterator[bytes]:
    """The recorded bytes of the generations, one after the other, in pieces of at most 1 MiB.

    Raises DatabaseError where the record has a hole, CodexLoggingError where it was purged.
    """
    for generation in generations:
        if scalar(connection, "SELECT 1 FROM tombstones WHERE generation = ?", (generation.id,)):
            raise CodexLoggingError(f"generation {generation.id} was purged: its bytes are gone")
        yield from Record(connection, generation.id).chunks(generation.cursor.offset)


def raw_line(connection: apsw.Connection, streams: list[Stream], seq: int) -> bytes:
    """The exact bytes of the physical line `seq`, with its line end where it has one.

    Raises CodexLoggingError when the session has no such line.
    """
    for stream in streams:
        for generation in reversed(stream.standing):
            low = generation.id << 40
            first, last = low | seq << 8, low | seq << 8 | 0xFF
            row = connection.execute(_PLACE, (first, last, generation.id, seq)).fetchone()
            if row is not None:
                return _line_at(Record(connection, generation.id), int(str(row[1])), generation.cursor.offset)
    raise NoSuchSessionError(
        f"the session has no line {seq}", hint="`codex-logs show SESSION` has the number of each line behind a #."
    )


def _line_at(record: Record, offset: int, length: int) -> bytes:
    start, found = offset, -1
    while start > 0 and found < 0:
        window = min(start, _WINDOW)
        found = record.read(start - window, window).rfind(b"\n")
        start = start - window + found + 1 if found >= 0 else start - window
    end, line_end = offset, -1
    while end < length and line_end < 0:
        piece = record.read(end, min(_WINDOW, length - end))
        line_end = piece.find(b"\n")
        end += line_end + 1 if line_end >= 0 else len(piece)
    return record.read(start, end - start)
