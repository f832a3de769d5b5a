"""Bring NDJSON files into the database once, now: `codex-import-ndjson`, and the functions behind it."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

import click

from codex.logging import config, terminal
from codex.logging.errors import CodexLoggingError, SourceError
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.sources import Found, Location, locate, look, scan
from codex.logging.plain import counted
from codex.logging.store import search_index
from codex.logging.store.connection import translated
from codex.logging.store.fresh import filled
from codex.logging.store.sqlite import Store
from codex.logging.terminal import tell, tell_json

LOCK_SECONDS = 5.0
_GROUP_SECONDS = 0.02
_COLLECT_AFTER = 100_000  # objects: rows are many, and no garbage
Path = str | os.PathLike[str]


class Imported(NamedTuple):
    """What came of one stream: new rows, new rejects, bytes; `error` where it could not be read, `ignored` why not."""

    session_id: str
    path: str
    rows: int
    rejects: int
    taken: int
    error: str | None = None
    ignored: str = ""


def import_session(session_id: str, log_dir: Path | None = None, db_path: Path | None = None) -> int:
    """Import one session's file, and its rotated ones; the count of new rows comes back.

    With TEST_MODE=1 nothing is imported. Raises FileNotFoundError when there is no such file, SourceError or
    DatabaseError when it can't be done.
    """
    if config.test_mode():
        return 0
    settings = config.load(log_dir, db_path)
    location = session_location(session_id, settings.log_dir)
    with closing(Store(settings.database)) as store:
        result = import_stream(_engine(store, settings.database), location)
    if result.error is not None:
        raise SourceError(result.error)
    return result.rows


def import_all(log_dir: Path | None = None, db_path: Path | None = None) -> dict[str, int]:
    """Import every session under the folder: session id to new rows. A file that can't be read counts 0.

    With TEST_MODE=1 nothing is imported. Raises DatabaseError when it can't be done.
    """
    if config.test_mode():
        return {}
    settings = config.load(log_dir, db_path)

    def fill(store: Store) -> dict[str, int]:
        rows: dict[str, int] = {}
        for result in import_streams(_engine(store, settings.database), stream_locations(settings.log_dir)):
            rows[result.session_id] = rows.get(result.session_id, 0) + result.rows
        return rows

    return filled(settings.database, fill)


def session_location(session_id: str, log_dir: str) -> Location:
    """Where a session's live file is. Raises FileNotFoundError when neither it nor a rotated one is there."""
    path = config.session_path(session_id, log_dir)
    location = locate(log_dir, path)
    assert location is not None
    if look(location) is None and look(location.rotated(1)) is None:
        raise FileNotFoundError(2, "no log file of this session", path)
    return location


def stream_locations(root: str, skipped: Callable[[Found], None] | None = None) -> list[Location]:
    """Each stream's live location under the root, by name; `skipped` hears of names that are no regular file."""
    keys: set[str] = set()
    for found in scan(root):
        if found.facts is not None:
            keys.add(found.location.key)
        elif skipped is not None:
            skipped(found)
    return [Location(root, key, 0) for key in sorted(keys)]


def import_streams(engine: Engine, locations: Iterable[Location]) -> Iterator[Imported]:
    """Import stream after stream; one that fails doesn't stop the others. Small ones commit together."""
    waiting = iter(locations)
    while True:
        with engine.group():
            begun = list(_first_turns(engine, waiting))
        if not begun:
            return
        for location, result, more in begun:
            yield import_stream(engine, location, result) if more else result


def _first_turns(engine: Engine, waiting: Iterator[Location]) -> Iterator[tuple[Location, Imported, bool]]:
    """The next streams' first batches, for a moment: what came of each, and whether it has more."""
    until = time.monotonic() + _GROUP_SECONDS
    for location in waiting:
        yield location, *_turn(engine, location, _nothing(location))
        if time.monotonic() > until:
            return


def import_stream(engine: Engine, location: Location, result: Imported | None = None) -> Imported:
    """Import all that one stream has, on top of what came of it already."""
    result, more = result or _nothing(location), True
    while more:
        result, more = _turn(engine, location, result)
    return result


def _turn(engine: Engine, location: Location, result: Imported) -> tuple[Imported, bool]:
    """One batch more: what has come of the stream by then, and whether it has more."""
    try:
        progress = engine.ingest(location, final=True)
    except SourceError as failure:
        return result._replace(error=str(failure)), False
    except (CodexLoggingError, OSError, MemoryError):
        raise
    except Exception as failure:  # a defect that one file shows must not stop the others
        if os.environ.get("CODEX_DEBUG"):
            raise
        error = f"{location.path}: {type(failure).__name__}: {failure}; this is a defect: CODEX_DEBUG=1 shows where"
        return result._replace(error=error), False
    result = result._replace(
        rows=result.rows + progress.events,
        rejects=result.rejects + progress.rejects,
        taken=result.taken + progress.taken,
        ignored=result.ignored or progress.ignored,
    )
    return result, progress.more


def _nothing(location: Location) -> Imported:
    return Imported(location.session_id, location.path, 0, 0, 0)


def _engine(store: Store, database: str) -> Engine:
    """One for a store of that database, which may be made somewhere else."""
    return Engine(store, lock_seconds=LOCK_SECONDS, redactor=Redactor.of(store, database))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='\b\nExamples:\n  codex-import-ndjson --all\n  codex-import-ndjson --session "$CODEX_SESSION_ID" --json',
)
@click.option("--session", "session_id", metavar="ID", help="Import this session.")
@click.option("--all", "everything", is_flag=True, help="Import every session of the folder.")
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False),
    help="Folder of the NDJSON files.  [env: CODEX_SESSION_LOG_DIR; default: .codex/sessions]",
)
@terminal.db_option
@click.option("--no-index", is_flag=True, help="Leave the search index to the daemon.")
@click.option("--json", "as_json", is_flag=True, help="Say what was done as one JSON object.")
@click.version_option(package_name="codex-ingestd")
def command(
    session_id: str | None, everything: bool, log_dir: str | None, db: str | None, no_index: bool, as_json: bool
) -> int:
    """Import session logs into the database, each line once, and index them for search.

    It may run beside the daemon and beside itself. Exit codes: 0 all is well, 1 a file failed, 2 bad usage.
    """
    if everything == (session_id is not None):
        raise click.UsageError("give either --session ID or --all")
    if config.test_mode():
        tell("TEST_MODE is set: nothing is imported", err=True)
        return 0
    settings = config.load(log_dir, db)
    began = time.perf_counter()
    skipped: list[str] = []
    if session_id is not None:
        try:
            locations = [session_location(session_id, settings.log_dir)]
        except FileNotFoundError as error:
            raise CodexLoggingError(
                f"no log file of session {session_id!r}: {error.filename}",
                hint="Look into the folder, or name another one with --log-dir.",
            ) from error
    else:
        locations = stream_locations(
            settings.log_dir, lambda found: skipped.append(f"{found.location.path} {found.reason}")
        )
    gc.set_threshold(_COLLECT_AFTER)

    def fill(store: Store) -> list[Imported]:
        engine = _engine(store, settings.database)
        engine.resume(settings.log_dir)
        found = _with_progress(import_streams(engine, locations), len(locations), quiet=as_json)
        if not no_index:
            _index(store, quiet=as_json)
        return found

    results = filled(settings.database, fill)
    skipped += [f"{result.path}: {result.ignored}" for result in results if result.ignored]
    _report(results, skipped, time.perf_counter() - began, settings, as_json)
    return int(any(result.error for result in results))


def _with_progress(results: Iterable[Imported], count: int, *, quiet: bool) -> list[Imported]:
    if quiet or count < 2 or not sys.stderr.isatty():
        return list(results)
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return list(track(results, "Importing", total=count, console=console, transient=True))


def _index(store: Store, *, quiet: bool) -> None:
    """Bring the search index up to all that is committed."""
    filler = search_index.Filler(store.connection, search_index.LONG_BYTES, search_index.LONG_PAGES)
    with translated(store.path):
        if not filler.look():
            return
        with terminal.progress("Indexing", filler.left, quiet=quiet) as advance:
            left, more = filler.left, True
            while more:
                more = filler.step()
                advance(left - filler.left)
                left = filler.left


def _report(
    results: list[Imported], skipped: list[str], seconds: float, settings: config.Config, as_json: bool
) -> None:
    rows = sum(result.rows for result in results)
    rejects = sum(result.rejects for result in results)
    failed = [result for result in results if result.error]
    if as_json:
        summary = {
            "files": len(results),
            "rows": rows,
            "rejects": rejects,
            "bytes": sum(result.taken for result in results),
            "seconds": round(seconds, 3),
            "failed": [{"path": result.path, "error": result.error} for result in failed],
            "skipped": skipped,
            "log_dir": settings.log_dir,
            "database": settings.database,
        }
        tell_json(summary)
        return
    for result in failed:
        tell(f"failed: {result.error}", err=True)
    for reason in skipped:
        tell(f"skipped: {reason}", err=True)
    done = ", ".join([counted(len(results), "file"), counted(rows, "new row"), counted(rejects, "reject")])
    tell(f"{done} in {seconds:.2f} s into {settings.database}")
    if not results:
        tell(f"No *.ndjson or *.jsonl files in {settings.log_dir}: name the folder with --log-dir.", err=True)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
