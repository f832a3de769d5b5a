"""Take a session out of everything for good: `codex-logs erase`."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from codex.logging import config
from codex.logging.erase import Erasure, Wish, erase, foreseen
from codex.logging.errors import ConfigError
from codex.logging.listing import to_json
from codex.logging.store.connection import open_reader
from codex.logging.store.sqlite import Store
from codex.logging.terminal import db_option, json_option
from codex.logs.chosen import SESSION, session_opened


@click.command(
    "erase", epilog="\b\nExamples:\n  codex-logs erase my-session --dry-run\n  codex-logs erase my-session --yes"
)
@click.argument("session", type=SESSION)
@click.option("--dry-run", is_flag=True, help="Say what would go, and erase nothing.")
@click.option("--yes", is_flag=True, help="Don't ask; needed where there is no terminal to ask at.")
@db_option
@json_option
def command(session: str, dry_run: bool, yes: bool, db: str | None, as_json: bool) -> int:
    """Erase a session for good: its rows, recorded bytes, search index, log files, and what finalized copies hold.

    The database is written anew, which takes as much room again, and time; a daemon may run meanwhile. Copies that were
    finalized are made anew, those from before an upgrade or a rebuild are removed. What git holds is told, with what to
    run. What was begun and interrupted is ended by the same command.

    Exit codes: 0 done, 1 something had to stay, 2 bad usage, or there is no such session or database.
    """
    config.refuse_test_mode()
    database = config.resolve_database(db)
    open_reader(database).close()
    with session_opened(db, session) as (_, chosen):
        pass
    wish = Wish(chosen)
    with closing(Store(database)) as store:
        found = foreseen(store, wish)
        if not dry_run:
            _confirm(found, yes=yes, quiet=as_json)
            found = erase(store, wish)
    if as_json:
        click.echo(to_json({**found._asdict(), "dry_run": dry_run}))
    else:
        _show(found, "would go" if dry_run else "gone")
    return int(bool(found.kept))


def _confirm(found: Erasure, *, yes: bool, quiet: bool) -> None:
    """Ask, unless that was answered beforehand. Raises ConfigError where nobody can be asked, Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            "nobody is there to be asked whether to erase", hint="Look with --dry-run, then say it with --yes."
        )
    if not quiet:
        _show(found, "to go", err=True)
    click.confirm("Erase it for good?", abort=True, err=True)


def _show(found: Erasure, fate: str, *, err: bool = False) -> None:
    click.echo(f"{found.session_id}: {found.length} bytes of rows {fate}", err=err)
    for path in (*found.files, *found.copies):
        click.echo(f"  {path}", err=err)
    for note in found.notes:
        click.echo(note, err=True)
    for because in found.kept:
        click.echo(f"kept: {because}", err=True)
