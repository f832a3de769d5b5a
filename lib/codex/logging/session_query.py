"""A session, or the last rows of all: `python -m codex.logging.session_query`."""

from __future__ import annotations

from itertools import chain

import click

from codex.logging import terminal
from codex.logging.events import iso_time
from codex.logging.listing import print_lines
from codex.logging.reading import rows
from codex.logging.rows import Row, Selection
from codex.logging.terminal import tell

_HEADER = ("timestamp", "session_id", "role", "message")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  python -m codex.logging.session_query --session-id demo"
    "\n  python -m codex.logging.session_query --last 20 --desc",
)
@click.option("--session-id", metavar="ID", help="This session.")
@click.option("--last", type=click.IntRange(min=0), metavar="N", help="Only the latest N rows.")
@terminal.db_option
@click.option("--desc", is_flag=True, help="Latest first.")
def command(session_id: str | None, last: int | None, db: str | None, desc: bool) -> int:
    """Show rows as tab-separated columns under a header, oldest first.

    A tab, line end or backslash within a message is written as \\t, \\n, \\r, \\\\: a row is a line.
    Exit codes: 0 shown, 1 unexpected, 2 bad usage, no database, no table.
    """
    if session_id is None and last is None:
        raise click.UsageError("give --session-id ID, --last N, or both")
    selection = Selection(session_id, tail=None if desc else last, limit=last, descending=desc)
    found = rows(db, selection)
    first = next(found, None)
    if first is None:
        tell("(no rows)", err=True)
    else:
        print_lines("\t".join(cells) for cells in chain([_HEADER, _cells(first)], map(_cells, found)))
    return 0


def _cells(row: Row) -> tuple[str, ...]:
    values = (iso_time(row.ts), row.session_id, row.role, row.message)
    return tuple("" if value is None else str(value).translate(_ESCAPES) for value in values)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
