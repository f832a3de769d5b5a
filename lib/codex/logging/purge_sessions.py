"""Remove old sessions under the forerunner's flags: `python -m codex.logging.purge_sessions --days N`."""

from __future__ import annotations

import time
from contextlib import closing

import click

from codex.logging import config, terminal
from codex.logging.purge import DAY_SECONDS, Wish, purge
from codex.logging.store.connection import open_reader
from codex.logging.store.sqlite import Store
from codex.logging.terminal import tell


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  python -m codex.logging.purge_sessions --dry-run"
    "\n  python -m codex.logging.purge_sessions --days 90",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Only sessions at rest for so many days.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@terminal.db_option
def command(days: float, dry_run: bool, db: str | None) -> int:
    """Remove old sessions, their log files, .meta files and rows: only what is wholly ingested, and verifies.

    A tombstone stays of each, so that the record can still be verified. `codex-ingestd purge` can also choose sessions,
    and keep files or rows. May run beside a daemon.

    Exit codes: 0 done, 1 something had to stay, 2 no database.
    """
    config.refuse_test_mode()
    database = config.resolve_database(db)
    open_reader(database).close()
    before = time.time() - days * DAY_SECONDS
    wish = Wish(before, (), sources=True, rows=True, dry_run=dry_run, log_dir=config.resolve_log_dir())
    kept = 0
    with closing(Store(database)) as store:
        for result in purge(store, wish):
            kept += result.kept_because is not None
            tell(result.as_text(wish))
    return int(bool(kept))


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
