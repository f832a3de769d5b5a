"""Read rows back: `python -m codex.logging.query_logs`, and `codex-logs` without a command."""

from __future__ import annotations

import click

from codex.logging import terminal
from codex.logging.listing import after_option, before_option, print_json, print_lines


def __getattr__(name: str) -> object:
    """Row, Selection and read_rows, as ever; they load what reads, which help needs not."""
    if name not in {"Row", "Selection", "read_rows"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from codex.logging import rows

    return getattr(rows, name)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  codex-logs --tail 20\n  codex-logs --session-id demo --role user --format json"
    "\n  codex-logs --after 2026-01-31T09:00:00-05:00 --limit 100",
)
@terminal.db_option
@click.option("--session-id", metavar="ID", help="Only this session.")
@click.option("--role", help="Only this role: system, user, assistant, tool, …")
@after_option
@before_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Skip the first N rows.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True, help="By time.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The latest N rows, in ascending order.")
@click.option("--show-meta", is_flag=True, help="Also what the record holds beside role and message.")
@click.version_option(package_name="codex-ingestd")
def command(
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
    from codex.logging.reading import rows
    from codex.logging.rows import Selection

    found = rows(db, Selection(session_id, role, after, before, order == "desc", limit, offset, tail))
    if form == "json":
        print_json(row.as_dict(show_meta=show_meta) for row in found)
    elif not print_lines(row.as_text(show_meta=show_meta) for row in found):
        terminal.tell("Nothing found: `codex-logs sessions` lists the sessions.", err=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
