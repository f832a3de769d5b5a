"""One line as it was written: `codex-logs raw`."""

from __future__ import annotations

import sys

import click

from codex.logging.restore import raw_line
from codex.logging.terminal import db_option
from codex.logs.chosen import SESSION, session_opened


@click.command("raw", epilog="\b\nExamples:\n  codex-logs raw my-session 42")
@click.argument("session", type=SESSION)
@click.argument("seq", type=click.IntRange(min=1))
@db_option
def command(session: str, seq: int, db: str | None) -> int:
    """Give one line's exact bytes, its line end included; SEQ is its number in session_events."""
    with session_opened(db, session) as (database, chosen):
        opened = database.file()
        line = raw_line(opened.connection, opened.streams(chosen), seq)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return 0
