"""The agents' sessions, newest first: `codex-logs sessions`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import apsw
import click

from codex.logging.events import iso_time
from codex.logging.listing import print_json, time_option
from codex.logging.reading import reading
from codex.logging.store.connection import has_relation, translated
from codex.logging.terminal import db_option, json_option
from codex.logs.tables import print_table

_LATEST = """
SELECT l.session_id FROM session_lives AS l
WHERE (:agent IS NULL OR l.agent = :agent) AND (:project IS NULL OR l.cwd = :project OR l.cwd LIKE '%/' || :project)
GROUP BY l.session_id
HAVING (:after IS NULL OR max(l.last_event) >= :after) AND (:before IS NULL OR min(l.started) <= :before)
ORDER BY max(l.last_event) DESC, l.session_id"""
_SESSION = """
SELECT session_id, agent, cwd, branch, "commit", title, models, started, last_event, ended, events, turns, tool_calls,
       errors, tokens, inherited_tokens, repeated_tokens, state, parent_session_id, forked_from
FROM sessions WHERE session_id = ?"""
_ROOTS = "SELECT root FROM streams WHERE session_id = ? AND format = 'codex'"
_TITLE = 80
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


def read_sessions(
    connection: apsw.Connection,
    *,
    agent: str | None = None,
    project: str | None = None,
    state: str | None = None,
    after: float | None = None,
    before: float | None = None,
    limit: int | None = None,
) -> Iterable[Session]:
    """The sessions, that with the latest event first. A project is its folder, or the end of its path."""
    values = {"agent": agent, "project": project, "after": after, "before": before}
    locks = _held_locks()
    left = limit
    for (session_id,) in connection.execute(_LATEST, values).fetchall():
        if left == 0:
            return
        session = Session(*connection.execute(_SESSION, (session_id,)).fetchone())  # type: ignore[misc]
        if session.agent == "codex" and locks is not None:
            session = _as_locked(connection, session, locks)
        if state is None or session.state == state:
            left = None if left is None else left - 1
            yield session


def _as_locked(connection: apsw.Connection, session: Session, locks: set[int]) -> Session:
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


def _held_locks() -> set[int] | None:
    """The inodes of files that some process has locked; None where the system doesn't tell."""
    try:
        with open(_LOCKS, encoding="ascii") as file:
            return {int(word.split(":")[2]) for line in file for word in line.split() if word.count(":") == 2}
    except (OSError, ValueError):
        return None


@click.command("sessions", epilog="\b\nExamples:\n  codex-logs sessions\n  codex-logs sessions --state working --json")
@click.option("--agent", metavar="NAME", help="Only this agent's: claude, codex, native.")
@click.option("--project", metavar="FOLDER", help="Only this project's: its folder, or the end of its path.")
@click.option("--state", type=click.Choice(["working", "waiting", "ended"]), help="Only those that do this.")
@click.option("--after", callback=time_option, metavar="TIME", help="With an event from this time on.")
@click.option("--before", callback=time_option, metavar="TIME", help="Begun up to this time.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, metavar="N", help="At most N.")
@db_option
@json_option
def command(
    agent: str | None,
    project: str | None,
    state: str | None,
    after: float | None,
    before: float | None,
    limit: int,
    db: str | None,
    as_json: bool,
) -> int:
    """List the agents' sessions, that with the latest event first.

    A session works until its agent says that the turn has ended; then it waits for a person, or has ended.
    """
    with reading(db) as opened, translated(opened.path):
        found = []
        if has_relation(opened.connection, "sessions"):
            chosen = read_sessions(
                opened.connection, agent=agent, project=project, state=state, after=after, before=before, limit=limit
            )
            found = list(chosen)
    if as_json:
        print_json(session.as_dict() for session in found)
        return 0
    columns = (
        "last event",
        "state",
        "agent",
        "session",
        "project",
        "branch",
        "turns",
        "calls",
        "errors",
        "tokens",
        "title",
    )
    print_table(columns, (_row(session) for session in found))
    if not found and sys.stderr.isatty():
        click.echo("No session: is a daemon running? `codex-ingestd status` tells.", err=True)
    return 0


def _row(session: Session) -> list[Any]:
    project = os.path.basename((session.cwd or "").rstrip("/\\")) or None
    figures = (session.turns, session.tool_calls, session.errors, session.tokens)
    return [
        _local(session.last_event),
        session.state,
        session.agent,
        session.session_id,
        project,
        session.branch,
        *figures,
        (session.title or "")[:_TITLE],
    ]


def _local(seconds: float | None) -> str | None:
    """The time as this machine's clock shows it, with its offset."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M%z")
    except (ValueError, OverflowError, OSError):
        return f"{seconds}s"
