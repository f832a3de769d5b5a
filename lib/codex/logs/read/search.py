"""Full-text search over the events' messages: ranked hits with the words marked, of the lives that stand.

What the index lacks as yet is read, and asked the same: the newest of it, up to a bound.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, NamedTuple

import apsw

from codex.logging.errors import DatabaseMissingError
from codex.logging.events import iso_time
from codex.logging.store import search_index
from codex.logging.store.connection import has_relation
from codex.logs.query import Query
from codex.logs.read.filters import Life, asks_events, is_chosen, lives_of
from codex.logs.read.unindexed import OldRow, Unindexed

Sort = Literal["rank", "time"]
RANKED = 5000  # hits that are ranked, the newest of them
SCANNED = 50_000  # hits of the words that filters are asked about, the newest of them
CONTEXT = 24  # words of a snippet
MOST_CONTEXT = 64  # FTS5 takes no more
_BEGIN, _END = "\x02", "\x03"
_BLANK_MARKS = str.maketrans({_BEGIN: "\ufffd", _END: "\ufffd", "\0": "\ufffd"})
_LAST_ID = 0x7FFFFFFFFFFFFFFF

_FLOOR = """
SELECT rowid FROM search_index WHERE search_index MATCH :match AND rowid BETWEEN :low AND :high
ORDER BY rowid DESC LIMIT 1 OFFSET :scanned"""
_FLOOR_OF_EVENTS = "SELECT id FROM events WHERE id BETWEEN :low AND :high ORDER BY id DESC LIMIT 1 OFFSET :scanned"
_STANDS = """
(CASE WHEN :generations IS NULL THEN {id} >> 40 NOT IN (SELECT id FROM generations WHERE superseded_by IS NOT NULL)
      ELSE {id} >> 40 IN (SELECT value FROM json_each(:generations)) END)"""
_RANKED = f"""
SELECT s.rowid, s.rank, NULL FROM search_index AS s
WHERE s.search_index MATCH :match AND s.rowid BETWEEN :low AND :high AND {_STANDS.format(id="s.rowid")}
ORDER BY s.rowid DESC LIMIT :most"""  # noqa: S608
_FILTERED = f"""
SELECT s.rowid, s.rank, e.ts FROM search_index AS s CROSS JOIN events AS e ON e.id = s.rowid
WHERE s.search_index MATCH :match AND s.rowid BETWEEN :low AND :high AND {_STANDS.format(id="s.rowid")}
  AND chosen(e.role, e.kind, e.tool, e.model, e.ts)
ORDER BY s.rowid DESC LIMIT :most"""  # noqa: S608
_WITHOUT_WORDS = f"""
SELECT e.id, 0.0, e.ts FROM events AS e
WHERE e.id BETWEEN :low AND :high AND {_STANDS.format(id="e.id")} AND chosen(e.role, e.kind, e.tool, e.model, e.ts)
ORDER BY e.id DESC LIMIT :most"""  # noqa: S608
_TIMES = "SELECT id, ts FROM events WHERE id IN (SELECT value FROM json_each(?))"
_SHOWN = f"""
SELECT e.id, s.session_id, s.format, m.cwd, e.seq, e.part, e.ts, e.role, e.kind, e.tool, e.model,
       {search_index.SEARCHED}
FROM events AS e JOIN generations AS g ON g.id = e.generation JOIN streams AS s ON s.id = g.stream
LEFT JOIN summaries AS m ON m.generation = g.id
WHERE e.id IN (SELECT value FROM json_each(?1))"""  # noqa: S608


class Piece(NamedTuple):
    """Some text of a snippet; `marked` where it is what was searched for."""

    text: str
    marked: bool


class Hit(NamedTuple):
    """An event that a query found. `event` is its id, `ts` epoch seconds; a lower `rank` is a better hit.

    A row that only a forerunner wrote has 0 for its generation and event.
    """

    session_id: str
    agent: str
    project: str | None
    generation: int
    seq: int
    part: int
    event: int
    ts: float | None
    role: str
    kind: str
    tool: str | None
    model: str | None
    snippet: tuple[Piece, ...]
    rank: float

    def as_dict(self) -> dict[str, object]:
        """For JSON; `marks` are begin and end of what was searched for, in characters of the snippet."""
        marks, place = [], 0
        for piece in self.snippet:
            if piece.marked:
                marks.append([place, place + len(piece.text)])
            place += len(piece.text)
        text = "".join(piece.text for piece in self.snippet)
        return self._asdict() | {"time": iso_time(self.ts), "snippet": text, "marks": marks}


class Found(NamedTuple):
    """One page of hits, and how many there are in all.

    With `capped` there are more: only the newest were ranked, or asked for what the filters say. `unsearched` are
    bytes of log files whose events are not indexed yet, and were too many to be read.
    """

    hits: list[Hit]
    total: int
    capped: bool
    unsearched: int


class _Candidate(NamedTuple):
    event: int
    rank: float
    ts: float | None


def search(
    connection: apsw.Connection,
    query: Query,
    *,
    limit: int = 20,
    offset: int = 0,
    sort: Sort = "rank",
    context: int = CONTEXT,
    exhaustive: bool = False,
) -> Found:
    """The hits of a query from the offset-th on: the best first, or the newest; `context` is words of a snippet.

    An `exhaustive` search ranks and asks all there is, however long that takes. Raises DatabaseMissingError where the
    database has no index, NoSuchSessionError where a filter names none.
    """
    if not has_relation(connection, "search_index"):
        raise DatabaseMissingError(
            "this database has no search index", hint="Bring it up to date: run `codex-import-ndjson --all`."
        )
    with _snapshot(connection):
        return _search(connection, query, limit, offset, sort, context, exhaustive)


@contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    """All queries see the same state: what moved into the index between two of them would be missed."""
    with connection:
        yield


def _search(
    connection: apsw.Connection, query: Query, limit: int, offset: int, sort: Sort, context: int, exhaustive: bool
) -> Found:
    lives = lives_of(connection, query)
    sort = sort if query.match is not None else "time"
    scan = _Scan(connection, query, lives, exhaustive)
    indexed = scan.candidates()
    unindexed = Unindexed(connection, query, lives, exhaustive=exhaustive)
    found = [*indexed, *_levelled(_beside(query, unindexed), indexed)]
    if sort == "time":
        found = list(_with_times(connection, found))
    page = _page(found, sort, limit, offset)
    hits = _hits(connection, query, page, unindexed.old, context)
    return Found(hits, len(found), scan.capped, unindexed.unsearched)


class _Scan:
    """What the index gives for the words, and of it what the filters let through: the newest lives first."""

    def __init__(self, connection: apsw.Connection, query: Query, lives: list[Life] | None, exhaustive: bool) -> None:
        self._connection = connection
        self._query = query
        self._exhaustive = exhaustive
        self.capped = False
        self._values: dict[str, Any] = {"match": query.match, "low": 0, "high": _LAST_ID, "generations": None}
        self._is_empty = lives == []
        if lives:
            self._values["low"] = lives[0].generation << 40
            self._values["high"] = lives[-1].generation << 40 | 0xFFFFFFFFFF
            self._values["generations"] = json.dumps([life.generation for life in lives])

    def candidates(self) -> list[_Candidate]:
        if self._is_empty:
            return []
        has_filters = self._values["generations"] is not None or asks_events(self._query)
        sql = _RANKED
        if self._query.match is None:
            sql = _WITHOUT_WORDS
        elif asks_events(self._query):
            sql = _FILTERED
        if sql is not _RANKED:
            _let_choose(self._connection, self._query)
        if has_filters and not self._exhaustive:
            floor = _FLOOR if self._query.match is not None else _FLOOR_OF_EVENTS
            values = {name: value for name, value in self._values.items() if f":{name}" in floor}
            first: Any = self._connection.execute(floor, values | {"scanned": SCANNED}).fetchone()
            if first is not None:
                self._values["low"], self.capped = first[0], True
        most = -1 if self._exhaustive else RANKED
        values = {name: value for name, value in self._values.items() if f":{name}" in sql}
        rows: Iterable[Any] = self._connection.execute(sql, values | {"most": most})
        found = [_Candidate(*row) for row in rows]
        self.capped = self.capped or len(found) == most
        return found


def _let_choose(connection: apsw.Connection, query: Query) -> None:
    """Make the SQL function `chosen`, which says whether an event is what the filters ask for."""

    def chosen(*fields: Any) -> bool:
        return is_chosen(query, *fields)

    connection.create_scalar_function("chosen", chosen, 5)


def _beside(query: Query, unindexed: Unindexed) -> list[_Candidate]:
    """The hits among what is not indexed."""
    if query.match is None or not unindexed.texts:
        return [_Candidate(event, 0.0, ts) for event, ts in unindexed.times.items()]
    with closing(_scratch(unindexed.texts.items())) as scratch:
        ranks: Any = scratch.execute("SELECT rowid, rank FROM scratch WHERE scratch MATCH ?", (query.match,))
        return [_Candidate(event, rank, unindexed.times[event]) for event, rank in ranks]


def _levelled(pending: list[_Candidate], indexed: list[_Candidate]) -> list[_Candidate]:
    """The same with ranks on the others' scale, where the best is as good as the others' best.

    A rank weighs a word by how seldom it is, and in few events that tells nothing.
    """
    best = min((one.rank for one in indexed), default=0.0)
    own = min((one.rank for one in pending), default=0.0)
    if not best or not own:
        return pending
    return [one._replace(rank=one.rank * best / own) for one in pending]


def _scratch(texts: Iterable[tuple[int, str]]) -> apsw.Connection:
    """An index of these texts in memory, without what could pass for a mark."""
    return search_index.scratch((event, text.translate(_BLANK_MARKS)) for event, text in texts)


def _with_times(connection: apsw.Connection, found: list[_Candidate]) -> Iterator[_Candidate]:
    unknown = [one.event for one in found if one.ts is None]
    rows: Iterable[Any] = connection.execute(_TIMES, (json.dumps(unknown),))
    times = dict(rows)
    for one in found:
        yield one._replace(ts=times.get(one.event, one.ts))


def _page(found: list[_Candidate], sort: Sort, limit: int, offset: int) -> list[_Candidate]:
    """The best, or the newest, from the offset-th on; of equal ones that of the newest life."""

    def by_rank(one: _Candidate) -> tuple[float, int]:
        return one.rank, -one.event

    def by_time(one: _Candidate) -> tuple[float, int]:
        return -(one.ts or 0.0), -one.event

    return heapq.nsmallest(offset + limit, found, by_rank if sort == "rank" else by_time)[offset:]


def _hits(
    connection: apsw.Connection, query: Query, page: list[_Candidate], old: dict[int, OldRow], context: int
) -> list[Hit]:
    numbers = json.dumps([one.event for one in page])
    rows: Iterable[Any] = connection.execute(_SHOWN, (numbers,))
    shown = {row[0]: row[1:] for row in rows}
    for event in (one.event for one in page if one.event in old):
        session_id, seq, part, ts, role, kind, message = old[event]
        shown[event] = (session_id, "native", None, seq, part, ts, role, kind, None, None, message)
    snippets = _snippets(query, {event: row[-1] for event, row in shown.items()}, context)
    hits = []
    for event, rank, _ in page:
        if event in shown:
            session_id, agent, project, seq, part, ts, role, kind, tool, model, _ = shown[event]
            place = (max(0, event >> 40), seq, part, max(0, event))
            hits.append(
                Hit(session_id, agent, project, *place, ts, role, kind, tool, model, tuple(snippets[event]), rank)
            )
    return hits


def _snippets(query: Query, texts: dict[int, str], context: int) -> dict[int, list[Piece]]:
    """Of each text the words around the first hits; its begin where nothing was searched for."""
    begins = {event: [Piece(_begin(text, context), False)] for event, text in texts.items()}
    if query.match is None or not texts:
        return begins
    with closing(_scratch(texts.items())) as scratch:
        rows: Iterable[Any] = scratch.execute(
            "SELECT rowid, snippet(scratch, 0, ?, ?, '…', ?) FROM scratch WHERE scratch MATCH ?",
            (_BEGIN, _END, min(context, MOST_CONTEXT), query.match),
        )
        return begins | {event: list(_pieces(snippet)) for event, snippet in rows}


def _begin(text: str, words: int) -> str:
    first = text[: words * 8]
    return first if first == text else f"{first}…"


def _pieces(snippet: str) -> Iterator[Piece]:
    for number, part in enumerate(snippet.split(_BEGIN)):
        marked, end, rest = part.partition(_END)
        if number and marked:
            yield Piece(marked, True)
        plain = rest if number else part
        if plain:
            yield Piece(plain, False)
        assert bool(number) == bool(end)
