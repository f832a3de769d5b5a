"""What a reader opens: the database with what is pending in it; where there is none, the log files themselves.

A reader never makes a database. Files are read by way of one without a name, filled by the same engine, so that there
is one answer to what a line means.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import apsw
import msgspec

from codex.logging import config
from codex.logging.errors import CodexLoggingError, DatabaseMissingError, SourceError
from codex.logging.events import Stream
from codex.logging.rows import Row, Selection, select_rows
from codex.logging.store.connection import has_relation, immediate, is_current, open_reader, scalar, translated
from codex.logging.store.record import Record
from codex.logging.writer import warn

if TYPE_CHECKING:  # what imports is loaded where something may be pending: help, and other databases, start without it
    from codex.logging.ingest.engine import Engine
    from codex.logging.ingest.sources import Facts, Location
    from codex.logging.store.sqlite import Store

Path = str | os.PathLike[str]
_KNOWN = ("streams", "session_events", "logs", "codex_actions", "codex_log")
_VIEW = "SELECT sql FROM sqlite_schema WHERE name = 'session_events'"
_BY_RECORD = (
    "DROP TABLE IF EXISTS by_record",
    "CREATE TABLE by_record AS SELECT * FROM session_lines",
    "DROP VIEW session_events",
    "CREATE VIEW session_events AS SELECT * FROM by_record",
)
_SPANS = 'SELECT rowid, generation, "offset", length FROM by_record ORDER BY rowid'
_SET_SESSION = "UPDATE by_record SET session_id = ? WHERE rowid = ?"


class Opened(NamedTuple):
    """A database to read, and the name to call it by. In a `single` log the records themselves say their session.

    `again` brings in what has become pending since, where there is anything that may be imported.
    """

    connection: apsw.Connection
    path: str
    single: bool = False
    again: Callable[[], None] = lambda: None

    def streams(self, session_id: str) -> list[Stream]:
        """The streams that may hold lines of the session. Raises CodexLoggingError where there is no such session."""
        if self.single and self.has_rows(session_id):
            from codex.logging.store.streams import read_streams

            return read_streams(self.connection)
        from codex.logging.restore import session_streams

        return session_streams(self.connection, session_id)

    def has_rows(self, session_id: str) -> bool:
        """Whether any event is the session's."""
        query = "SELECT 1 FROM session_events WHERE session_id = ? LIMIT 1"
        return self.connection.execute(query, (session_id,)).fetchone() is not None


@contextmanager
def reading(db: Path | None = None, session_id: str | None = None) -> Iterator[Opened]:
    """Open what `db`, else the environment, names, with what is pending (of one session, when it is given).

    A name that ends in `.ndjson` is a log, read directly. Where the resolved database isn't there, or holds nothing
    of a log yet, the files of the log folder are read. Raises DatabaseMissingError when there is nothing to read.
    """
    log = config.single_log(db)
    if log is not None:
        with _single(log) as (connection, again):
            yield Opened(connection, log, True, again)
        return
    database = config.resolve_database(db)
    resolved = database == config.resolve_database()
    if resolved and not _holds_logs(database):
        log_dir = config.resolve_log_dir()
        if log_files(log_dir, session_id):
            with _ingested(lambda: log_files(log_dir, session_id)) as (pending, connection):
                yield Opened(connection, database, again=pending.take)
            return
    if resolved:
        catch_up(database, session_id)
    with closing(open_reader(database)) as connection, ExitStack() as stack:
        yield Opened(connection, database, again=_Again(database, session_id, stack))


def rows(db: Path | None, selection: Selection, table: str | None = None) -> Iterator[Row]:
    """The selected rows, with what was pending. Raises DatabaseMissingError, DatabaseError."""
    with reading(db, selection.session_id) as opened, translated(opened.path):
        yield from select_rows(opened.connection, opened.path, selection, table)


def catch_up(database: str, session_id: str | None = None) -> None:
    """Import what is pending, when this is the database that the log folder feeds; nothing with TEST_MODE=1.

    What can't be imported now is warned of: a reader shows what is there.
    """
    with ExitStack() as stack:
        _Again(database, session_id, stack)()


class _Again:
    """Imports what is pending each time it is called; what it opens for that is closed with the stack."""

    def __init__(self, database: str, session_id: str | None, stack: ExitStack) -> None:
        self._database = database
        self._session_id = session_id
        self._stack = stack
        self._pending: _Pending | None = None
        self._told = ""

    def __call__(self) -> None:
        database = self._database
        if config.test_mode() or database != config.resolve_database() or not _holds_logs(database):
            return
        log_dir = config.resolve_log_dir()
        files = log_files(log_dir, self._session_id)
        if not files or (self._pending is None and _is_taken(database, log_dir, files)):
            return
        from codex.logging.store.sqlite import Store

        try:
            if self._pending is None:
                store = self._stack.enter_context(closing(Store(database)))
                self._pending = _Pending(store, lambda: log_files(log_dir, self._session_id))
                if len(files) > 1:
                    self._pending.engine.resume(log_dir)
            self._pending.take(files)
        except CodexLoggingError as error:
            if str(error) != self._told:
                warn(f"what is pending was not imported: {error}")
            self._told = str(error)


def _is_taken(database: str, log_dir: str, files: Iterable[Facts]) -> bool:
    """Whether nothing is pending, by the rule of who imports, without loading what imports."""
    from codex.logging.ingest.looks import Looks
    from codex.logging.store.streams import read_watermarks

    looks = Looks(time.monotonic, time.time)
    with closing(open_reader(database)) as connection, translated(database):
        if not is_current(connection):
            return False
        for taken in read_watermarks(connection, log_dir):
            looks.resume(log_dir, taken)
    return all(looks.resumed(facts) is not None for facts in files)


class _Pending:
    """Log files, and the database that they go into."""

    def __init__(self, store: Store, files: Callable[[], list[Facts]]) -> None:
        from codex.logging.import_ndjson import LOCK_SECONDS
        from codex.logging.ingest.engine import Engine
        from codex.logging.ingest.redactor import Redactor

        self.store = store
        self.engine = Engine(store, lock_seconds=LOCK_SECONDS, redactor=Redactor.of(store))
        self._files = files

    def take(self, files: list[Facts] | None = None) -> None:
        """Import what isn't there yet."""
        found = self._files() if files is None else files
        _import(self.engine, [facts for facts in found if not self.engine.is_settled(facts)])


def log_files(log_dir: str, session_id: str | None) -> list[Facts]:
    """The log files under the folder, rotated ones too: all, or those of one session."""
    from codex.logging.ingest.sources import Location, scan, survey

    if session_id is not None and os.sep not in session_id and "\0" not in session_id:
        with suppress(SourceError):  # too long for a name, for one
            direct = survey(Location(log_dir, f"{session_id}.ndjson", 0))
            if direct:
                return [facts for _, facts in direct]
    return [
        found.facts
        for found in scan(log_dir)
        if found.facts is not None and (session_id in (None, found.location.session_id) or _may_be_any(found.location))
    ]


def _may_be_any(location: Location) -> bool:
    """Whether only the file's first line tells whose session it is."""
    return location.key.endswith(".jsonl")


def _import(engine: Engine, files: Iterable[Facts]) -> None:
    """Import the streams that have these files, by name."""
    from codex.logging.import_ndjson import import_stream

    for location in sorted({facts.location.rotated(0) for facts in files}):
        result = import_stream(engine, location)
        if result.error is not None:
            warn(f"what is pending was not imported: {result.error}")


def _holds_logs(database: str) -> bool:
    """Whether the file is there, and has any table of ours or the forerunners'."""
    if not os.path.exists(database):
        return False
    with closing(open_reader(database)) as connection, translated(database):
        return any(has_relation(connection, name) for name in _KNOWN)


@contextmanager
def _ingested(files: Callable[[], list[Facts]]) -> Iterator[tuple[_Pending, apsw.Connection]]:
    """A database of these files alone, and a connection that reads it and notices what is brought in.

    It has lost its name before anything is in it: however this process ends, nothing of it stays.
    """
    from codex.logging.store.sqlite import Store

    with ExitStack() as stack:
        with tempfile.TemporaryDirectory(prefix="codex-logs-") as folder:
            store = stack.enter_context(closing(Store(os.path.join(folder, "session_logs.db"))))
            connection = stack.enter_context(closing(open_reader(store.path)))
        pending = _Pending(store, files)
        pending.take()
        yield pending, connection


@contextmanager
def _single(log: str) -> Iterator[tuple[apsw.Connection, Callable[[], None]]]:
    from codex.logging.ingest.sources import Location, survey

    folder, name = os.path.split(os.path.realpath(log))

    def files() -> list[Facts]:
        return [facts for _, facts in survey(Location(folder, name, 0))]

    if not files():
        raise DatabaseMissingError(
            f"there is no log at {log}", hint="Write to it first, or name another one with --db."
        )
    with _ingested(files) as (pending, connection):

        def again() -> None:
            version = pending.store.connection.total_changes()
            pending.take()
            if pending.store.connection.total_changes() != version:
                _tell_sessions_apart(pending.store.connection)

        with translated(pending.store.path):
            _tell_sessions_apart(pending.store.connection)
        yield connection, again


def _tell_sessions_apart(connection: apsw.Connection) -> None:
    """Let each event be of the session that its record names, where it names one, and not of the file's."""
    with immediate(connection):
        if not has_relation(connection, "session_lines"):
            view = str(scalar(connection, _VIEW))
            connection.execute(view.replace("CREATE VIEW session_events", "CREATE VIEW session_lines", 1))
        for statement in _BY_RECORD:
            connection.execute(statement)
        connection.executemany(_SET_SESSION, list(_named_sessions(connection)))
        connection.execute("CREATE INDEX by_record_session ON by_record (session_id)")
        connection.execute("CREATE INDEX by_record_place ON by_record (generation, seq, part)")


def _named_sessions(connection: apsw.Connection) -> Iterator[tuple[str, int]]:
    records: dict[int, Record] = {}
    for number, generation, offset, length in connection.execute(_SPANS):
        record = records.setdefault(generation, Record(connection, generation))
        named = _session_of(record.read(offset, length))
        if named:
            yield named, number


class _Named(msgspec.Struct):
    session_id: object = None


_NAMED = msgspec.json.Decoder(_Named)


def _session_of(raw: bytes) -> str | None:
    try:
        named = _NAMED.decode(raw).session_id
    except msgspec.MsgspecError:  # it holds half a surrogate pair, which the standard library's decoder takes
        try:
            named = json.loads(raw).get("session_id")
        except (ValueError, RecursionError):
            return None
    return named.encode(errors="replace").decode() if isinstance(named, str) else None
