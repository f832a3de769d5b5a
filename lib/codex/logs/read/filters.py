"""Which lives of which sessions a query's filters leave, and which of their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from codex.logs.query import Choice, Query
from codex.logs.read.engine import Connection
from codex.logs.read.sessions import find

_LIVES = """
SELECT g.id, s.session_id, s.format, m.cwd, m.started, m.last_event
FROM generations AS g JOIN streams AS s ON s.id = g.stream LEFT JOIN summaries AS m ON m.generation = g.id
WHERE g.superseded_by IS NULL ORDER BY g.id"""


class Life(NamedTuple):
    """A generation that stands. Times are epoch seconds, the project is its folder."""

    generation: int
    session_id: str
    agent: str
    project: str | None
    started: float | None
    last_event: float | None


def asks_events(query: Query) -> bool:
    """Whether the events themselves must be looked at, and not only whose they are."""
    choices = (query.role, query.kind, query.tool, query.model)
    return any(choice != Choice() for choice in choices) or query.since is not None or query.until is not None


def is_chosen(
    query: Query, role: str | None, kind: str | None, tool: str | None, model: str | None, ts: float | None
) -> bool:
    """Whether an event is what the filters ask for."""
    if query.since is not None and (ts is None or ts < query.since):
        return False
    if query.until is not None and (ts is None or ts >= query.until):
        return False
    pairs = ((query.role, role, _is_like), (query.kind, kind, _is_like), (query.tool, tool, _is_like))
    return all(_suits(choice, value, like) for choice, value, like in (*pairs, (query.model, model, _has)))


def _suits(choice: Choice, value: str | None, like: Callable[[str | None, str], bool]) -> bool:
    if choice.wanted and not any(like(value, wish) for wish in choice.wanted):
        return False
    return not any(like(value, wish) for wish in choice.unwanted)


def _is_like(value: str | None, wish: str) -> bool:
    """Whether it is this word, or begins like it where that ends in `*`; in whatever case."""
    text, wish = (value or "").lower(), wish.lower()
    return text.startswith(wish[:-1]) if wish.endswith("*") else text == wish


def _has(value: str | None, wish: str) -> bool:
    """Whether it holds this text: models have long names."""
    return wish.lower().rstrip("*") in (value or "").lower()


def _ends(value: str | None, wish: str) -> bool:
    """Whether a folder is this one, or its path ends in it."""
    path, end = (value or "").rstrip("/\\"), wish.rstrip("/\\")
    return path == end or path.endswith((f"/{end}", f"\\{end}"))


def lives_of(connection: Connection, query: Query) -> list[Life] | None:
    """The generations that the filters leave, oldest first; None where no filter is about them.

    Raises NoSuchSessionError.
    """
    if query.session == query.project == query.agent == Choice() and query.since is None and query.until is None:
        return None
    is_session = session_filter(connection, query)
    rows: Iterable[Any] = connection.execute(_LIVES)
    return [
        life
        for life in (Life(*row) for row in rows)
        if is_session(life.session_id)
        and _suits(query.project, life.project, _ends)
        and _suits(query.agent, life.agent, _is_like)
        and (query.since is None or life.last_event is None or life.last_event >= query.since)
        and (query.until is None or life.started is None or life.started < query.until)
    ]


def session_filter(connection: Connection, query: Query) -> Callable[[str], bool]:
    """Whether a session is one that the filters leave. Raises NoSuchSessionError."""
    chosen = Choice(*(tuple(_session(connection, wish) for wish in wishes) for wishes in query.session))
    return lambda session_id: _suits(chosen, session_id, _is_like)


def _session(connection: Connection, wish: str) -> str:
    """The id of the session that is meant; what ends in `*` means all that begin like it."""
    return wish if wish.endswith("*") else find(connection, wish)
