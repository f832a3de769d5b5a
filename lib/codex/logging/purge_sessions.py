"""Remove old sessions under the forerunner's flags: `python -m codex.logging.purge_sessions --days N`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import apsw
import click

from codex.logging import config, terminal
from codex.logging.import_ndjson import stream_locations
from codex.logging.ingest.sources import look
from codex.logging.purge import DAY_SECONDS, Purged, Wish, purge
from codex.logging.store import legacy
from codex.logging.store.connection import immediate, open_reader, translated
from codex.logging.store.sqlite import Store, read_streams


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
    help="Only sessions at rest for so many days.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@terminal.db_option
def command(days: float, dry_run: bool, db: str | None) -> int:
    """Remove old sessions, their log files and their rows: only what is wholly ingested, and verifies.

    A tombstone stays of each, so that the record can still be verified. `codex-ingestd purge` can also choose sessions,
    and keep files or rows. May run beside a daemon.

    Exit codes: 0 done, 1 something had to stay, 2 no database.
    """
    config.refuse_test_mode()
    database = config.resolve_database(db)
    open_reader(database).close()
    before = time.time() - days * DAY_SECONDS
    wish = Wish(before, (), sources=True, rows=True, dry_run=dry_run)
    kept = gone = 0
    with closing(Store(database)) as store:
        upgraded = legacy.is_upgraded(store.connection)
        for result in _purge(store, wish, upgraded):
            kept += result.kept_because is not None
            gone += result.kept_because is None
            click.echo(_told(result, dry_run))
        if upgraded and gone and not dry_run:
            _wipe(store)
    return int(bool(kept))


def _purge(store: Store, wish: Wish, upgraded: bool) -> Iterator[Purged]:
    """Sessions with streams, log files that never became one, and sessions of which there are old rows alone."""
    known = {(stream.root, stream.key) for stream in read_streams(store.connection)}
    yield from purge(store, wish)
    for location in stream_locations(config.resolve_log_dir()):
        facts = look(location)
        if facts is not None and (location.root, location.key) not in known and facts.modified / 1e9 < wish.before:
            because = f"{location.path} was never ingested: run codex-import-ndjson --all"
            yield Purged(location.session_id, [location.path], 0, because)
    with translated(store.path):
        for session_id in legacy.at_rest(store.connection, wish.before) if upgraded else ():
            if not wish.dry_run:
                with immediate(store.connection):
                    legacy.remove(store.connection, session_id)
            yield Purged(session_id, [], 0, None)


def _wipe(store: Store) -> None:
    """Make the file anew: pages that a forerunner left half empty, or an upgrade did, may still hold purged texts."""
    with translated(store.path):
        store.connection.execute("VACUUM")
        store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _told(result: Purged, dry_run: bool) -> str:
    if result.kept_because is not None:
        return f"{result.session_id}: kept: {result.kept_because}"
    what = f"{len(result.files)} files and {result.length} bytes of rows" if result.length else "rows of a forerunner"
    return f"{result.session_id}: {'would go' if dry_run else 'gone'}: {what}"


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
