"""Sessions: the list with its filters and orders, and the one that somebody means."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import NamedTuple

from codex.logging.errors import NoSuchSessionError
from codex.logging.events import iso_time
from codex.logs.read.engine import OF_PROJECT, Connection, has_relation, is_local, scalar

_SORTS = {
    "last": "max(l.last_event)",
    "started": "min(l.started)",
    "events": "sum(l.events)",
    "errors": "sum(l.errors)",
    "tokens": "coalesce(max(t.tokens), 0)",
}
SORTS = tuple(_SORTS)
_TOKENS = """
LEFT JOIN (
    SELECT session_id, sum(input + cache_read + cache_write + output) AS tokens FROM session_usage WHERE inherited = 0
    GROUP BY session_id
) AS t ON t.session_id = l.session_id"""
_CHOSEN = {
    (name, reverse): f"""
SELECT l.session_id FROM session_lives AS l {_TOKENS if name == "tokens" else ""}
WHERE (:agent IS NULL OR l.agent = :agent) AND (:project IS NULL OR {OF_PROJECT.format(path="l.cwd")})
  AND (:parent IS NULL OR l.parent_session_id = :parent) AND (:top = 0 OR l.parent_session_id IS NULL)
  AND (:model IS NULL OR EXISTS (SELECT 1 FROM json_each(l.models) WHERE instr(lower(value), lower(:model)) > 0))
GROUP BY l.session_id
HAVING (:after IS NULL OR max(l.last_event) >= :after) AND (:before IS NULL OR min(l.started) <= :before)
ORDER BY {key} {"ASC" if reverse else "DESC"} NULLS LAST, l.session_id"""  # noqa: S608
    for name, key in _SORTS.items()
    for reverse in (False, True)
}
_SESSIONS = """
SELECT session_id, agent, cwd, branch, "commit", title, models, started, last_event, ended, events, turns, tool_calls,
       errors, tokens, inherited_tokens, repeated_tokens, state, parent_session_id, forked_from
FROM sessions WHERE session_id IN ({})"""
_ROOTS = "SELECT root FROM streams WHERE session_id = ? AND format = 'codex'"
_CHILDREN = "SELECT session_id FROM streams WHERE parent_session_id = ? GROUP BY session_id ORDER BY min(id)"
_IS_STREAM = "SELECT 1 FROM streams WHERE session_id = ?"
_IS_SESSION = "SELECT 1 FROM session_events WHERE session_id = ? LIMIT 1"
_STREAMS = "SELECT DISTINCT session_id FROM streams ORDER BY 1"
_RECORDED = "SELECT DISTINCT session_id FROM by_record"
_OLD = "SELECT DISTINCT session_id FROM legacy_session_events WHERE NOT found AND session_id IS NOT NULL"
_LATEST = "SELECT session_id FROM session_lives ORDER BY last_event DESC NULLS LAST, generation DESC LIMIT 1"
_LATEST_EVENT = "SELECT session_id FROM session_events ORDER BY ts DESC NULLS LAST, seq DESC LIMIT 1"
_PARENT = "SELECT parent_session_id FROM streams WHERE session_id = ?1 AND parent_session_id <> ?1 LIMIT 1"
_NEAR = 5
_PAGE = 50  # sessions of a server that are read at once: each question is a way there and back
_LOCKS = "/proc/locks"
_LOCK_FOLDER = "thread-writer-locks"


class Session(NamedTuple):
    """What a session comes to. Times are epoch seconds; `models` is a JSON array."""

    session_id: str
    agent: str
    cwd: str | None
    branch: str | None
    commit: str | None
    title: str | None
    models: str
    started: float | None
    last_event: float | None
    ended: float | None
    events: int
    turns: int
    tool_calls: int
    errors: int
    tokens: int
    inherited_tokens: int
    repeated_tokens: int
    state: str | None
    parent_session_id: str | None
    forked_from: str | None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        times = {f"{name}_time": iso_time(getattr(self, name)) for name in ("started", "last_event", "ended")}
        return self._asdict() | {"models": json.loads(self.models)} | times


class Choice(NamedTuple):
    """Which sessions. Times are epoch seconds; a project is its folder, or the end of its path.

    A model is a part of its name; `parent` is the session that started them, `top` leaves out what another one started.
    """

    agent: str | None = None
    project: str | None = None
    state: str | None = None
    after: float | None = None
    before: float | None = None
    model: str | None = None
    parent: str | None = None
    top: bool = False


def sessions(
    connection: Connection,
    choice: Choice = Choice(),  # noqa: B008
    *,
    sort: str = "last",
    reverse: bool = False,
    limit: int | None = None,
) -> Iterator[Session]:
    """The chosen sessions in one of the orders of SORTS: those with the most, or the latest, first; or reversed."""
    if not has_relation(connection, "sessions"):
        return
    locks = _held_locks(connection)
    left = limit
    chosen = [str(name) for (name,) in connection.execute(_CHOSEN[sort, reverse], choice._asdict())]
    page = 1 if is_local(connection) else _PAGE
    for start in range(0, len(chosen) if left != 0 else 0, page):
        for found in _read(connection, chosen[start : start + page], locks):
            if choice.state in (None, found.state):
                left = None if left is None else left - 1
                yield found
                if left == 0:
                    return


def session(connection: Connection, session_id: str) -> Session | None:
    """One session; None where no line of it is in the database, or only an old table has it."""
    if not has_relation(connection, "sessions"):
        return None
    return next(_read(connection, [session_id], _held_locks(connection)), None)


def _read(connection: Connection, session_ids: list[str], locks: set[int] | None) -> Iterator[Session]:
    """Those of these sessions that there are, in this order."""
    rows = connection.execute(_SESSIONS.format(", ".join("?" * len(session_ids))), session_ids)
    known = {str(row[0]): Session(*row) for row in rows}
    for session_id in session_ids:
        if (found := known.get(session_id)) is not None:
            yield _as_locked(connection, found, locks) if found.agent == "codex" and locks is not None else found


def children(connection: Connection, session_id: str) -> list[str]:
    """The sessions that this one started: its sub-agents."""
    return [str(child) for (child,) in connection.execute(_CHILDREN, (session_id,))]


def find(connection: Connection, text: str) -> str:
    """The session that somebody means: its id, the beginning of it that no other has, or `last`.

    A sub-agent is also named by its own part of the id, and where a beginning fits a session and its sub-agents, the
    session is meant. `last` is that with the latest event; where a sub-agent has it, the session that started it.
    Raises NoSuchSessionError, naming those that may be meant.
    """
    if _is_session(connection, text):
        return text
    if text == "last":
        return latest(connection)
    known = names(connection)
    found = [name for name in known if _may_mean(text, name)]
    first = min(found, key=len, default="")
    if found and all(name == first or name.startswith(f"{first}/") for name in found):
        return first
    if found:
        listed = "".join(f"\n  {name}" for name in sorted(found)[:_NEAR])
        more = f"\n  … {len(found) - _NEAR} more" if len(found) > _NEAR else ""
        raise NoSuchSessionError(f"{text!r} may be {len(found)} sessions", hint=f"Give more of it:{listed}{more}")
    near = get_close_matches(text, known, _NEAR) or _near_beginnings(text, known)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`codex-logs sessions` lists them."
    raise NoSuchSessionError(f"there is no session {text!r} in the database", hint=hint)


def latest(connection: Connection) -> str:
    """The session with the latest event, or that which started it. Raises NoSuchSessionError when there is none."""
    ours = has_relation(connection, "session_lives") and not has_relation(connection, "by_record")
    found = scalar(connection, _LATEST) if ours else None
    if found is None and has_relation(connection, "session_events"):
        found = scalar(connection, _LATEST_EVENT)
    if found is None:
        raise NoSuchSessionError(
            "there is no session yet", hint="Is a daemon running, and on this database? `codex-ingestd status` tells."
        )
    seen = set()
    while ours and found not in seen and (parent := scalar(connection, _PARENT, (found,))) is not None:
        seen.add(found)
        if not _is_session(connection, str(parent)):
            break
        found = parent
    return str(found)


def names(connection: Connection) -> list[str]:
    """The ids of all sessions."""
    if has_relation(connection, "by_record"):
        queries = [_RECORDED]
    else:
        tables = {"streams": _STREAMS, "legacy_session_events": _OLD}
        queries = [query for table, query in tables.items() if has_relation(connection, table)]
    return list(dict.fromkeys(str(name) for query in queries for (name,) in connection.execute(query)))


def _is_session(connection: Connection, session_id: str) -> bool:
    ours = has_relation(connection, "streams") and not has_relation(connection, "by_record")
    if ours and scalar(connection, _IS_STREAM, (session_id,)) is not None:
        return True
    return has_relation(connection, "session_events") and scalar(connection, _IS_SESSION, (session_id,)) is not None


def _may_mean(text: str, name: str) -> bool:
    """Whether the text begins the name, a sub-agent's own part of it, or each of its parts; or so without its host."""
    if name.startswith(text):
        return True
    if ":" in name and ":" not in text:
        return _may_mean(text, name.partition(":")[2])
    begun, parts = text.split("/"), name.split("/")
    if len(begun) == 1:
        return len(parts) > 1 and parts[-1].startswith(text)
    return len(begun) == len(parts) and all(map(str.startswith, parts, begun))


def _near_beginnings(text: str, known: Iterable[str]) -> list[str]:
    """Those of whose beginning the text may be a mistyped one."""
    begun: dict[str, str] = {}
    for name in known:
        begun.setdefault(name[: len(text)], name)
    return [begun[start] for start in get_close_matches(text, begun, _NEAR)]


def _as_locked(connection: Connection, session: Session, locks: set[int]) -> Session:
    """The session as its thread's writer lock tells: Codex holds it as long as a process has the thread open.

    Source: `thread-writer-locks/<thread>.lock` in CODEX_HOME, from 0.147 on. The lock isn't tried, which could make
    an agent fail that opens the thread at that moment.
    """
    for (root,) in connection.execute(_ROOTS, (session.session_id,)):
        folder = _lock_folder(str(root))
        if folder is None:
            continue
        try:
            held = os.stat(os.path.join(folder, f"{session.session_id}.lock")).st_ino in locks
        except OSError:
            held = False
        return session if held else session._replace(state="ended", ended=session.ended or session.last_event)
    return session


def _lock_folder(root: str) -> str | None:
    """The folder of the locks, beside or above the watched folder; None where this Codex keeps none."""
    for home in (root, os.path.dirname(root)):
        folder = os.path.join(home, _LOCK_FOLDER)
        if os.path.isdir(folder):
            return folder
    return None


def _held_locks(connection: Connection) -> set[int] | None:
    """The inodes of files that some process has locked; None where the system doesn't tell, or it is others' files."""
    if not is_local(connection):
        return None
    try:
        with open(_LOCKS, encoding="ascii") as file:
            return {int(word.split(":")[2]) for line in file for word in line.split() if word.count(":") == 2}
    except (OSError, ValueError):
        return None
