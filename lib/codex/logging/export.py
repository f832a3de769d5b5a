"""A whole session as JSON or text: `python -m codex.logging.export`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import click

from codex.logging import terminal
from codex.logging.errors import ConfigError
from codex.logging.events import iso_time
from codex.logging.listing import print_json, print_lines
from codex.logging.reading import rows
from codex.logging.rows import Row, Selection, meta_value


def export_session(session_id: str, fmt: str = "json", db: str | os.PathLike[str] | None = None) -> str:
    """The session's rows as one text: a JSON array (`json`), or a line a row (`text`).

    Raises DatabaseMissingError when there is nothing to read, ConfigError for another format.
    """
    found = rows(db, Selection(session_id))
    if fmt == "json":
        return json.dumps(list(map(_as_dict, found)), ensure_ascii=False, indent=2)
    if fmt == "text":
        return "\n".join(map(_as_text, found))
    raise ConfigError(f"{fmt!r} is no format", hint="There are json and text.")


def _as_dict(row: Row) -> dict[str, object]:
    return {
        "timestamp": row.ts,
        "session_id": row.session_id,
        "role": row.role,
        "message": row.message,
        "seq": row.seq,
        "time": iso_time(row.ts),
        "meta": meta_value(row.meta),
    }


def _as_text(row: Row) -> str:
    return f"{iso_time(row.ts)} ({row.role}): {row.text}"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  python -m codex.logging.export demo > demo.json"
    "\n  python -m codex.logging.export demo --format text",
)
@click.argument("session_id")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="json", show_default=True)
@terminal.db_option
def command(session_id: str, form: str, db: str | None) -> int:
    """Write a whole session to standard output, in the order of its lines.

    Exit codes: 0 written, 1 unexpected, 2 no database, no table.
    """
    found: Iterator[Row] = rows(db, Selection(session_id))
    if form == "json":
        print_json(map(_as_dict, found))
    else:
        print_lines(map(_as_text, found))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
