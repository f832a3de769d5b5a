"""One session's rows, filtered: `python -m codex.logging.viewer`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from codex.logging import terminal
from codex.logging.errors import ConfigError
from codex.logging.events import iso_time
from codex.logging.listing import print_json, print_lines, time_option
from codex.logging.reading import rows
from codex.logging.rows import Keep, Row, Selection, meta_value


def keeping(levels: Iterable[str], contains: str | None) -> Keep:
    """Whether a row is of one of the levels, if any are given, and its message holds the text; case doesn't count.

    A row's level is its role, its level column, or the `level` of its meta.
    """
    wanted = {level.casefold() for level in levels}
    text = (contains or "").casefold()

    def keep(role: str | None, level: str | None, message: str | None, meta: str | None) -> bool:
        if text and text not in str(message).casefold():
            return False
        return not wanted or not wanted.isdisjoint(_levels(role, level, meta))

    return keep


def _levels(role: str | None, level: str | None, meta: str | None) -> set[str]:
    found = [role, level]
    if meta and '"level"' in meta:
        record = meta_value(meta)
        found.append(record.get("level") if isinstance(record, dict) else None)
    return {str(name).casefold() for name in found if name is not None}


def _table(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    if name is not None and re.fullmatch(r"[A-Za-z0-9_]+", name) is None:
        raise ConfigError(f"{name!r} is no table's name", hint="A name has letters, digits and underscores only.")
    return name


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  python -m codex.logging.viewer --session-id demo --level WARN --contains timeout"
    "\n  python -m codex.logging.viewer --session-id demo --table codex_actions --format json",
)
@click.option("--session-id", required=True, metavar="ID", help="The session.")
@terminal.db_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--level", "levels", multiple=True, help="Only this role or level, in any case; may be given again.")
@click.option("--contains", metavar="TEXT", help="Only messages that hold this text, in any case.")
@click.option("--since", callback=time_option, metavar="TIME", help="From this time on: ISO 8601 or epoch seconds.")
@click.option("--until", callback=time_option, metavar="TIME", help="Up to this time. Times without an offset are UTC.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@click.option(
    "--table",
    callback=_table,
    metavar="NAME",
    help="A table or view with columns for session, time and message.  [default: session_events and logs]",
)
def command(
    session_id: str,
    db: str | None,
    form: str,
    levels: tuple[str, ...],
    contains: str | None,
    since: float | None,
    until: float | None,
    limit: int | None,
    table: str | None,
) -> int:
    """Show one session, oldest first.

    Exit codes: 0 shown, 1 unexpected, 2 a bad date, no database, no table.
    """
    keep = keeping(levels, contains) if levels or contains else None
    found = rows(db, Selection(session_id, after=since, before=until, limit=limit, keep=keep), table)
    if form == "json":
        print_json(row.as_dict(show_meta=True) for row in found)
    else:
        print_lines(map(_as_text, found))
    return 0


def _as_text(row: Row) -> str:
    level = f"[{row.role}] " if row.role else ""
    return f"{iso_time(row.ts)} {level}{row.text}"


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
