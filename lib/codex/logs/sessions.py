"""The agents' sessions, newest first: `codex-logs sessions`."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import Any

import click

from codex.logging.listing import print_json, time_option
from codex.logging.reading import reading
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, json_option
from codex.logs.read.sessions import Choice, Session, sessions
from codex.logs.tables import print_table

_TITLE = 80


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
        choice = Choice(agent, project, state, after, before)
        found = list(sessions(opened.connection, choice, limit=limit))
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
