"""The shared record on PostgreSQL, asked as a local database is: see daemon/codex_ingestd/forward/postgres.

Imported only where a URL names one. Values are put into the text by the driver, which quotes them as the server says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, cast

import psycopg
from psycopg import conninfo, sql
from tzlocal import get_localzone_name

from codex.logging import address
from codex.logging.errors import CodexLoggingError, ConfigError, DatabaseError, DatabaseMissingError
from codex.logs.read.engine import OutOfReachError, Rows, Shared

_CONNECT_SECONDS = 10
# What else libpq does for as long as the system lets it: a server that was unplugged is given up after this.
_LIMITS = {
    "connect_timeout": _CONNECT_SECONDS,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 30,
    "keepalives_count": 3,
}
_READY = "SELECT to_regclass('codex.sqlite_schema') IS NOT NULL"
# To compile a query takes seconds, where many views stand in it, and to ask it as it is less than one.
_SETTINGS = """
SELECT set_config('search_path', 'codex', false), set_config('default_transaction_read_only', 'on', false),
       set_config('work_mem', '64MB', false), set_config('jit', 'off', false), set_config('TimeZone', %s, false)"""
_HOSTS = "SELECT host, host_id::text FROM codex.hosts ORDER BY host"
_CHOOSE = "SELECT set_config('codex.host', %s, false), set_config('codex.names', %s, false)"
# Where the record is spread over nodes, each of them must know what the views ask for: it takes SET LOCAL alone along.
_IS_SPREAD = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus')"
_TELL_NODES = "SET citus.propagate_set_commands = 'local'"
_OF_VIEWS = ("codex.host", "codex.names", "TimeZone")
_PARTS = re.compile(
    r"""(?P<as_is>'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|::)|(?P<percent>%)|\?(?P<number>\d*)|:(?P<name>[A-Za-z_]\w*)"""
)
_NEAR = 8
_PASSING = {"08", "53", "57"}  # classes of errors: no connection, no room, told to go
_MISSING = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)


class NoSuchHostError(CodexLoggingError):
    """No host of that name has forwarded anything, or several have."""

    exit_code = 2


class Postgres(Shared):
    """A connection that reads; each query is a transaction, or all of a `with` block are one."""

    def __init__(self, url: str, host: str | None = None) -> None:
        """Connect, as one host is seen or as all are. Raises DatabaseError, ConfigError, NoSuchHostError."""
        self._address = address.parse(url, "postgresql")
        self.path = self._address.name_with_user
        self._block: Any = None
        self._of_transactions: list[str] = []
        with self._told():
            self._connection = psycopg.connect(
                url, autocommit=True, cursor_factory=psycopg.ClientCursor, **_limits(url)
            )
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            with self._told():
                self._prepare(host)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, host: str | None) -> None:
        if not self._one(_READY):
            raise DatabaseMissingError(
                f"{self.path} holds no shared record, or one of an older version",
                hint="`codex-ingestd forward --to URL` makes it, and brings it up to date.",
            )
        try:
            self._connection.execute(_SETTINGS, (_zone(),))
        except psycopg.errors.InvalidParameterValue:  # no zone that it knows, nor, mostly, this machine
            self._connection.execute(_SETTINGS, ("UTC",))
        hosts = self._connection.execute(_HOSTS).fetchall()
        chosen = "" if host is None else _host_id(host, hosts)
        self._connection.execute(_CHOOSE, (chosen, "with host" if not chosen and len(hosts) > 1 else ""))
        if self._one(_IS_SPREAD):
            self._connection.execute(_TELL_NODES)
            settings = ((name, self._one(f"SHOW {name}")) for name in _OF_VIEWS)
            self._of_transactions = [f"SET LOCAL {name} = {sql.quote(value)}" for name, value in settings]

    def _one(self, query: str) -> Any:
        row = self._connection.execute(query).fetchone()
        return None if row is None else row[0]

    def execute(self, statements: str, bindings: Any = None, /) -> Rows:
        """Ask it, in SQLite's words for the places of values."""
        values = bindings or ()
        named = values if isinstance(values, Mapping) else {str(place): value for place, value in enumerate(values, 1)}
        places = {name: int(value) if isinstance(value, bool) else value for name, value in named.items()}
        with self._told():
            if self._block is not None or not self._of_transactions:
                return self._connection.execute(_placed(statements), places)
            with self._connection.transaction():
                self._tell_nodes()
                return self._connection.execute(_placed(statements), places)

    def _tell_nodes(self) -> None:
        """At the begin of a transaction; each in a query of its own, for a node is told the whole query."""
        for statement in self._of_transactions:
            self._connection.execute(statement.encode())

    def close(self) -> None:
        """End it."""
        self._connection.close()

    def __enter__(self) -> None:
        self._block = self._connection.transaction()
        with self._told():
            self._block.__enter__()
            self._tell_nodes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        block, self._block = self._block, None
        with self._told():
            return cast("bool | None", block.__exit__(kind, error, trace))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The server's and the driver's errors as DatabaseError, with what to do next and without a password."""
        try:
            yield
        except psycopg.Error as error:
            passes = isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08")[:2] in _PASSING
            kind = OutOfReachError if passes else DatabaseError
            raise kind(f"{self.path}: {self._words(error)}", hint=_hint(error)) from None

    def _words(self, error: psycopg.Error) -> str:
        text = " ".join(str(error.diag.message_primary or error).split()) or type(error).__name__
        return self._address.without_secrets(text)


def refuse_password(url: str) -> None:
    """What stands on a command line is seen by everybody on the machine. Raises ConfigError."""
    address.parse(url, "postgresql").refuse_secrets(
        "Leave it out of the URL: set PGPASSWORD or PGPASSFILE, or write it into ~/.pgpass; or set CODEX_LOG_DB_PATH to"
        " the whole URL."
    )


def _limits(url: str) -> dict[str, Any]:
    """Bounds of what may take for ever, where the URL names none of its own. Raises ConfigError where it is none."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigError(
            "this is no URL of a PostgreSQL database",
            hint="Give postgresql://USER@HOST:PORT/DATABASE; a letter such as @ or / in a name is written as %40, %2F.",
        ) from None
    return {name: value for name, value in _LIMITS.items() if name not in given}


def _zone() -> str:
    """The time zone of this machine's clock: its name, or the rule that TZ holds."""
    rule = os.environ.get("TZ", "").removeprefix(":")
    return rule if rule and not os.path.isabs(rule) else get_localzone_name()


def _host_id(text: str, hosts: list[tuple[str, str]]) -> str:
    """The id of the host that is meant by its name, or by the beginning of its id. Raises NoSuchHostError."""
    found = [host_id for name, host_id in hosts if text == name] or [
        host_id for _, host_id in hosts if host_id.startswith(text.lower())
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(name for name, _ in hosts[:_NEAR]) + (", …" if len(hosts) > _NEAR else "")
    raise NoSuchHostError(
        f"{text!r} may be {len(found)} hosts" if found else f"no host {text!r} is there",
        hint=f"There are: {names}." if names else "Nothing was forwarded yet: `codex-ingestd forward` does that.",
    )


@lru_cache(maxsize=256)
def _placed(query: str) -> str:
    """The query with the driver's places of values for SQLite's: `?` and `?1` by their number, `:name` by name."""
    count = 0

    def place(part: re.Match[str]) -> str:
        nonlocal count
        if part["as_is"] is not None:
            return part["as_is"].replace("%", "%%")
        if part["percent"]:
            return "%%"
        if part["name"]:
            return f"%({part['name']})s"
        count += 1
        return f"%({part['number'] or count})s"

    return _PARTS.sub(place, query)


def _hint(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "Ask the owner of the database to grant you the role codex_reader."
    if isinstance(error, _MISSING):
        return "An older version made this record: `codex-ingestd forward` brings it up to date."
    if isinstance(error, psycopg.OperationalError) and not error.sqlstate:
        return "Is the server up, and may this machine reach it? `psql` with the same URL tells more."
    return ""
