"""The ledger, read: streams with their generations, and what each has of its files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from codex.logging.events import Cursor, Generation, Stream

_GENERATION_COLUMNS = (
    'id, stream, device, inode, head_length, head, marker, "offset", seq, lines, line_seq, parts, skip_from,'
    " skip_reason, base_seq, chain, block, modified, began, ended, how, superseded_by"
)
_STREAM_COLUMNS = "id, root, path, session_id, format, error, parent_session_id, forked_from, state"
_SELECT_GENERATIONS = f"SELECT {_GENERATION_COLUMNS} FROM generations WHERE stream = ? ORDER BY id"  # noqa: S608
_SELECT_STREAM = f"SELECT {_STREAM_COLUMNS} FROM streams WHERE root = ? AND path = ?"  # noqa: S608
_SELECT_STREAM_BY_ID = f"SELECT {_STREAM_COLUMNS} FROM streams WHERE id = ?"  # noqa: S608
_SELECT_STREAMS_BY_IDENTITY = f"""
SELECT {_STREAM_COLUMNS} FROM streams
WHERE id IN (SELECT stream FROM generations WHERE device = ? AND inode = ?)"""  # noqa: S608
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
_LIVE_KEYS = "SELECT path FROM streams WHERE root = ? AND state = 'live' ORDER BY id"
LEDGER = {
    "streams": "id, root, path, session_id, parent_session_id, forked_from, format, state",
    "generations": 'id, stream, device, inode, head_length, head, marker, "offset", seq, lines, line_seq, parts,'
    " skip_from, skip_reason, base_seq, chain, block, modified, began, committed_at, ended, how",
    "tombstones": "generation, session_id, length, lines, chain, purged_at",
}


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


def read_stream(connection: apsw.Connection, root: str, key: str) -> Stream | None:
    """The stream whose live file is `key` under `root`."""
    return next(_streams(connection, _SELECT_STREAM, (root, key)), None)


def read_stream_by_id(connection: apsw.Connection, number: int) -> Stream | None:
    """The stream with this id."""
    return next(_streams(connection, _SELECT_STREAM_BY_ID, (number,)), None)


def read_stream_of(connection: apsw.Connection, generation: int) -> Stream | None:
    """The stream that this generation is of, with all its generations; None when there is no such one."""
    return next(_streams(connection, _SELECT_STREAM_OF, (generation,)), None)


def read_streams_by_identity(connection: apsw.Connection, identity: tuple[int, int]) -> list[Stream]:
    """The streams that have a generation with this device and inode."""
    return list(_streams(connection, _SELECT_STREAMS_BY_IDENTITY, identity))


def read_streams(connection: apsw.Connection) -> list[Stream]:
    """Every stream with its generations, oldest first."""
    generations: dict[object, list[Generation]] = {}
    for row in connection.execute(_SELECT_ALL_GENERATIONS):
        generations.setdefault(row[1], []).append(_generation(row))
    rows = connection.execute(_SELECT_ALL_STREAMS)
    return [_stream(row, tuple(generations.get(row[0], ()))) for row in rows]


def read_roots(connection: apsw.Connection) -> list[str]:
    """The roots that any stream was found under."""
    return [row[0] for row in connection.execute(_ROOTS)]


def read_live_keys(connection: apsw.Connection, root: str) -> list[str]:
    """The live files' paths of the streams that were last seen present."""
    return [row[0] for row in connection.execute(_LIVE_KEYS, (root,))]


def read_watermarks(connection: apsw.Connection, root: str) -> Iterator[Watermark]:
    """How far each file under the root that is where the ledger says has been taken: it needs no second look."""
    for key, device, inode, *rest in connection.execute(_WATERMARKS, (root,)):
        yield Watermark(str(key), (device, inode), *rest)


def read_ledger(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The ledger's rows, by table: what a database that is built anew can't have from the bytes."""
    return {
        table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
        for table, columns in LEDGER.items()
    }


def _streams(connection: apsw.Connection, query: str, values: tuple[object, ...]) -> Iterator[Stream]:
    """Those that the query gives; it is read to its end before the first is given."""
    for row in connection.execute(query, values).fetchall():
        yield _stream(row, tuple(map(_generation, connection.execute(_SELECT_GENERATIONS, row[:1]))))


def _stream(row: tuple[Any, ...], generations: tuple[Generation, ...]) -> Stream:
    number, root, key, session_id, form, *rest = row
    return Stream(number, root, key, session_id, form, generations, *rest)


def _generation(row: tuple[Any, ...]) -> Generation:
    return Generation(*row[:7], Cursor(*row[7:14]), *row[14:])  # type: ignore[call-arg]
