"""Open the database: for the writers with its schema brought up to date, for the readers as it is."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from importlib import resources
from types import TracebackType
from typing import Any

import apsw

from codex.logging.errors import ConfigError, DatabaseError, DatabaseMissingError, NewerDatabaseError
from codex.logging.owners import make_folders
from codex.logging.store import former, legacy
from codex.logging.store.private import refuse_open, refuse_special

APPLICATION_ID = 0x43445831  # "CDX1"
BUSY_MILLISECONDS = 5000
_TABLES = (
    "streams",
    "generations",
    "events",
    "segments",
    "meta",
    "ingest_rejects",
    "tombstones",
    "hook_runs",
    "search_index",
)


def open_writer(path: str, *, wait_milliseconds: int = BUSY_MILLISECONDS) -> apsw.Connection:
    """A connection that may write; the file and its folder are made, the schema is brought up to date.

    Raises DatabaseError when the file can't be used, ConfigError where it isn't this user's alone.
    """
    with translated(path):
        make_folders(os.path.dirname(path))
        refuse_open(path)
        refuse_special(path)
        _make_private(path)
        connection = apsw.Connection(path, statementcachesize=200)
        distrust(connection)
        connection.set_busy_timeout(wait_milliseconds)
        connection.pragma("page_size", 16384)  # takes effect on a new file only
        connection.pragma("auto_vacuum", 2)  # incremental, as well: merged and purged pages go back to the disk
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")
        migrate(connection, path)
    return connection


def _make_private(path: str) -> None:
    """Make an empty file with mode 0600; one that is there is not opened.

    Closing any descriptor of it would drop the POSIX locks of this process's other connections to it.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))


def open_reader(path: str) -> apsw.Connection:
    """A connection that can't write. Raises DatabaseMissingError when there is no such file."""
    with translated(path):
        _refuse_missing(path)
        refuse_special(path)
        try:
            connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
            distrust(connection)
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            connection.pragma("schema_version")
        except (apsw.CantOpenError, apsw.ReadOnlyError):
            if not os.access(path, os.R_OK):
                raise DatabaseError(f"{path}: this user may not read it", hint=_MAY_READ) from None
            # In a folder that we can't write, a WAL database opens only as what it is: nobody writes it.
            _refuse_unread_log(path)
            connection = apsw.Connection(
                f"file:{_quoted(path)}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
            distrust(connection)
            connection.pragma("schema_version")
    return connection


def _refuse_missing(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise DatabaseMissingError(
            f"there is no database at {path}",
            hint="Start `codex-ingestd run`, or run `codex-import-ndjson --all`, or name another one with --db.",
        ) from None
    except PermissionError as error:
        raise DatabaseError(f"{path}: {error.strerror}", hint=_MAY_READ) from error
    if stat.S_ISDIR(mode):
        raise DatabaseMissingError(f"{path} is a folder", hint="Give the path of a *.db file.")


def distrust(connection: apsw.Connection) -> None:
    """Somebody else may have made the file: what its views and triggers name is no function of ours, or an extension's.

    Nor do they write where virtual tables keep their own, and a page's cells are looked at before they are believed.
    """
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.pragma("cell_size_check", True)


def _refuse_unread_log(path: str) -> None:
    try:
        size = os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return
    if size:
        raise DatabaseError(
            f"{path}: the newest rows are in its write-ahead log, which can't be read without the right to write",
            hint="Copy the database and its -wal file to a folder that you may write, and name that one with --db.",
        )


def scalar(connection: apsw.Connection, query: str, values: tuple[object, ...] = ()) -> Any:
    """The first column of the query's first row; None when it has none."""
    row = connection.execute(query, values).fetchone()
    return None if row is None else row[0]


def has_relation(connection: apsw.Connection, name: str) -> bool:
    """Whether there is a table or a view of this name."""
    return bool(scalar(connection, "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?", (name,)))


class immediate:  # noqa: N801 - a context manager; one by a generator would be a tenth of a live commit
    """One write transaction, rolled back when the block raises; within another one a part of it, rolled back alone."""

    __slots__ = ("_connection", "_end", "_undo")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        begin, self._end, self._undo = _NESTED if self._connection.in_transaction else _WHOLE
        self._connection.execute(begin)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._connection.execute(self._end)
        except BaseException:
            self._roll_back()
            raise
        if error is not None:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute(self._undo)


_WHOLE = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
_NESTED = ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part")


class translated:  # noqa: N801 - as above
    """SQLite's and the file system's errors as DatabaseError, with what to do next.

    A name that is no UTF-8, of the database or of a folder that it is to hold, is a ConfigError.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, apsw.Error):
            hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "")
            raise DatabaseError(f"{self._path}: {error}", hint=hint) from error
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # that one is of who reads our output
            hint = _SYSTEM_HINTS.get(error.errno or 0, "Choose another place with --db.")
            raise DatabaseError(f"{self._path}: {error.strerror}", hint=hint) from error
        if isinstance(error, UnicodeDecodeError):
            raise DatabaseError(f"{self._path}: a text in it is no UTF-8", hint=_HINTS[apsw.CorruptError]) from error
        if isinstance(error, UnicodeEncodeError):
            name = error.object.encode(errors="backslashreplace").decode()
            raise ConfigError(
                f"{name} is no UTF-8 name, and SQLite takes no other", hint="Give it another name."
            ) from error


_MAY_READ = "Give this user the right to read the database and to enter its folder, or choose another --db."
_MAY_WRITE = "Give this user the right to write the database and its folder, or choose another --db."
_FULL = "The disk is full: make room; ingestion goes on by itself."
_SYSTEM_HINTS = {errno.EACCES: _MAY_WRITE, errno.EPERM: _MAY_WRITE, errno.EROFS: _MAY_WRITE, errno.ENOSPC: _FULL}
_HINTS: dict[type[apsw.Error], str] = {
    apsw.BusyError: "Another program holds the database; it is tried again.",
    apsw.LockedError: "Another program holds the database; it is tried again.",
    apsw.FullError: _FULL,
    apsw.ReadOnlyError: _MAY_WRITE,
    apsw.CantOpenError: _MAY_WRITE,
    apsw.NotADBError: "This file is no SQLite database: choose another --db, or move it away.",
    apsw.IOError: "The disk is full or fails, or its file system does: `df` and the system's log tell more; it is"
    " tried again.",
    apsw.CorruptError: "The database is damaged: stop the daemon and run `codex-ingestd rebuild`; where that can't read"
    " it either, move it away: it is made anew from the NDJSON files.",
}


def migrate(connection: apsw.Connection, path: str) -> None:
    """Take each numbered step that the file lacks, all in one transaction; a forerunner's file is upgraded in it.

    What was there before is kept beside it: see former.
    """
    steps = migrations()
    if _is_at(connection, len(steps)):
        return
    with immediate(connection):
        if _is_at(connection, len(steps)):  # another process brought it up to date in the meantime
            return
        if connection.pragma("application_id") != APPLICATION_ID:
            _refuse_others(connection, path)
            connection.pragma("application_id", APPLICATION_ID)
        version = connection.pragma("user_version")
        if version > len(steps):
            raise NewerDatabaseError(
                f"{path} was made by a newer version (schema {version}, this program knows {len(steps)})",
                hint="Upgrade codex-ingestd, or choose another --db.",
            )
        kept = former.keep(path, version) if version or legacy.is_there(connection) else ""
        legacy.set_aside(connection, path)
        for number, sql in enumerate(steps[version:], version + 1):
            connection.execute(sql)
            connection.pragma("user_version", number)
        legacy.show(connection)
        if kept:
            former.note(connection, kept, len(steps))


def is_current(connection: apsw.Connection) -> bool:
    """Whether a writer would find nothing to bring up to date."""
    return _is_at(connection, len(migrations()))


def _is_at(connection: apsw.Connection, version: int) -> bool:
    """Whether the file is ours, with this many steps taken."""
    return bool((connection.pragma("application_id"), connection.pragma("user_version")) == (APPLICATION_ID, version))


def migrations() -> list[str]:
    """The SQL of the numbered steps, in order."""
    folder = resources.files(__package__) / "schema"
    steps = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}\.sql", entry.name))
    return [(folder / step).read_text(encoding="utf-8") for step in steps]


def _refuse_others(connection: apsw.Connection, path: str) -> None:
    if connection.pragma("application_id") or connection.pragma("user_version"):
        raise DatabaseError(f"{path} is another program's database", hint="Choose another --db.")
    names = {"table": [*_TABLES, *(f"legacy_{name}" for name in legacy.NAMES)], "view": [*_TABLES, *legacy.NAMES]}
    query = "SELECT 1 FROM sqlite_schema WHERE type = ? AND name = ?"
    taken = [name for kind in names for name in names[kind] if scalar(connection, query, (kind, name))]
    if taken:
        raise DatabaseError(
            f"{path} already holds a table or view named {taken[0]} that this program didn't make",
            hint="Choose another --db.",
        )


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
