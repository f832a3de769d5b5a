"""The agents' sessions, newest first: `codex-logs sessions`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import click

from codex.logging.listing import print_json, time_option
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, json_option, tell
from codex.logs.chosen import SESSION
from codex.logs.database import host_option, reading
from codex.logs.read.sessions import SORTS, Choice, Session, find, names, sessions
from codex.logs.shown.colour import Labels
from codex.logs.shown.tables import print_table
from codex.logs.shown.times import ago, local_time

_TITLE = 80


class _Column(NamedTuple):
    """A column of the table, and how wide a terminal has to be to have it."""

    name: str
    cell: Callable[[Session], object]
    columns: int = 0


@click.command(
    "sessions",
    epilog="\b\nExamples:\n  codex-logs sessions\n  codex-logs sessions --state working --json"
    "\n  codex-logs sessions --project tool --since 7d --sort tokens --limit 10",
)
@click.option("--agent", metavar="NAME", help="Only this agent's: claude, codex, native.")
@click.option("--project", metavar="FOLDER", help="Only this project's: its folder, or the end of its path.")
@click.option("--state", type=click.Choice(["working", "waiting", "ended"]), help="Only those that do this.")
@click.option("--model", metavar="NAME", help="Only those that a model with this in its name took part in.")
@click.option("--parent", type=SESSION, metavar="SESSION", help="Only those that this one started.")
@click.option("--top", is_flag=True, help="Without those that another one started.")
@click.option(
    "--after", "--since", callback=time_option, metavar="TIME", help="With an event from this time on: ISO 8601, 7d, …"
)
@click.option("--before", "--until", callback=time_option, metavar="TIME", help="Begun up to this time.")
@click.option(
    "--sort", type=click.Choice(SORTS), default="last", show_default=True, help="Those with the latest, or the most."
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, metavar="N", help="At most N.")
@db_option
@host_option
@json_option
def command(
    agent: str | None,
    project: str | None,
    state: str | None,
    model: str | None,
    parent: str | None,
    top: bool,
    after: float | None,
    before: float | None,
    sort: str,
    reverse: bool,
    limit: int,
    db: str | None,
    host: str | None,
    as_json: bool,
) -> int:
    """List the agents' sessions, that with the latest event first.

    A session works until its agent says that the turn has ended; then it waits for a person, or has ended. On a
    terminal a session is named by the beginning of its id that no other one has, which every command takes.
    Exit codes: 0 listed, 1 unexpected, 2 a bad time, no such parent, no database.
    """
    with reading(db, host=host) as opened, translated(opened.path):
        above = parent and find(opened.connection, parent)
        choice = Choice(agent, project, state, after, before, model, above, top)
        found = list(sessions(opened.connection, choice, sort=sort, reverse=reverse, limit=limit))
        label = Labels(lambda: names(opened.connection)) if sys.stdout.isatty() else str
        if as_json:
            print_json(session.as_dict() for session in found)
            return 0
        columns = _columns(label, time.time())
        print_table(
            [column.name for column in columns], ([each.cell(session) for each in columns] for session in found)
        )
    if not found and sys.stderr.isatty():
        tell("No session: is a daemon running? `codex-ingestd status` tells.", err=True)
    return 0


def _columns(label: Callable[[str], str], now: float) -> list[_Column]:
    """Those that the terminal has room for; elsewhere all of them, with whole times and ids."""
    to_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if to_terminal else sys.maxsize

    def last(session: Session) -> str:
        moment = session.last_event
        return ago(moment, now) if to_terminal else local_time(moment, "%Y-%m-%d %H:%M%z")

    columns = [
        _Column("last event", last),
        _Column("state", lambda session: session.state),
        _Column("agent", lambda session: session.agent, 100),
        _Column("session", lambda session: label(session.session_id)),
        _Column("project", lambda session: os.path.basename((session.cwd or "").rstrip("/\\")) or None),
        _Column("branch", lambda session: session.branch, 140),
        _Column("model", lambda session: _last_model(session), 180),
        _Column("turns", lambda session: session.turns, 100),
        _Column("events", lambda session: session.events, 160),
        _Column("calls", lambda session: session.tool_calls, 120),
        _Column("errors", lambda session: session.errors, 100),
        _Column("tokens", lambda session: session.tokens),
        _Column("title", lambda session: (session.title or "")[:_TITLE]),
    ]
    return [column for column in columns if column.columns <= width]


def _last_model(session: Session) -> str | None:
    models = json.loads(session.models)
    return str(models[-1]) if models else None
