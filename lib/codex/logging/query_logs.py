"""Read rows back: `python -m codex.logging.query_logs`, and `codex-logs` for short."""

from __future__ import annotations

import os
import sys

import click

from codex.logging import terminal
from codex.logging.lessons import command as errors
from codex.logging.listing import print_json, print_lines, time_option
from codex.logging.pack import command as pack
from codex.logging.reading import reading, rows
from codex.logging.restore import raw_line
from codex.logging.rows import Row, Selection, read_rows
from codex.logging.sessions import command as sessions
from codex.logging.store.connection import translated
from codex.logging.usage import command as usage

__all__ = ["Row", "Selection", "command", "main", "read_rows"]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  codex-logs --tail 20\n  codex-logs --session-id demo --role user --format json"
    "\n  codex-logs --after 2026-01-31T09:00:00-05:00 --limit 100",
)
@terminal.db_option
@click.option("--session-id", metavar="ID", help="Only this session.")
@click.option("--role", help="Only this role: system, user, assistant, tool, …")
@click.option("--after", callback=time_option, metavar="TIME", help="From this time on: ISO 8601 or epoch seconds.")
@click.option(
    "--before", callback=time_option, metavar="TIME", help="Up to this time. Times without an offset are UTC."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Skip the first N rows.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True, help="By time.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The latest N rows, in ascending order.")
@click.option("--show-meta", is_flag=True, help="Also what the record holds beside role and message.")
@click.version_option(package_name="codex-ingestd")
@click.pass_context
def command(
    context: click.Context,
    db: str | None,
    session_id: str | None,
    role: str | None,
    after: float | None,
    before: float | None,
    form: str,
    limit: int | None,
    offset: int,
    order: str,
    tail: int | None,
    show_meta: bool,
) -> int:
    """Show what the agents wrote.

    Exit codes: 0 shown, 1 unexpected, 2 a bad date, no database, no table.
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"db": db}}
        return 0
    found = rows(db, Selection(session_id, role, after, before, order == "desc", limit, offset, tail))
    if form == "json":
        print_json(row.as_dict(show_meta=show_meta) for row in found)
    else:
        print_lines(row.as_text(show_meta=show_meta) for row in found)
    return 0


@command.command(epilog="\b\nExamples:\n  codex-logs raw my-session 42")
@click.argument("session")
@click.argument("seq", type=click.IntRange(min=1))
@terminal.db_option
def raw(session: str, seq: int, db: str | None) -> int:
    """Give one line's exact bytes, its line end included; SEQ is its number in session_events."""
    with reading(db, session) as opened, translated(opened.path):
        line = raw_line(opened.connection, opened.streams(session), seq)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return 0


@command.command("shell-helper", epilog='\b\nExamples:\n  . "$(codex-logs shell-helper)"')
def shell_helper() -> int:
    """Print the path of the shell helper, for sourcing."""
    click.echo(os.path.join(os.path.dirname(os.path.abspath(__file__)), "session_logging.sh"))
    return 0


command.add_command(pack)
command.add_command(errors)
command.add_command(sessions)
command.add_command(usage)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
