"""Take a session, or lines or texts of it, out of everything for good: `codex-logs erase`."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from codex.logging import config
from codex.logging.erase import Erasure, Wish, erase, foreseen
from codex.logging.errors import ConfigError
from codex.logging.listing import to_json
from codex.logging.plain import counted
from codex.logging.store.connection import open_reader
from codex.logging.store.sqlite import Store
from codex.logging.terminal import db_option, json_option, resumable, tell
from codex.logs.chosen import SESSION, session_opened

_MOST_LINES = 20


@click.command(
    "erase",
    epilog="\b\nExamples:\n  codex-logs erase my-session --dry-run"
    "\n  codex-logs erase my-session --seq 42 --keep-sources --yes"
    "\n  codex-logs erase my-session --match - --dry-run < password.txt",
)
@click.argument("session", type=SESSION)
@click.option(
    "--seq",
    "seqs",
    type=click.IntRange(min=1),
    metavar="SEQ",
    multiple=True,
    help="Only this line; may be given again.",
)
@click.option(
    "--match",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="Only this text, wherever it stands, and however it is escaped; `-` reads it from standard input, where no"
    " list of processes shows it. May be given again.",
)
@click.option("--keep-sources", is_flag=True, help="With --seq or --match: leave the log files as they are.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and erase nothing.")
@click.option("--yes", is_flag=True, help="Don't ask; needed where there is no terminal to ask at.")
@db_option
@json_option
def command(
    session: str,
    seqs: tuple[int, ...],
    texts: tuple[str, ...],
    keep_sources: bool,
    dry_run: bool,
    yes: bool,
    db: str | None,
    as_json: bool,
) -> int:
    """Erase a session for good, or lines or texts of it: rows, recorded bytes, search index, log files, copies.

    Where a part of a session goes, a placeholder stands in the rows, and filler of the same length in the bytes and in
    the log file: whoever appends to it goes on. A text that has no place of its own takes its whole line along.

    The database is written anew, which takes as much room again, and time; a daemon may run meanwhile. Copies that were
    finalized are made anew, those from before an upgrade or a rebuild are removed. What git holds is told, with what to
    run. What was begun and interrupted is ended by the same command.

    Exit codes: 0 done, 1 something had to stay, or nothing was found, 2 bad usage, or no such session or database.
    """
    config.refuse_test_mode()
    if keep_sources and not (seqs or texts):
        raise ConfigError(
            "--keep-sources needs --seq or --match",
            hint="A log file without its rows would be ingested anew.",
        )
    database = config.resolve_database(db)
    open_reader(database).close()
    with session_opened(db, session) as (_, chosen):
        pass
    wish = Wish(chosen, frozenset(seqs), tuple(map(_text, texts)), not keep_sources)
    with closing(Store(database)) as store:
        found = foreseen(store, wish)
        if not dry_run:
            if found.is_anything:
                _confirm(found, yes=yes, quiet=as_json)
            with resumable("what was begun isn't ended: run the same command again, which ends it"):
                found = erase(store, wish)
    if as_json:
        click.echo(to_json({**found._asdict(), "dry_run": dry_run}))
    else:
        _show(found, "would go" if dry_run else "gone")
    return int(bool(found.kept) or not (found.is_anything or found.copies))


def _text(given: str) -> str:
    """What is to be found. Raises ConfigError for nothing."""
    text = given
    if given == "-":  # at a terminal a line of it: the answer is to be asked for there
        text = (sys.stdin.readline() if sys.stdin.isatty() else sys.stdin.read()).removesuffix("\n")
    if not text:
        raise ConfigError("--match needs a text", hint="`--match -` reads it from standard input.")
    return text


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
    if not found.is_anything:
        tell(f"{found.session_id}: nothing of it was found", err=True)
    else:
        where = f" in {counted(found.places, 'place')}{_of_lines(found.lines)}" if found.places else ""
        old = f" and {counted(found.old_rows, 'row')} of a forerunner" if found.old_rows else ""
        tell(f"{found.session_id}: {fate}: {found.length} bytes{where}{old}", err=err)
    for path in (*found.files, *found.copies):
        tell(f"  {path}", err=err)
    for note in found.notes:
        tell(note, err=True)
    for because in found.kept:
        tell(f"kept: {because}", err=True)


def _of_lines(lines: tuple[int, ...]) -> str:
    if not lines:
        return ""
    shown = ", ".join(map(str, lines[:_MOST_LINES])) + (" …" if len(lines) > _MOST_LINES else "")
    return f" of {counted(len(lines), 'line')} (#{shown})"
