"""A finished copy of the database: consistent, checked, in one file; kept outside as well, and staged with git."""

from __future__ import annotations

import mmap
import os
import pathlib
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from typing import NamedTuple

import apsw
import portalocker

from codex.logging import config, staging
from codex.logging.errors import CodexLoggingError, ConfigError, DatabaseError
from codex.logging.findings import Found, remains, remember, survey
from codex.logging.import_ndjson import LOCK_SECONDS, import_streams, stream_locations
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.sources import Location
from codex.logging.owners import make_folders
from codex.logging.plain import counted
from codex.logging.redaction import forget_heads, write_redacted
from codex.logging.secrets.allow import NAME as ALLOW_NAME
from codex.logging.secrets.search import Search
from codex.logging.store.connection import BUSY_MILLISECONDS, has_relation, is_current, open_reader, translated
from codex.logging.store.disk import sync
from codex.logging.store.sqlite import Store
from codex.logging.wiping import UNERASED
from codex.logging.writer import warn

COPY_NAME = "codex_session_logs.db"
WAIT_SECONDS = 60.0
_INNER_FOLDERS = frozenset({".codex", "databases"})  # where a workspace keeps its database
_NAME_CHARACTERS = 60
_SHOWN = 10
Path = str | os.PathLike[str]


class Finalized(NamedTuple):
    """What was done: new rows, where the copies are, the paths that git has now.

    `notes` say what was left out and stays so until somebody changes something; `failures` may pass by themselves.
    Where there are `secrets` the copy is without them, and the database was not staged.
    """

    database: str
    copy: str
    backup: str | None = None
    rows: int = 0
    staged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    secrets: tuple[Found, ...] = ()


class Looked(NamedTuple):
    """The secrets that rows hold, and whether the file still had bytes of some that were deleted."""

    found: list[Found]
    deleted: bool = False


def finalize_codex_log_db(db_path: Path | None = None, *, log_dir: Path | None = None) -> pathlib.Path:
    """Import what is pending, copy the database to `codex_session_logs.db` beside it, stage both; the copy's path.

    What can't be staged, backed up or imported is a warning. Raises DatabaseError or ConfigError when there is no
    copy; where the caller is on its way out with an exception of its own, that is a warning too.
    """
    leaving = sys.exception() is not None
    settings = config.load(log_dir, db_path)
    try:
        done = finalize(settings.database, settings.log_dir)
    except CodexLoggingError as error:
        if not leaving:
            raise
        warn(f"not finalized: {error}")
        return pathlib.Path(copy_path(settings.database))
    for message in (*done.notes, *done.failures):
        warn(message)
    return pathlib.Path(done.copy)


def finalize(database: str, log_dir: str | None, *, allow_secrets: bool | None = None) -> Finalized:
    """Import what is pending under `log_dir` (None: nothing), check, look for secrets, copy, back up, stage.

    With `allow_secrets` (None: as CODEX_ALLOW_SECRETS says) nothing is looked for. With TEST_MODE=1 nothing at all is
    done. Raises DatabaseError or ConfigError when there is no copy.
    """
    done = Finalized(database, copy_path(database))
    if done.copy == database:
        raise ConfigError(f"{database} bears the finalized copy's own name", hint="Give the database another name.")
    if config.test_mode():
        return done
    rows, failures = (0, []) if log_dir is None else _import_pending(database, log_dir)
    allow_secrets = config.allows_secrets() if allow_secrets is None else allow_secrets
    if not allow_secrets:
        _bring_up_to_date(database)
    secrets, deleted = snapshot(database, done.copy, None if allow_secrets else Search.of(database))
    backup = None
    try:
        backup = archive(done.copy)
    except CodexLoggingError as error:
        failures.append(f"not backed up: {error}")
    staged = staging.stage(None if secrets else database, done.copy, scanned=not allow_secrets, copy_for_both=deleted)
    notes = [*_warnings(database, secrets), *staging.offers(log_dir, f"{database}.key")] if secrets else []
    if deleted:
        notes.append(f"{database} still has bytes of a secret that was deleted: the copy was staged in its place")
    return done._replace(
        backup=backup,
        rows=rows,
        staged=tuple(staged.paths),
        notes=(*notes, *staged.notes),
        failures=(*failures, *staged.failures),
        secrets=tuple(secrets),
    )


def _bring_up_to_date(database: str) -> None:
    """What is found is noted in tables that an older version's database lacks. Raises DatabaseError."""
    with closing(open_reader(database)) as reader:
        if is_current(reader):
            return
    Store(database).close()


def _warnings(database: str, secrets: list[Found]) -> list[str]:
    """Where the secrets are, and what to do."""
    lines = dict.fromkeys((one.session_id, one.seq, one.rule, one.hash) for one in secrets)
    shown = [f"secret in {name} line {seq}: {rule} [{hashed}]" for name, seq, rule, hashed in list(lines)[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"… and {len(lines) - _SHOWN} more")
    return [
        f"not staged: {database} holds {counted(len(lines), 'secret')}; the copy was written without them",
        *shown,
        "`codex-logs secrets` lists them; a line `hash:` and the eight digits in brackets lets one be, in"
        f" {os.path.join(os.path.dirname(database), ALLOW_NAME)}; --allow-secrets lets all",
    ]


def archive(database: str) -> str | None:
    """Put a copy into the database's own folder under GH_COPILOT_BACKUP_ROOT, made if missing.

    Its path comes back, None where no such root is set. Raises DatabaseError.
    """
    target = None if config.test_mode() else backup_path(database)
    if target is not None and target != database:
        snapshot(database, target)
    return target


def backup_path(database: str) -> str | None:
    """Where a database's copy is kept under GH_COPILOT_BACKUP_ROOT; None where no such root is set."""
    root = os.environ.get("GH_COPILOT_BACKUP_ROOT")
    if not root:
        return None
    return os.path.join(config.absolute(root), _workspace(os.path.dirname(database)), COPY_NAME)


def _workspace(folder: str) -> str:
    """A name for the folder that a database lies in: other folders, and other hosts' ones, have other names."""
    place = os.path.realpath(folder)
    home = os.path.dirname(place) if os.path.basename(place) in _INNER_FOLDERS else place
    digest = blake2b(os.fsencode(f"{platform.node()}\0{place}"), digest_size=4).hexdigest()
    return f"{os.path.basename(home)[:_NAME_CHARACTERS]}-{digest}".lstrip("-")


def copy_path(database: str) -> str:
    """Where the finalized copy of a database lies."""
    return os.path.join(os.path.dirname(database), COPY_NAME)


def snapshot(database: str, target: str, search: Search | None = None) -> Looked:
    """Put a checked copy of a database, which others may be writing, at `target`: whole, in one file, mode 0600.

    It holds every row that was committed before the call. With a `search` it is without the secrets that come back, and
    without those that had been deleted. A former copy stays until the new one is sound. Raises DatabaseError.
    """
    part, bare = _parts(target)
    looked = Looked([])
    with translated(target):
        make_folders(os.path.dirname(target))
        with _alone(target):
            try:
                _copy(database, part)
                _check(part, database)
                _remove(bare)
                if search is not None:
                    looked = _without_secrets(part, bare, database, search)
                finished = bare if looked.found else part
                sync(finished)
                os.replace(finished, target)
                sync(os.path.dirname(target))
            finally:
                _remove(part)
                _remove(bare)
    return looked


def discard(target: str) -> None:
    """Remove a copy, and what a finalizer that was killed left beside it. Raises DatabaseError."""
    with translated(target), _alone(target):
        for path in (target, *_parts(target)):
            _remove(path)


def is_there(target: str) -> bool:
    """Whether there is a copy, or what a finalizer that was killed left of one."""
    return any(map(os.path.lexists, (target, *_parts(target))))


def _parts(target: str) -> tuple[str, str]:
    """Where a copy is made, and where it is made without secrets."""
    return f"{target}.part", f"{target}.part-redacted"


def _without_secrets(part: str, bare: str, database: str, search: Search) -> Looked:
    """What a copy holds; where rows hold anything, another copy is made without it, at `bare`.

    The copy is what is looked at, since it stands still. The database is told how far that went. The bytes of deleted
    rows, which a copy has as well, are wiped from it.
    """
    with closing(apsw.Connection(part)) as copy:
        copy.pragma("synchronous", "off")
        found, deleted = survey(copy, search), False
        with suppress(apsw.Error), closing(apsw.Connection(database, flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            if has_relation(connection, "secret_watermarks"):
                remember(connection, copy)
        if found:
            write_redacted(copy, bare, found, search)
        else:
            if has_relation(copy, "redacted_spans"):
                forget_heads(copy)
            deleted = _wipe(copy, part, search)
    if found:
        _check(bare, database)
    return Looked(found, deleted)


def _wipe(copy: apsw.Connection, part: str, search: Search) -> bool:
    """Make a copy without the bytes of deleted rows, where they may hold a secret; whether they did."""
    found = remains(part, search)
    if not found:
        return False
    copy.execute("VACUUM")
    with open(part, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as rows:
        return any(rows.find(value) < 0 for value in found)


def _copy(database: str, part: str) -> None:
    # A copy of the file alone would lack what is only in the write-ahead log, and tear pages that a checkpoint is
    # writing. One step is one read transaction: a writer goes on meanwhile, and the copy can't see it.
    _remove(part)  # of a finalizer that was killed
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with closing(open_reader(database)) as source, closing(apsw.Connection(part)) as copy:
        copy.pragma("synchronous", "off")  # it is synchronized once, when it is whole
        with copy.backup("main", source, "main") as backup:
            backup.step(-1)
        if has_relation(copy, "meta"):
            copy.execute("DELETE FROM meta WHERE key = ?", (UNERASED,))  # of the other files, this one among them
        copy.pragma("journal_mode", "delete")


def _check(part: str, database: str) -> None:
    """Raise DatabaseError for a damaged copy."""
    with closing(apsw.Connection(part, flags=apsw.SQLITE_OPEN_READONLY)) as copy:
        findings = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(3)")]
    if findings != ["ok"]:
        raise DatabaseError(
            f"{database} is damaged: {'; '.join(findings)}",
            hint="`codex-ingestd rebuild` builds it anew; the former copy was left as it was.",
        )


def _import_pending(database: str, log_dir: str) -> tuple[int, list[str]]:
    """New rows, and why a file could not be read."""
    with closing(Store(database)) as store:
        engine = Engine(store, lock_seconds=LOCK_SECONDS, redactor=Redactor.of(store))
        engine.resume(log_dir)
        results = list(import_streams(engine, _pending(log_dir)))
    return sum(result.rows for result in results), [f"not imported: {r.error}" for r in results if r.error]


def _pending(log_dir: str) -> list[Location]:
    """The streams under the folder, and the one log that all sessions are written to, where that is elsewhere."""
    locations = stream_locations(log_dir)
    log = config.single_log()
    if log is not None and os.path.exists(log) and log not in {location.path for location in locations}:
        locations.append(Location(os.path.dirname(log), os.path.basename(log), 0))
    return locations


@contextmanager
def _alone(target: str) -> Iterator[None]:
    """One writer of this copy at a time, so that an older snapshot never replaces a newer one."""
    descriptor = os.open(f"{target}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        while True:
            try:
                portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
                break
            except portalocker.AlreadyLocked as error:
                if time.monotonic() > deadline:
                    raise DatabaseError(f"{target} is being written by another finalize") from error
                time.sleep(0.02)
            except portalocker.LockException as error:
                raise DatabaseError(f"{target}.lock can't be locked: {error}") from error
        yield
    finally:
        os.close(descriptor)


def _remove(part: str) -> None:
    for path in (part, f"{part}-journal", f"{part}-wal", f"{part}-shm"):
        with suppress(FileNotFoundError):
            os.unlink(path)
