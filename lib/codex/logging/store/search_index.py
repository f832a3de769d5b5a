"""Full-text search: an FTS5 index of the events' messages, filled behind a watermark of its own, and never row by row.

Superseded lives are taken out of it again. The watermarks tell what is not in it yet: a reader covers the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import apsw

from codex.logging.store.connection import has_relation, immediate, scalar

TOKENIZER = "unicode61 remove_diacritics 2"
# What is indexed of an event, in the words of the view `searchable`.
SEARCHED = "CASE WHEN length <= 262144 THEN message ELSE substr(message, 1, 262144) END"
_LONGEST = 262144
SHORT_BYTES = 48 << 10  # of text in one transaction: some 2 ms
LONG_BYTES = 1 << 20
SHORT_PAGES = 32  # merged in one transaction: some 2 ms
LONG_PAGES = 512
_ROW_BYTES = 64  # what a row costs besides its text
_SAMPLED_WORDS = 16
_GENERATION_BYTES = 512  # what a generation costs besides its rows

_BEHIND = """
SELECT g.id, g."offset" - coalesce(w."offset", 0) FROM generations AS g
LEFT JOIN search_watermarks AS w ON w.generation = g.id
WHERE g."offset" > coalesce(w."offset", 0) AND g.superseded_by IS NULL AND g.how IS NOT 'purged' ORDER BY g.id"""
_SUPERSEDED = """
SELECT w.generation, 0 FROM search_watermarks AS w JOIN generations AS g ON g.id = w.generation
WHERE g.superseded_by IS NOT NULL ORDER BY 1"""
_STATE = """
SELECT g."offset", coalesce(w.event, g.id << 40), coalesce(w."offset", 0),
       g.superseded_by IS NOT NULL OR g.how IS 'purged'
FROM generations AS g LEFT JOIN search_watermarks AS w ON w.generation = g.id WHERE g.id = ?"""
_NEXT = f"""
SELECT id, min(octet_length(message), {_LONGEST}), "offset" + length FROM events
WHERE id > ?1 AND id <= ?2 ORDER BY id"""  # noqa: S608
_LAST = f"""
SELECT id, min(octet_length(message), {_LONGEST}) FROM events WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC"""  # noqa: S608
_MOVE = 'INSERT OR REPLACE INTO search_watermarks (generation, event, "offset") VALUES (?, ?, ?)'
_INSERT = f"""
INSERT INTO search_index (rowid, message)
SELECT id, {SEARCHED} FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id"""  # noqa: S608
_DELETE = f"""
INSERT INTO search_index (search_index, rowid, message)
SELECT 'delete', id, {SEARCHED} FROM events WHERE id BETWEEN ?1 AND ?2 ORDER BY id"""  # noqa: S608
_WATERMARK = "SELECT event FROM search_watermarks WHERE generation = ?"
_TEXTS = f"SELECT id, {SEARCHED} FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id"  # noqa: S608
_SIZES = "SELECT id, sz FROM search_index_docsize WHERE id BETWEEN ? AND ?"
_SURPLUS = "SELECT count(*) FROM search_index_docsize WHERE id BETWEEN ? AND ?"
_WITH_WORD = "SELECT rowid FROM search_index WHERE search_index MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid"
_SAMPLE = "SELECT term FROM words ORDER BY doc DESC, term LIMIT ?"
_FORGET = "DELETE FROM search_watermarks WHERE generation = ?"
_MERGE = "INSERT INTO search_index (search_index, rank) VALUES ('merge', ?)"


class Behind(NamedTuple):
    """A generation of which some events are not indexed yet, and how many bytes of its file those are."""

    generation: int
    length: int


class _Taken(NamedTuple):
    """What a bit of work cost, in bytes of text; by how much of the file it went on; whether there is more."""

    cost: int
    advanced: int
    more: bool


def behind(connection: apsw.Connection) -> list[Behind]:
    """What is to be indexed, oldest first; what is to be taken out of the index stands first, with no bytes."""
    rows: list[Any] = [row for query in (_SUPERSEDED, _BEHIND) for row in connection.execute(query)]
    return [Behind(*row) for row in rows]


class Filler:
    """Brings the index up to what is committed, step by step; each is one transaction, and it may stop at any."""

    def __init__(self, connection: apsw.Connection, piece: int = SHORT_BYTES, pages: int = SHORT_PAGES) -> None:
        """`piece` is about how much text a step takes, in bytes, `pages` how many pages of the index it merges."""
        self._connection = connection
        self._piece = piece
        self._pages = pages
        self._behind: list[Behind] = []
        self._merges = False

    @property
    def left(self) -> int:
        """Bytes of files whose events are to be indexed yet, as it was when it looked."""
        return sum(one.length for one in self._behind)

    def look(self) -> bool:
        """See what there is to do; whether there is anything."""
        self._behind = behind(self._connection)[::-1]
        self._merges = False
        return bool(self._behind)

    def step(self) -> bool:
        """Index or merge a bit, by turns; False when nothing is left to do. Raises apsw.Error."""
        if self._behind and not self._merges:
            self._fill()
            self._merges = True
        else:
            self._merges = merge(self._connection, self._pages) and not self._behind
        return bool(self._behind) or self._merges

    def _fill(self) -> None:
        """One piece; what is wholly done leaves the list once it is committed."""
        cost, done, advanced, more = 0, 0, 0, False
        with immediate(self._connection):
            while cost < self._piece and done < len(self._behind):
                taken = _take(self._connection, self._behind[-1 - done].generation, self._piece - cost)
                cost, advanced, more = cost + taken.cost, taken.advanced, taken.more
                done += not more
        del self._behind[len(self._behind) - done :]
        if more:
            one = self._behind[-1]
            self._behind[-1] = one._replace(length=max(0, one.length - advanced))


def merge(connection: apsw.Connection, pages: int) -> bool:
    """Merge segments of the index, about so many pages, where there are many; whether anything was done."""
    before = connection.total_changes()
    with immediate(connection):
        connection.execute(_MERGE, (pages,))
    return connection.total_changes() - before > 1


def compact(connection: apsw.Connection) -> None:
    """Merge all into one segment, so that nothing is left of the words of what was taken out."""
    pages = -LONG_PAGES
    while merge(connection, pages):
        pages = LONG_PAGES


def forget(connection: apsw.Connection, generation: int) -> None:
    """Take a generation's events out of the index, while they are still there; within the caller's transaction."""
    while _take_out(connection, generation, LONG_BYTES).more:
        pass


def forget_event(connection: apsw.Connection, event: int) -> None:
    """Take one event out of the index, if it is in it, while it is still there; within the caller's transaction."""
    if _is_behind(connection, event):
        connection.execute(_DELETE, (event, event))


def take_event(connection: apsw.Connection, event: int) -> None:
    """Put one event into the index, where others behind it are; within the caller's transaction."""
    if _is_behind(connection, event):
        connection.execute(_INSERT, (event - 1, event))


def _is_behind(connection: apsw.Connection, event: int) -> bool:
    return event <= (scalar(connection, _WATERMARK, (event >> 40,)) or 0)


def scratch(texts: Iterable[tuple[int, str]]) -> apsw.Connection:
    """An index like this one, in memory, of these texts by their ids: the table `scratch`."""
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE scratch USING fts5 (message, tokenize = '{TOKENIZER}')")
    with connection:
        connection.executemany("INSERT INTO scratch (rowid, message) VALUES (?, ?)", sorted(texts))
    return connection


def differences(connection: apsw.Connection, generation: int) -> Iterator[str | None]:
    """What is wrong with the index of a generation, beside a MiB of its messages made anew at a time; None after each.

    Of each MiB every message must be there with its count of words, and its most frequent words with their messages.
    Nothing is said where the database has no index.
    """
    if not has_relation(connection, "search_index"):
        return
    after: int | None = generation << 40
    while after is not None:
        with connection:  # one state of rows and index, however many are added meanwhile
            found, after = _compare(connection, generation, after)
        yield from found
        yield None


def _compare(connection: apsw.Connection, generation: int, after: int) -> tuple[list[str], int | None]:
    """What is wrong with the next messages' index, and the last of them; None when there are no more."""
    end = generation << 40 | 0xFFFFFFFFFF
    event = max(after, int(scalar(connection, _WATERMARK, (generation,)) or 0))
    texts: list[tuple[int, str]] = []
    left = LONG_BYTES
    rows: Any = connection.execute(_TEXTS, (after, event))
    while left > 0 and (row := next(rows, None)) is not None:
        texts.append(row)
        left -= len(row[1]) + _ROW_BYTES
    last = texts[-1][0] if left <= 0 else None
    found = list(_wrong(connection, texts, after + 1, event if last is None else last))
    surplus = scalar(connection, _SURPLUS, (event + 1, end)) if last is None else 0
    return found + ([f"the index has {surplus} messages that it says it lacks"] if surplus else []), last


def _wrong(connection: apsw.Connection, texts: list[tuple[int, str]], first: int, last: int) -> Iterator[str]:
    with closing(scratch(texts)) as made:
        expected: dict[Any, Any] = dict(made.execute("SELECT id, sz FROM scratch_docsize").fetchall())  # type: ignore[arg-type]
        known: dict[Any, Any] = dict(connection.execute(_SIZES, (first, last)).fetchall())  # type: ignore[arg-type]
        if expected != known:
            differing = sum(expected.get(event) != known.get(event) for event in expected.keys() | known.keys())
            yield f"{differing} messages are not in the index as they are"
            return
        made.execute("CREATE VIRTUAL TABLE words USING fts5vocab (scratch, row)")
        for (word,) in made.execute(_SAMPLE, (_SAMPLED_WORDS,)).fetchall():
            match = f'"{word}"'
            own = made.execute("SELECT rowid FROM scratch(?) ORDER BY rowid", (match,)).fetchall()
            if connection.execute(_WITH_WORD, (match, first, last)).fetchall() != own:
                yield f"the index finds {word!r} in other messages than hold it"
                return


def _take(connection: apsw.Connection, generation: int, limit: int) -> _Taken:
    """Index some of a generation's next events; of one that stands no more, take some out."""
    row = connection.execute(_STATE, (generation,)).fetchone()
    if row is None or row[3]:
        return _take_out(connection, generation, limit)
    offset, event, reached, _ = row
    last, cost, place, more = event, _GENERATION_BYTES, reached, False
    values = (event, generation << 40 | 0xFFFFFFFFFF)
    for number, size, end in connection.execute(_NEXT, values):
        if cost >= limit:
            more = True
            break
        last, cost, place = number, cost + size + _ROW_BYTES, max(place, end)
    if last > event:
        connection.execute(_INSERT, (event, last))
    place = place if more else offset
    connection.execute(_MOVE, (generation, last, place))
    return _Taken(cost, place - reached, more)


def _take_out(connection: apsw.Connection, generation: int, limit: int) -> _Taken:
    """Take some of a generation's last events out of the index."""
    event = scalar(connection, _WATERMARK, (generation,))
    if event is None:
        return _Taken(_GENERATION_BYTES, 0, False)
    first, cost, more = event + 1, _GENERATION_BYTES, False
    for number, size in connection.execute(_LAST, (generation << 40, event)):
        if cost >= limit:
            more = True
            break
        first, cost = number, cost + size + _ROW_BYTES
    connection.execute(_DELETE, (first, event))
    if more:
        connection.execute(_MOVE, (generation, first - 1, 0))
    else:
        connection.execute(_FORGET, (generation,))
    return _Taken(cost, 0, more)
