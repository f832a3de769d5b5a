"""Events: a window of a session's, the newest of some sessions, one by its place, and all that comes from now on.

A `position` names an event: an integer that grows along a session, and that the full-text index has as its row id. Rows
that only a forerunner's table has are named by negative ones; their place among the others is their line's.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from codex.logging.events import iso_time
from codex.logging.rows import meta_value
from codex.logs.read.engine import Connection, has_relation, scalar

_FIELDS = """
       {seq}, {part}, ts, role, kind, message, meta, tool, model, call_id, parent, coalesce(inherited, 0),
       {generation}, "offset", length"""
_KEPT = """
  AND (:roles IS NULL OR role IN (SELECT value FROM json_each(:roles)))
  AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)))
  AND (:tools IS NULL OR tool IN (SELECT value FROM json_each(:tools)))
  AND (:since IS NULL OR ts >= :since) AND (:until IS NULL OR ts <= :until)
  AND (:first IS NULL OR seq >= :first) AND (:last IS NULL OR seq <= :last)
  AND (:said = 0 OR message <> '')"""
_BY_KEY = f"""
SELECT id, :session,{_FIELDS.format(seq="seq", part="part", generation="generation")}
FROM events WHERE id > :low AND id < :high{_KEPT} ORDER BY id {{order}} LIMIT :limit"""  # noqa: S608
_FORWARD, _BACKWARD = _BY_KEY.format(order="ASC"), _BY_KEY.format(order="DESC")
# Where views have rows that stand in no table of ours, a session's are in the order of its lines.
_POSITION = """
CASE WHEN generation IS NOT NULL THEN (generation << 40) | (seq << 8) | part
     WHEN part > 255 THEN 255 - part ELSE -seq END"""
_BY_VIEW = f"""
SELECT {_POSITION}, session_id,{_FIELDS.format(seq="seq", part="part", generation="coalesce(generation, 0)")}
FROM session_events WHERE {{which}}{_KEPT} ORDER BY {{order}} LIMIT :limit"""  # noqa: S608
_LINE = "(seq, part, coalesce(generation, 0))"
_BY_LINE = f"session_id = :session AND {_LINE} > (:seq, :part, :life) AND {_LINE} < (:last_seq, :last_part, :last_life)"
_VIEW_FORWARD = _BY_VIEW.format(which=_BY_LINE, order="seq, part, generation")
_VIEW_BACKWARD = _BY_VIEW.format(which=_BY_LINE, order="seq DESC, part DESC, generation DESC")
_OF_SESSIONS = "(:sessions IS NULL OR session_id IN (SELECT value FROM json_each(:sessions)))"
_VIEW_NEWEST = _BY_VIEW.format(which=_OF_SESSIONS, order="ts DESC, session_id DESC, seq DESC, part DESC")
_VIEW_PLACE = f"SELECT seq, part, coalesce(generation, 0) FROM session_events WHERE session_id = ? AND {_POSITION} = ?"  # noqa: S608
_VIEW_COUNT = "SELECT count(*) FROM session_events WHERE session_id = ?"
_LIVES = """
SELECT g.id FROM streams AS s JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
WHERE s.session_id = ? ORDER BY g.id"""
_LATEST_LIVES = """
SELECT g.id, s.session_id, coalesce(m.last_event, g.committed_at)
FROM streams AS s JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
LEFT JOIN summaries AS m ON m.generation = g.id
WHERE :sessions IS NULL OR s.session_id IN (SELECT value FROM json_each(:sessions))
ORDER BY 3 DESC"""
_SESSION_OF = "SELECT s.session_id FROM generations AS g JOIN streams AS s ON s.id = g.stream WHERE g.id = ?"
_COUNT = "SELECT count(*) FROM events WHERE id > ? AND id < ?"
_HAS_OLD_ROWS = "SELECT 1 FROM legacy_session_events WHERE session_id = ? AND NOT found LIMIT 1"
_PAGE = 500
_FIRST, _BEYOND = (-1, 0, 0), (1 << 62, 0, 0)


class Event(NamedTuple):
    """An event as the views have it. `ts` is epoch seconds, `meta` JSON text; `offset` and `length` are bytes.

    `generation` is 0 where only a forerunner's table has it; then it has no bytes either.
    """

    position: int
    session_id: str
    seq: int
    part: int
    ts: float | None
    role: str
    kind: str
    message: str
    meta: str | None
    tool: str | None
    model: str | None
    call_id: str | None
    parent: str | None
    inherited: bool
    generation: int
    offset: int | None
    length: int | None

    def as_dict(self) -> dict[str, object]:
        """For JSON: with the time as ISO 8601 too, and the meta as JSON."""
        return self._asdict() | {
            "time": iso_time(self.ts) if self.ts is not None else None,
            "meta": meta_value(self.meta) if self.meta else {},
            "inherited": bool(self.inherited),
        }


class Filters(NamedTuple):
    """Which events: of these roles, kinds and tools (any, where there are none), times (epoch seconds), and lines.

    `said` leaves out those without a message.
    """

    roles: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    said: bool = False
    first: int | None = None
    last: int | None = None

    def values(self) -> dict[str, object]:
        """For the queries."""
        return {
            "roles": json.dumps(self.roles) if self.roles else None,
            "kinds": json.dumps(self.kinds) if self.kinds else None,
            "tools": json.dumps(self.tools) if self.tools else None,
            "since": self.since,
            "until": self.until,
            "said": self.said,
            "first": self.first,
            "last": self.last,
        }


ALL = Filters()


def events(
    connection: Connection,
    session_id: str,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = _PAGE,
    newest: bool = False,
    filters: Filters = ALL,
) -> list[Event]:
    """At most `limit` events of a session between two positions, in order.

    They are the first ones behind `after`; the last ones before `before` where that is given alone, or with `newest`.
    """
    backward = newest or (before is not None and after is None)
    found = _window(connection, session_id, after, before, limit, backward, filters)
    return found[::-1] if backward else found


def every(
    connection: Connection,
    session_id: str,
    *,
    after: int | None = None,
    before: int | None = None,
    filters: Filters = ALL,
) -> Iterator[Event]:
    """All events of a session between two positions, read in pages: who takes them slowly holds up no checkpoint."""
    while page := _window(connection, session_id, after, before, _PAGE, False, filters):
        yield from page
        after = page[-1].position


def count(connection: Connection, session_id: str) -> int:
    """How many events a session has."""
    if _stands_in_views(connection, session_id):
        return int(scalar(connection, _VIEW_COUNT, (session_id,)))
    return sum(int(scalar(connection, _COUNT, span(life, None, None))) for life in _lives(connection, session_id))


def event_at(connection: Connection, session_id: str, seq: int, part: int = 0) -> Event | None:
    """The event of a line; `part` counts the objects on it from 0."""
    if _stands_in_views(connection, session_id):
        found = _lines(connection, session_id, (seq, part, -1), (seq, part, _BEYOND[0]), 1, False, ALL)
        return found[0] if found else None
    for life in reversed(_lives(connection, session_id)):
        position = life << 40 | seq << 8 | part
        if found := of_life(connection, session_id, (position - 1, position + 1), 1, False, ALL):
            return found[0]
    return None


def event(connection: Connection, position: int) -> Event | None:
    """The event at a position that isn't negative, also where a rewrite has superseded it."""
    session_id = scalar(connection, _SESSION_OF, (position >> 40,))
    found = of_life(connection, str(session_id), (position - 1, position + 1), 1, False, ALL)
    return found[0] if found else None


def newest(
    connection: Connection, limit: int, sessions: Sequence[str] | None = None, filters: Filters = ALL
) -> list[Event]:
    """The latest events of these sessions, or of all: by time, and each session's in its own order."""
    if sessions is not None and len(sessions) == 1:
        return events(connection, sessions[0], limit=limit, newest=True, filters=filters)
    chosen = None if sessions is None else json.dumps(sessions)
    if _has_views_of_its_own(connection):
        values = {"sessions": chosen, "limit": limit, **filters.values()}
        return _shown(connection.execute(_VIEW_NEWEST, values))[::-1]
    latest: list[float] = []
    runs = []
    for life, session_id, moment in rows(connection, _LATEST_LIVES, {"sessions": chosen}):
        if len(latest) >= limit and (not latest or moment < latest[0]):
            break
        runs.append(of_life(connection, session_id, span(life, None, None), limit, True, filters)[::-1])
        for ts, _ in _timed(runs[-1]):
            if len(latest) < limit:
                heapq.heappush(latest, ts)
            else:
                heapq.heappushpop(latest, ts)
    return merged(runs)[-limit:] if limit else []


def _window(
    connection: Connection,
    session_id: str,
    after: int | None,
    before: int | None,
    limit: int,
    backward: bool,
    filters: Filters,
) -> list[Event]:
    """At most `limit` events between two positions, from the first one on, or backward from the last one."""
    if _stands_in_views(connection, session_id):
        low = _FIRST if after is None else _line_of(connection, session_id, after)
        high = _BEYOND if before is None else _line_of(connection, session_id, before)
        return _lines(connection, session_id, low, high, limit, backward, filters)
    found: list[Event] = []
    lives = _lives(connection, session_id)
    for life in reversed(lives) if backward else lives:
        if len(found) < limit:
            within = span(life, after, before)
            found += of_life(connection, session_id, within, limit - len(found), backward, filters)
    return found


def _lives(connection: Connection, session_id: str) -> list[int]:
    """The session's generations that stand, in their order."""
    return [int(str(life)) for (life,) in connection.execute(_LIVES, (session_id,)).fetchall()]


def span(life: int, after: int | None, before: int | None) -> tuple[int, int]:
    """The positions that a life's events lie between, within what is asked for."""
    low, high = (life << 40) - 1, (life + 1) << 40
    return low if after is None else max(low, after), high if before is None else min(high, before)


def of_life(
    connection: Connection,
    session_id: str,
    between: tuple[int, int],
    limit: int,
    backward: bool,
    filters: Filters,
) -> list[Event]:
    """At most `limit` events between two positions, from the first one on, or backward from the last one."""
    values = {"session": session_id, "low": between[0], "high": between[1], "limit": limit, **filters.values()}
    return _shown(connection.execute(_BACKWARD if backward else _FORWARD, values))


def _lines(
    connection: Connection,
    session_id: str,
    low: tuple[int, int, int],
    high: tuple[int, int, int],
    limit: int,
    backward: bool,
    filters: Filters,
) -> list[Event]:
    """The same between two lines, by the view: each is (seq, part, generation)."""
    places = dict(zip(("seq", "part", "life", "last_seq", "last_part", "last_life"), (*low, *high), strict=True))
    values = {"session": session_id, "limit": limit, **places, **filters.values()}
    return _shown(connection.execute(_VIEW_BACKWARD if backward else _VIEW_FORWARD, values))


def _line_of(connection: Connection, session_id: str, position: int) -> tuple[int, int, int]:
    """Where the event at a position stands in the view."""
    if position >= 0:
        return position >> 8 & 0xFFFFFFFF, position & 0xFF, position >> 40
    row = connection.execute(_VIEW_PLACE, (session_id, position)).fetchone()
    return _FIRST if row is None else (int(str(row[0])), int(str(row[1])), int(str(row[2])))


def _stands_in_views(connection: Connection, session_id: str) -> bool:
    """Whether some of the session's events, or their session, stand elsewhere than in our tables."""
    if has_relation(connection, "by_record"):
        return True
    old = has_relation(connection, "legacy_session_events")
    return old and scalar(connection, _HAS_OLD_ROWS, (session_id,)) is not None


def _has_views_of_its_own(connection: Connection) -> bool:
    return has_relation(connection, "by_record") or has_relation(connection, "legacy_session_events")


def _timed(run: Iterable[Event]) -> Iterator[tuple[float, Event]]:
    """Each event with its time; where it has none, or its clock was set back, with that of one before it."""
    latest = -math.inf
    for event in run:
        latest = max(latest, -math.inf if event.ts is None else event.ts)
        yield latest, event


def merged(runs: Iterable[list[Event]]) -> list[Event]:
    """The events of several runs by time, each run in its own order."""
    chosen = [run for run in runs if run]
    if len(chosen) == 1:
        return chosen[0]
    return [event for _, event in heapq.merge(*map(_timed, chosen), key=itemgetter(0))]


def _shown(rows: Iterable[Any]) -> list[Event]:
    return [Event(*row) for row in rows]


def rows(connection: Connection, query: str, values: dict[str, object] | None = None) -> list[Any]:
    return connection.execute(query, values or {}).fetchall()
