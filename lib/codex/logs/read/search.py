"""Full-text search over the events' messages: ranked hits with the words marked, of the lives that stand.

What the index lacks as yet is read, and asked the same: the newest of it, up to a bound.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Literal, NamedTuple

import apsw

from codex.logging.events import iso_time
from codex.logging.store import search_index
from codex.logs.query import Query
from codex.logs.read.engine import Connection, is_local
from codex.logs.read.filters import lives_of
from codex.logs.read.fts5 import Fts5
from codex.logs.read.index import Candidate, Index
from codex.logs.read.unindexed import OldRow, Unindexed

Sort = Literal["rank", "time"]
CONTEXT = 24  # words of a snippet
MOST_CONTEXT = 64  # FTS5 takes no more
_AT_ONCE = 500
_BEGIN, _END = "\x02", "\x03"
_BLANK_MARKS = str.maketrans({_BEGIN: "\ufffd", _END: "\ufffd", "\0": "\ufffd"})

_TIMES = "SELECT id, ts FROM events WHERE id IN ({})"
_SHOWN = f"""
SELECT e.id, s.session_id, s.format, m.cwd, e.seq, e.part, e.ts, e.role, e.kind, e.tool, e.model,
       {search_index.SEARCHED}
FROM events AS e JOIN generations AS g ON g.id = e.generation JOIN streams AS s ON s.id = g.stream
LEFT JOIN summaries AS m ON m.generation = g.id
WHERE e.id IN ({{}})"""  # noqa: S608


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


def search(
    connection: Connection,
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
    index = _index(connection)
    with connection:  # all queries see one state: what moved into the index between two of them would be missed
        return _search(connection, index, query, limit, offset, sort, context, exhaustive)


def _index(connection: Connection) -> Index:
    """The engine's own; a server's is loaded where there is one."""
    if is_local(connection):
        return Fts5(connection)  # type: ignore[arg-type]  # apsw's, or one that answers alike
    from codex.logs.read.tsearch import TextSearch

    return TextSearch(connection)


def _search(
    connection: Connection,
    index: Index,
    query: Query,
    limit: int,
    offset: int,
    sort: Sort,
    context: int,
    exhaustive: bool,
) -> Found:
    lives = lives_of(connection, query)
    sort = sort if query.match is not None else "time"
    indexed, capped = index.candidates(query, lives, exhaustive=exhaustive)
    unindexed = Unindexed(connection, index, query, lives, exhaustive=exhaustive)
    found = [*indexed, *_levelled(_beside(query, unindexed), indexed)]
    if sort == "time":
        found = list(_with_times(connection, found))
    page = _page(found, sort, limit, offset)
    hits = _hits(connection, query, page, unindexed.old, context)
    return Found(hits, len(found), capped, unindexed.unsearched)


def _beside(query: Query, unindexed: Unindexed) -> list[Candidate]:
    """The hits among what is not indexed."""
    if query.match is None or not unindexed.texts:
        return [Candidate(event, 0.0, ts) for event, ts in unindexed.times.items()]
    with closing(_scratch(unindexed.texts.items())) as scratch:
        ranks: Any = scratch.execute("SELECT rowid, rank FROM scratch WHERE scratch MATCH ?", (query.match,))
        return [Candidate(event, rank, unindexed.times[event]) for event, rank in ranks]


def _levelled(pending: list[Candidate], indexed: list[Candidate]) -> list[Candidate]:
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


def _with_times(connection: Connection, found: list[Candidate]) -> Iterator[Candidate]:
    unknown = [one.event for one in found if one.ts is None]
    times = dict(_rows_of(connection, _TIMES, unknown))
    for one in found:
        yield one._replace(ts=times.get(one.event, one.ts))


def _rows_of(connection: Connection, query: str, events: list[int]) -> Iterator[Any]:
    """The rows of these events, some at a time: where a planner sees the numbers it knows how few they are."""
    for start in range(0, len(events), _AT_ONCE):
        some = events[start : start + _AT_ONCE]
        yield from connection.execute(query.format(", ".join("?" * len(some))), some)


def _page(found: list[Candidate], sort: Sort, limit: int, offset: int) -> list[Candidate]:
    """The best, or the newest, from the offset-th on; of equal ones that of the newest life."""

    def by_rank(one: Candidate) -> tuple[float, int]:
        return one.rank, -one.event

    def by_time(one: Candidate) -> tuple[float, int]:
        return -(one.ts or 0.0), -one.event

    return heapq.nsmallest(offset + limit, found, by_rank if sort == "rank" else by_time)[offset:]


def _hits(
    connection: Connection, query: Query, page: list[Candidate], old: dict[int, OldRow], context: int
) -> list[Hit]:
    shown = {row[0]: row[1:] for row in _rows_of(connection, _SHOWN, [one.event for one in page])}
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
