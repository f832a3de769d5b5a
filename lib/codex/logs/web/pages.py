"""The sessions and the timelines, and what their scripts fetch, made of what `codex.logs.read` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from codex.logging.plain import one_line
from codex.logs.read import events as read_events
from codex.logs.read import sessions as read_sessions
from codex.logs.web import items, stream
from codex.logs.web.answers import as_json, html, is_number, number, position, read
from codex.logs.web.guard import Receive, Scope, Send

_PAGE, _LARGEST_PAGE = 120, 500
_BURST = 400
_LIST_SECONDS = 0.25  # all of it is read each time
_SESSIONS, _MOST_SESSIONS = 60, 1000
_BEFORE_ALL = -(10**12)
_BEGINNING = 40
_WORDS = 200
_known_words: dict[str, str] = {}
_TALK = ("message", "reasoning", "tool_call", "tool_result", "action", "session_start", "session_end")
_VIEWS = {
    "talk": read_events.Filters(kinds=_TALK, said=True),
    "messages": read_events.Filters(kinds=("message",), said=True),
    "all": read_events.ALL,
}


async def sessions(datasette: Datasette, request: Request) -> Response:
    """The list of sessions, which a script fills and keeps up to date."""
    chosen = {name: request.args.get(name) or "" for name in ("agent", "state", "project")}
    return await html(datasette, request, "sessions", chosen=chosen)


async def sessions_json(datasette: Datasette, request: Request) -> Response:
    """The sessions, that with the latest event first."""
    return as_json(await read(datasette, _listed(request)))


async def sessions_stream(datasette: Datasette, request: Request, receive: Receive, send: Send) -> Response | None:
    """The same list, again each time that it has changed."""
    listed = _listed(request)
    known: list[dict[str, object]] = []
    first = True

    async def look() -> list[stream.Words]:
        nonlocal known, first
        found = await read(datasette, listed)
        if found == known and not first:
            return []
        known, first = found, False
        return [stream.Words("sessions", found)]

    return await _streamed(datasette, receive, send, look, _LIST_SECONDS)


def _listed(request: Request) -> Callable[[Any], list[dict[str, object]]]:
    limit = number(request, "limit", _SESSIONS, _MOST_SESSIONS)
    agent, project, state = (request.args.get(name) or None for name in ("agent", "project", "state"))
    choice = read_sessions.Choice(agent=agent, project=project, state=state)

    def find(connection: Any) -> list[dict[str, object]]:
        found = read_sessions.sessions(connection, choice, limit=limit)
        return [items.session(one, _first_words(connection, one)) for one in found]

    return find


async def session(datasette: Datasette, request: Request) -> Response:
    """One session's timeline; the events come by the script."""
    session_id = request.args.get("id") or ""
    found = await read(datasette, _session(session_id))
    if found is None:
        return await html(datasette, request, "missing", status=404, wanted=one_line(session_id[:200]))
    at, mark, view = (request.args.get(name) or "" for name in ("at", "mark", "view"))
    return await html(datasette, request, "session", session=found, at=at, mark=mark, view=view)


def _session(session_id: str) -> Callable[[Any], dict[str, object] | None]:
    def find(connection: Any) -> dict[str, object] | None:
        found = read_sessions.session(connection, session_id)
        return items.session(found, _first_words(connection, found)) if found else None

    return find


def _first_words(connection: Any, found: read_sessions.Session) -> str:
    """What a person said first, where the session has no title; it is looked for once, among the first events."""
    if found.title or found.session_id in _known_words:
        return _known_words.get(found.session_id, "")
    beginning = read_events.events(connection, found.session_id, after=_BEFORE_ALL, limit=_BEGINNING)
    said = (event.message for event in beginning if event.role == "user" and event.kind == "message" and event.message)
    words = next((text for text in said if not text.startswith("<")), "")[:_WORDS]  # an agent's own begin with a tag
    if words or len(beginning) == _BEGINNING:
        if len(_known_words) >= _MOST_SESSIONS:
            _known_words.clear()
        _known_words[found.session_id] = words
    return words


async def events_json(datasette: Datasette, request: Request) -> Response:
    """A window of a session: behind `after`, before `before`, around `around`, or the newest events."""
    session_id, filters = request.args.get("id") or "", _filters(request)
    limit = number(request, "limit", _PAGE, _LARGEST_PAGE)
    after, before, around = (position(request, name) for name in ("after", "before", "around"))

    def find(connection: Any) -> dict[str, object]:
        def window(count: int, **where: Any) -> list[read_events.Event]:
            return read_events.events(connection, session_id, limit=count, filters=filters, **where)

        if around is not None:
            earlier = window(limit // 2, before=around)
            later = window(limit - limit // 2, after=around - 1)
            ends = len(earlier) < limit // 2, len(later) < limit - limit // 2
            found = earlier + later
        elif after is not None:
            found = window(limit, after=after)
            ends = False, len(found) < limit
        else:
            found = window(limit, before=before, newest=True)
            ends = len(found) < limit, before is None
        return {"items": [items.shown(event) for event in found], "first": ends[0], "last": ends[1]}

    return as_json(await read(datasette, find))


async def event_json(datasette: Datasette, request: Request) -> Response:
    """One event with its whole text, up to a million characters."""
    session_id, at = request.args.get("id") or "", position(request, "at")

    def find(connection: Any) -> dict[str, object] | None:
        found = read_events.events(connection, session_id, after=(at or 0) - 1, limit=1)
        if not found or found[0].position != at:
            return None
        return items.shown(found[0], items.WHOLE)

    item = await read(datasette, find)
    return as_json(item if item is not None else {}, 200 if item is not None else 404)


async def session_stream(
    datasette: Datasette, request: Request, receive: Receive, send: Send, scope: Scope
) -> Response | None:
    """A session's new events and its counts, as they are committed; `after` names the last one that the page has.

    Where more have come than a page wants at once, `jump` says so, and the page fetches what it shows.
    """
    session_id, filters = request.args.get("id") or "", _filters(request)
    resumed = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
    last = int(resumed) if is_number(resumed) else position(request, "after")
    known: dict[str, object] | None = None

    def find(connection: Any) -> tuple[list[read_events.Event], dict[str, object] | None]:
        latest = read_events.events(connection, session_id, limit=1, newest=True, filters=filters)
        about = _session(session_id)(connection)
        if last is None or not latest or latest[0].position == last:
            return latest, about
        found = read_events.events(connection, session_id, after=last, limit=_BURST, filters=filters)
        return found if len(found) < _BURST else [*found, *latest], about  # which tells that it is a burst

    async def look() -> list[stream.Words]:
        nonlocal last, known
        found, about = await read(datasette, find)
        told: list[stream.Words] = []
        if found and last is not None and found[-1].position != last:
            latest = str(found[-1].position)
            if len(found) > _BURST:
                told.append(stream.Words("jump", latest, latest))
            else:
                told.append(stream.Words("events", [items.shown(event) for event in found], latest))
        last = found[-1].position if found else last or _BEFORE_ALL
        if about != known:
            known = about
            told.append(stream.Words("session", about))
        return told

    return await _streamed(datasette, receive, send, look)


async def _streamed(
    datasette: Datasette, receive: Receive, send: Send, look: stream.Look, *least: float
) -> Response | None:
    pulse: stream.Pulse = datasette.codex_pulse
    if pulse.is_full:
        return Response.text("Too many pages are open.\n", status=503)
    await stream.send_stream(pulse, receive, send, look, *least)
    return None


def _filters(request: Request) -> read_events.Filters:
    return _VIEWS.get(request.args.get("view") or "", _VIEWS["talk"])
