"""`codex-ingestd verify`, `restore`, `rebuild`, `checkpoint`, `purge`: what makes the record believable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress

import apsw
import click

from codex.logging import config, statement
from codex.logging.errors import CodexLoggingError, ConfigError, DatabaseError, SourceError
from codex.logging.plain import counted, plain_json
from codex.logging.purge import DAY_SECONDS, Purged, Wish
from codex.logging.purge import purge as purge_streams
from codex.logging.rebuild import begin, end, swap_in
from codex.logging.rebuild import rebuild as rebuild_into
from codex.logging.restore import chosen_generations, restored, session_streams
from codex.logging.secrets.placeholder import known_key
from codex.logging.statement import Held, Wanted
from codex.logging.store import legacy
from codex.logging.store.connection import open_reader, translated
from codex.logging.store.redactions import formers
from codex.logging.store.sqlite import Store
from codex.logging.targets import Finding, Target, orphans, targets
from codex.logging.terminal import db_option, json_option, progress, resumable, tell, tell_json
from codex.logging.verify import check
from codex_ingestd.instance import Instance

_SHOWN = 50
_CONFIRM_SECONDS = 0.5

Advance = Callable[[int], None]


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd verify\n  codex-ingestd verify my-session --deep"
    "\n  codex-ingestd verify --against statements.ndjson --json"
)
@click.argument("sessions", nargs=-1)
@db_option
@click.option("--deep", is_flag=True, help="Also decode every line again, and compare the rows.")
@click.option("--against", type=click.Path(dir_okay=False), help="Statements that `checkpoint` made.")
@json_option
def verify(sessions: tuple[str, ...], db: str | None, deep: bool, against: str | None, as_json: bool) -> int:
    """Check that the record is whole, and that it is what the sources say.

    For each generation, which is one life of one file: bytes are events, rejects or what is pending; the chain of the
    recorded bytes holds; and the file, where it is still there, holds the same bytes. May run beside a daemon.

    Exit codes: 0 clean, 1 findings, 2 it could not be checked.
    """
    database = config.resolve_database(db)
    began = time.perf_counter()
    try:
        with closing(open_reader(database)) as connection, translated(database):
            for session_id in sessions:
                session_streams(connection, session_id)
            wanted = Wanted(statement.read(against) if against is not None else (), sessions)
            chosen = targets(connection, sessions)
            with progress("Verifying", sum(target.length for target in chosen), quiet=as_json) as advance:
                found = _checked(connection, chosen, wanted, deep, advance)
            key = known_key(database)
            held = wanted.compare(chosen, formers(connection), key)
            found += [*held.findings, *(() if sessions else orphans(connection))]
    except (OSError, CodexLoggingError) as error:
        hint = getattr(error, "hint", "")
        tell(f"could not check: {error}", err=True)
        if hint:
            tell(f"hint: {hint}", err=True)
        return 2
    _report(chosen, found, wanted.statements, held, began, as_json, has_key=key is not None)
    if not found:
        return 0
    return 2 if all(finding.kind == "unreadable" for finding in found) else 1


def _checked(
    connection: apsw.Connection, chosen: Sequence[Target], wanted: Wanted, deep: bool, advance: Advance
) -> list[Finding]:
    """What a second look finds too: the first may have come right before the daemon took note of what happened."""

    def steps(some: Iterable[Target]) -> Iterator[int | Finding]:
        for target in some:
            yield from check(connection, target, deep=deep, chains=wanted.at(target))

    found = _findings(steps(chosen), advance)
    doubtful = {finding.generation for finding in found}
    if doubtful:
        time.sleep(_CONFIRM_SECONDS)
        again = [target for target in targets(connection) if target.generation.id in doubtful]
        found = _findings(steps(again), lambda _: None)
    return found


def _findings(steps: Iterable[int | Finding], advance: Advance) -> list[Finding]:
    found = []
    for step in steps:
        if isinstance(step, Finding):
            found.append(step)
        else:
            advance(step)
    return found


def _report(
    chosen: list[Target],
    found: list[Finding],
    statements: int,
    held: Held,
    began: float,
    as_json: bool,
    *,
    has_key: bool,
) -> None:
    sizes = [_source_size(target) for target in chosen]
    summary = {
        "generations": len(chosen),
        "bytes": sum(target.length for target in chosen),
        "pending": sum(max(0, size - target.length) for target, size in zip(chosen, sizes, strict=True) if size),
        "without_source": sizes.count(None),
        "rewritten": sum(target.generation.superseded_by is not None for target in chosen),
        "purged": sum(target.tombstone is not None for target in chosen),
        "redacted": sum(bool(target.redacted) for target in chosen),
        "unproven": sum(bool(one.redacted) and size is not None for one, size in zip(chosen, sizes, strict=True))
        * (not has_key),
        "statements": statements,
        "statements_of_purged": held.purged,
        "statements_of_redacted": held.redacted,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if as_json:
        tell_json({**summary, "findings": [finding._asdict() for finding in found]})
        return
    for finding in found[:_SHOWN]:
        where = f"generation {finding.generation}, bytes {finding.offset} to {finding.end}"
        tell(f"{finding.session_id}: {finding.kind}: {where}: {finding.detail}")
    if len(found) > _SHOWN:
        tell(f"… and {len(found) - _SHOWN} more: --json shows them")
    if summary["unproven"]:
        tell("note: there is no key beside the database: what was taken out of it isn't held against the sources")
    facts = (
        counted(len(chosen), "generation") if name == "generations" else f"{number} {name.replace('_', ' ')}"
        for name, number in summary.items()
        if number and name != "seconds"
    )
    tell(f"{', '.join(facts) or 'nothing recorded'}: {counted(len(found), 'finding')} in {summary['seconds']:.2f} s")


def _source_size(target: Target) -> int | None:
    """Bytes of the source as it is now; None where it is gone, or can't be had."""
    try:
        facts = target.source()
    except SourceError:
        return None
    return None if facts is None else facts.size


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd restore my-session > my-session.ndjson"
    "\n  codex-ingestd restore my-session --generation 3 -o life3.ndjson"
)
@click.argument("session")
@db_option
@click.option(
    "--generation", type=int, metavar="N", help="This generation (one life of the file) alone, a superseded one too."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to this new file.")
def restore(session: str, db: str | None, generation: int | None, output: str | None) -> int:
    """Give a session's NDJSON back, byte for byte, also when its file is long gone.

    Without --generation: all of them in the default view, one after the other, oldest first.

    Exit codes: 0 done, 1 its bytes are gone, 2 bad usage, or no such session, generation or database.
    """
    database = config.resolve_database(db)
    with closing(open_reader(database)) as connection, translated(database):
        chosen = chosen_generations(session_streams(connection, session), generation)
        pieces = restored(connection, chosen)
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return 0
        written = _write_new(output, pieces)
    tell(f"{written} bytes in {output}", err=True)
    return 0


def _write_new(path: str, pieces: Iterator[bytes]) -> int:
    """Write a file that isn't there yet, whole or not at all. Raises ConfigError when it is there."""
    part = f"{path}.part"
    written = 0
    if os.path.lexists(path):
        raise ConfigError(f"{path} is already there", hint="Choose another name; nothing is overwritten.")
    try:
        with suppress(FileNotFoundError):
            os.unlink(part)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces:
                written += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="Choose another place with -o.") from error
    finally:
        with suppress(OSError):
            os.unlink(part)
    return written


@click.command(epilog="\b\nExamples:\n  codex-ingestd rebuild\n  codex-ingestd rebuild --new rebuilt.db")
@db_option
@click.option("--new", "built", type=click.Path(dir_okay=False), help="Only build this file; swap nothing.")
def rebuild(db: str | None, built: str | None) -> int:
    """Build the database anew from the sources, and from its own segments for sources that are gone.

    The new one is verified, row by row, before it takes the old one's place; the old one is kept beside it. A rebuild
    that was interrupted goes on where it stopped. Stop the daemon first.

    Exit codes: 0 done, 1 some bytes could not be had (nothing is swapped), 2 no database, 3 a daemon runs.
    """
    config.refuse_test_mode()
    database = config.resolve_database(db)
    part = config.absolute(built) if built is not None else f"{database}.rebuild"
    with Instance(database):
        open_reader(database).close()
        with suppress(DatabaseError):  # damaged: it is read as it is
            Store(database).close()
        with (
            translated(database),
            closing(open_reader(database)) as old,
            closing(begin(old, part, discard=built is None)) as new,
        ):
            with resumable("nothing was swapped; the next rebuild goes on where this one stopped"):
                found = _rebuild(old, new)
            if not found:
                end(new)
        for finding in found:
            where = f"generation {finding.generation}, bytes {finding.offset} to {finding.end}"
            tell(f"{finding.session_id}: {finding.kind}: {where}: {finding.detail}", err=True)
        if found:
            tell(f"nothing was swapped: {counted(len(found), 'finding')}; what could be built is {part}", err=True)
            return 1
        if built is not None:
            tell(f"built {part}")
            return 0
        tell(f"rebuilt {database}; the former one is {swap_in(database, part)}")
    return 0


def _rebuild(old: apsw.Connection, new: Store) -> list[Finding]:
    """Fill the new database, and check each of its rows; without the sources, which `verify` holds against it."""
    total = sum(target.length for target in targets(old))
    with progress("Rebuilding", total) as advance:
        found = _findings(rebuild_into(old, new), advance)
    if found:
        return found
    with progress("Verifying", total) as advance:
        alone = (target._replace(at_home=False) for target in targets(new.connection))
        return _findings((step for target in alone for step in check(new.connection, target, deep=True)), advance)


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd checkpoint --append /mnt/elsewhere/statements.ndjson"
    "\n  codex-ingestd checkpoint --pipe 'ssh vault \"cat >> statements.ndjson\"'"
)
@db_option
@click.option("--append", "path", type=click.Path(dir_okay=False), help="Also append it to this file.")
@click.option("--pipe", metavar="COMMAND", help="Also give it to this shell command's standard input.")
def checkpoint(db: str | None, path: str | None, pipe: str | None) -> int:
    """Print a statement of what the record is now: each generation's length, lines and chain.

    `verify --against FILE` later proves that the record only grew since. Keep statements off this host: one who may
    write the database may write a file beside it too.

    Exit codes: 0 done, 1 the command of --pipe failed, 2 bad usage, or no database.
    """
    database = config.resolve_database(db)
    with closing(open_reader(database)) as connection, translated(database):
        line = statement.to_line(statement.state(connection, database, time.time()))
    click.echo(plain_json(line))
    if path is not None:
        try:
            statement.append(path, line)
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}", hint="The statement is on standard output all the same: keep that."
            ) from error
    if pipe is not None:
        given = line.encode() + b"\n"
        code = subprocess.run(pipe, shell=True, input=given, check=False).returncode  # noqa: S602 - a flag, typed by hand
        if code:
            raise CodexLoggingError(
                f"the command for the statement ended with {code}: {pipe}",
                hint="The statement is on standard output all the same: keep that.",
            )
    return 0


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd purge --days 90 --sources --dry-run"
    "\n  codex-ingestd purge --days 365 --sources --rows"
)
@db_option
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    required=True,
    help="Only sessions at rest for so many days.",
)
@click.option("--session", "sessions", multiple=True, metavar="ID", help="Only this session; may be given again.")
@click.option(
    "--sources", is_flag=True, help="Remove the NDJSON and .meta files (the default where --rows isn't given)."
)
@click.option("--rows", is_flag=True, help="Remove the rows and recorded bytes; tombstones stay.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@json_option
def purge(
    db: str | None, days: float, sessions: tuple[str, ...], sources: bool, rows: bool, dry_run: bool, as_json: bool
) -> int:
    """Remove old sessions: only what is wholly ingested, and verifies. May run beside a daemon.

    With --rows nothing of them is left in the database's files either: those are written anew, which takes as much
    room again, and time. Copies of the database, made by finalize, rebuild or a backup, keep what they have.

    Exit codes: 0 done, 1 something had to stay, 2 bad usage, or no such session or database.
    """
    config.refuse_test_mode()
    database = config.resolve_database(db)
    open_reader(database).close()
    before = time.time() - days * DAY_SECONDS
    wish = Wish(before, sessions, sources or not rows, rows, dry_run, config.resolve_log_dir())
    results: list[Purged] = []
    try:
        with closing(Store(database)) as store:
            _refuse_unknown(store, sessions)
            results.extend(purge_streams(store, wish))
    finally:
        if as_json:
            tell_json([result._asdict() for result in results])
        else:
            _show_purged(results, wish)
    return int(any(result.kept_because for result in results))


def _refuse_unknown(store: Store, sessions: Sequence[str]) -> None:
    """Raises NoSuchSessionError for a session of which there is nothing: no stream, no log, no row of a forerunner."""
    for session_id in sessions:
        log = os.path.join(config.resolve_log_dir(), f"{session_id}.ndjson")
        if not (os.path.lexists(log) or legacy.count(store.connection, session_id)):
            session_streams(store.connection, session_id)


def _show_purged(results: list[Purged], wish: Wish) -> None:
    word = "would go" if wish.dry_run else "gone"
    for result in results:
        tell(result.as_text(wish))
    gone = sum(result.kept_because is None for result in results)
    tell(f"{counted(gone, 'session')} {word}, {len(results) - gone} kept")


commands = (verify, restore, rebuild, checkpoint, purge)
