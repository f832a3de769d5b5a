"""Which secrets a database holds: what is new is scanned, what was found before is remembered.

Scanned are the recorded bytes of each generation, its events' messages and meta, and every text and blob of every other
table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from codex.logging.secrets.scan import OVERLAP_BYTES
from codex.logging.secrets.search import Search
from codex.logging.store.connection import has_relation, immediate, scalar
from codex.logging.store.record import Record

_PIECE = 1 << 20
_MARK = "secret_rules"
_SET_MARK = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_SCANNED = (
    "SELECT * FROM secrets",
    "SELECT * FROM secret_watermarks",
    "SELECT key, value FROM meta WHERE key = 'secret_rules'",
)
_BEHIND = """
SELECT g.id, g."offset", coalesce(w.event, g.id << 40), coalesce(w."offset", 0)
FROM generations AS g LEFT JOIN secret_watermarks AS w ON w.generation = g.id
WHERE g."offset" > coalesce(w."offset", 0) AND g.how IS NOT 'purged' ORDER BY g.id"""
_KEEP = """
INSERT INTO secrets VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET length = max(length, excluded.length)"""
_MOVE = "INSERT OR REPLACE INTO secret_watermarks VALUES (?, ?, ?)"
_EVENTS = """
SELECT id, message, meta, "offset", length FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id"""
_EVENT_AT = 'SELECT id, seq, "offset" FROM events WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1'
_REJECT_AT = 'SELECT seq, "offset" FROM ingest_rejects WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1'
_KNOWN = """
SELECT coalesce(s.session_id, ''), k.generation, k.seq, k.rule, k.hash, k."offset", k.length
FROM secrets AS k LEFT JOIN generations AS g ON g.id = k.generation LEFT JOIN streams AS s ON s.id = g.stream
WHERE g.how IS NOT 'purged' ORDER BY k.generation, k."offset\""""
_OTHERS = """
SELECT name FROM sqlite_schema JOIN pragma_table_list AS list USING (name)
WHERE list.schema = 'main' AND list.type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
  AND name NOT IN ('events', 'segments', 'secrets', 'secret_watermarks', 'search_watermarks', 'usage',
                   'redacted_spans')"""


class Found(NamedTuple):
    """A secret: of a session's line, at bytes [offset, offset + length) of a generation.

    One that stands in another table alone has generation 0, that table's name for a session, and a row's number.
    """

    session_id: str
    generation: int
    seq: int
    rule: str
    hash: str
    offset: int
    length: int


def survey(connection: apsw.Connection, search: Search) -> list[Found]:
    """Scan what is new, and give all that is known. Raises apsw.Error."""
    if scalar(connection, "SELECT value FROM meta WHERE key = ?", (_MARK,)) != search.allowed.mark:
        with immediate(connection):
            connection.execute("DELETE FROM secrets; DELETE FROM secret_watermarks")
            connection.execute(_SET_MARK, (_MARK, search.allowed.mark))
    behind: list[Any] = connection.execute(_BEHIND).fetchall()
    for generation, end, event, start in behind:
        spans = dict(_in_bytes(connection, search, generation, start, end))
        last = scalar(connection, "SELECT max(id) FROM events WHERE id BETWEEN ? AND ?", _ids(generation)) or event
        spans |= _in_events(connection, search, (event, last), spans)
        with immediate(connection):
            for offset, (length, rule, hashed) in spans.items():
                seq = _seq_at(connection, generation, offset)
                connection.execute(_KEEP, (generation, offset, length, seq, rule, hashed))
            connection.execute(_MOVE, (generation, last, end))
    return [*known(connection), *_in_others(connection, search)]


def known(connection: apsw.Connection) -> list[Found]:
    """What was found before, in the order of the record."""
    if not has_relation(connection, "secrets"):
        return []
    rows: Any = connection.execute(_KNOWN)
    return [Found(*row) for row in rows]


def remember(connection: apsw.Connection, scanned: apsw.Connection) -> None:
    """Take over what a copy of this database was found to hold; nothing is written where that is known already."""
    found: Any = [scanned.execute(query).fetchall() for query in _SCANNED]
    if found == [connection.execute(query).fetchall() for query in _SCANNED]:
        return
    with immediate(connection):
        connection.execute("DELETE FROM secrets; DELETE FROM secret_watermarks")
        for query, rows in zip((_KEEP, _MOVE, _SET_MARK), found, strict=True):
            connection.executemany(query, rows)


def is_scanned(connection: apsw.Connection) -> bool:
    """Whether nothing was committed since the last scan."""
    return connection.execute(_BEHIND).fetchone() is None


def remains(path: str, search: Search) -> set[bytes]:
    """What looks like a secret in the bytes of a database file: of rows, of deleted ones, or where two of them meet."""
    found: set[bytes] = set()
    text = b""
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            text += piece
            found.update(text[match.start : match.end] for match, _ in search.find(text))
            text = text[-OVERLAP_BYTES:]
    return found


_Spans = dict[int, tuple[int, str, str]]


def _ids(generation: int) -> tuple[int, int]:
    return generation << 40, generation << 40 | 0xFFFFFFFFFF


def _in_bytes(
    connection: apsw.Connection, search: Search, generation: int, start: int, end: int
) -> Iterator[tuple[int, tuple[int, str, str]]]:
    """Offset, and length, rule and hash; what a window cuts off, the next one has whole."""
    record, longest = Record(connection, generation), dict[int, int]()
    place, text = max(0, start - OVERLAP_BYTES), b""
    begin = place
    while place < end:
        segment = record.segment(place)
        if segment is None or segment.data is None:  # nothing can be read there, by others neither
            following = record.next_start(place) if segment is None else segment.following
            place, text = (end if following is None else following), b""
            begin = place
            continue
        text += segment.data[place - segment.start : end - segment.start]
        place = min(segment.end, end)
        if len(text) >= _PIECE or place >= end:
            for match, hashed in search.find(text):
                length = match.end - match.start
                if length > longest.get(begin + match.start, 0):
                    longest[begin + match.start] = length
                    yield begin + match.start, (length, match.rule, hashed)
            text = text[-OVERLAP_BYTES:]
            begin = place - len(text)


def _in_events(connection: apsw.Connection, search: Search, events: tuple[int, int], spans: _Spans) -> _Spans:
    """What is found in the texts of events alone, and not in their bytes: the whole line, for want of a place."""
    found: _Spans = {}
    starts: list[int] = []
    places: list[tuple[int, int]] = []
    pieces: list[bytes] = []
    size = 0

    def look() -> None:
        for match, hashed in search.find(b"\0".join(pieces)):
            offset, length = places[bisect_right(starts, match.start) - 1]
            if not any(offset <= at < offset + length and span[2] == hashed for at, span in spans.items()):
                found[offset] = (length, match.rule, hashed)

    rows: Any = connection.execute(_EVENTS, events)
    for _, message, meta, offset, length in rows:
        for text in (message, meta):
            if text:
                starts.append(size)
                places.append((offset, length))
                pieces.append(text.encode("utf-8", "surrogatepass"))
                size += len(pieces[-1]) + 1
        if size >= _PIECE:
            look()
            starts, places, pieces, size = [], [], [], 0
    look()
    return found


def _in_others(connection: apsw.Connection, search: Search) -> Iterator[Found]:
    for (name,) in connection.execute(_OTHERS).fetchall():
        quoted = '"' + str(name).replace('"', '""') + '"'
        rows: Any = connection.execute(f"SELECT * FROM {quoted}")  # noqa: S608
        for number, row in enumerate(rows, 1):
            for cell in row:
                text = cell.encode("utf-8", "surrogatepass") if isinstance(cell, str) else cell
                if isinstance(text, bytes):
                    for match, hashed in search.find(text):
                        yield Found(str(name), 0, number, match.rule, hashed, match.start, match.end - match.start)


def _seq_at(connection: apsw.Connection, generation: int, offset: int) -> int:
    """The number of the line that a byte is in."""
    first, last = _ids(generation)
    low, high, best = first, last, (0, -1)
    while low <= high:
        row: Any = connection.execute(_EVENT_AT, (first, (low + high) // 2)).fetchone()
        if row is None or row[2] <= offset:
            best = best if row is None else (row[1], row[2])
            low = (low + high) // 2 + 1
        else:
            high = row[0] - 1
    reject: Any = connection.execute(_REJECT_AT, (first, first | offset)).fetchone()
    return int(reject[0]) if reject is not None and reject[1] > best[1] else best[0]
