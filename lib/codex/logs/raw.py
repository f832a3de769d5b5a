"""One line as it was written: `codex-logs raw`."""

from __future__ import annotations

import sys

import click

from codex.logging.reading import reading
from codex.logging.restore import raw_line
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option


@click.command("raw", epilog="\b\nExamples:\n  codex-logs raw my-session 42")
@click.argument("session")
@click.argument("seq", type=click.IntRange(min=1))
@db_option
def command(session: str, seq: int, db: str | None) -> int:
    """Give one line's exact bytes, its line end included; SEQ is its number in session_events."""
    with reading(db, session) as opened, translated(opened.path):
        line = raw_line(opened.connection, opened.streams(session), seq)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return 0
