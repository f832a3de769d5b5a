"""A query that somebody else wrote: it may read, for so long, with so much memory, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import apsw

from codex.logging.errors import CodexLoggingError, ConfigError

_OPERATIONS_BETWEEN_LOOKS = 10_000
_LONGEST_VALUE = 128 << 20  # bytes: twice the longest line
_LONGEST_QUERY = 1 << 20
_CAPS = {
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_LENGTH: _LONGEST_VALUE,
    apsw.SQLITE_LIMIT_SQL_LENGTH: _LONGEST_QUERY,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SWITCHES = {
    apsw.SQLITE_DBCONFIG_DEFENSIVE: 1,
    apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE: 0,
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA: 0,
    apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA: 0,
}
_READS = {apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE}
_NO_FUNCTIONS = {
    "edit",
    "fsdir",
    "fts3_tokenizer",
    "fts5",
    "load_extension",
    "optimize",
    "readfile",
    "sqlite_log",
    "writefile",
}
_PRAGMAS_OF_A_NAME = {
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
}
_PRAGMAS = _PRAGMAS_OF_A_NAME | {
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "freelist_count",
    "function_list",
    "journal_mode",
    "module_list",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
}


class QueryError(ConfigError):
    """A query that SQLite can't take, or that isn't allowed to."""


class QueryLimitError(CodexLoggingError):
    """A query that took more time or memory than it may."""


class Stopwatch:
    """The seconds that a query has left; only those count that it spends in the block."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._end: float | None = None

    def __enter__(self) -> None:
        self._end = time.monotonic() + self._left

    def __exit__(self, *error: object) -> None:
        assert self._end is not None
        self._left, self._end = self._end - time.monotonic(), None

    def over(self) -> float:
        """Seconds that the query goes on past its end; negative as long as it hasn't come to it."""
        end = self._end
        return -1.0 if end is None else time.monotonic() - end


class Result(NamedTuple):
    """What a query gives: its columns' names, and its rows as they come."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[object, ...]]


def run_query(connection: apsw.Connection, query: str, watch: Stopwatch, memory: int) -> Result:
    """Run one query that only reads; `memory` is bytes, of all that SQLite holds in this process.

    The connection is of no other use afterwards. Raises QueryError where it isn't one query, can't be understood or
    would do more than read; also while rows are taken QueryLimitError.
    """
    refused = _confine(connection)
    connection.set_progress_handler(lambda: watch.over() > 0, _OPERATIONS_BETWEEN_LOOKS)
    apsw.hard_heap_limit(memory)
    rows = _rows(connection, query, watch, memory, refused)
    columns = next(rows)
    return Result(tuple(str(column) for column in columns), rows)


def _confine(connection: apsw.Connection) -> list[str]:
    """Let the connection read and no more; what it is refused is told in the list."""
    connection.pragma("temp_store", 2)  # what is sorted counts as memory, and no disk fills
    connection.pragma("query_only", True)
    for switch, value in _SWITCHES.items():
        connection.config(switch, value)
    for cap, most in _CAPS.items():
        connection.limit(cap, most)
    refused: list[str] = []
    connection.authorizer = _authorizer(refused)
    return refused


def _authorizer(refused: list[str]) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    def authorize(code: int, first: str | None, second: str | None, schema: str | None, view: str | None) -> int:
        if code in _READS:
            return apsw.SQLITE_OK
        if code == apsw.SQLITE_FUNCTION and (second or "").lower() not in _NO_FUNCTIONS:
            return apsw.SQLITE_OK
        if code == apsw.SQLITE_PRAGMA:
            name = (first or "").lower()
            if name in (_PRAGMAS if second is None else _PRAGMAS_OF_A_NAME):
                return apsw.SQLITE_OK
        action = apsw.mapping_authorizer_function[code]
        what = " ".join(word for word in (first, second) if word)
        refused.append(f"{str(action).removeprefix('SQLITE_').replace('_', ' ')} {what}".strip())
        return apsw.SQLITE_DENY

    return authorize


def _rows(
    connection: apsw.Connection, query: str, watch: Stopwatch, memory: int, refused: list[str]
) -> Iterator[tuple[object, ...]]:
    """The columns' names, then the rows."""
    cursor = connection.cursor()
    try:
        with watch:
            columns = _only_statement(connection, query)
        yield columns
        with watch:
            cursor.execute(query, can_cache=False)
        while True:
            with watch:
                row = next(cursor, None)
            if row is None:
                return
            yield row
    except apsw.InterruptError as error:
        raise QueryLimitError(
            "the query was stopped: it took longer than it may", hint="Narrow it, or give it more with --timeout."
        ) from error
    except (MemoryError, apsw.NoMemError, apsw.TooBigError) as error:
        raise QueryLimitError(
            f"the query needs more memory than the {memory >> 20} MiB it may take, or a value of more than"
            f" {_LONGEST_VALUE >> 20} MiB",
            hint="Narrow it, or give it more with --memory.",
        ) from error
    except apsw.Error as error:
        raise _as_query_error(error, query, refused) from error
    finally:
        cursor.close(True)
        apsw.hard_heap_limit(0)


def _only_statement(connection: apsw.Connection, query: str) -> tuple[str, ...]:
    """The names of the columns of the one statement that the text holds, which is not run."""
    found: list[tuple[str, ...]] = []
    rest = query
    while rest:
        columns, length = _look(connection, rest)
        if columns is not None:
            found.append(columns)
        rest = rest[length:]
    if len(found) != 1:
        raise QueryError(
            "there is no query" if not found else "one query at a time", hint="Give one SELECT; comments may follow it."
        )
    return found[0]


def _look(connection: apsw.Connection, text: str) -> tuple[tuple[str, ...] | None, int]:
    """The columns of a text's first statement (None where it is none but a comment), and the statement's length."""
    seen: list[tuple[tuple[str, ...] | None, int]] = []

    def trace(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if cursor.has_vdbe and not cursor.is_readonly:
            raise QueryError("the query would write", hint="This command only reads.")
        columns = tuple(str(column[0]) for column in cursor.get_description()) if cursor.has_vdbe else None
        seen.append((columns, len(statement)))
        return False

    cursor = connection.cursor()
    cursor.exec_trace = trace
    with suppress(apsw.ExecTraceAbort):
        cursor.execute(text, can_cache=False)
    return seen[0] if seen else (None, len(text))


def _as_query_error(error: apsw.Error, query: str, refused: list[str]) -> CodexLoggingError | apsw.Error:
    if isinstance(error, apsw.AuthError) or refused:
        return QueryError(
            f"not allowed: {refused[0] if refused else error}",
            hint="This command only reads; `codex-logs sql --schema` shows what.",
        )
    if isinstance(error, apsw.BindingsError):
        return QueryError("the query has parameters, and nothing to put there", hint="Write the values into it.")
    if not isinstance(error, apsw.SQLError | apsw.MismatchError | apsw.RangeError):
        return error
    return QueryError(
        f"{error}{_place(query, getattr(error, 'error_offset', -1))}",
        hint="`codex-logs sql --schema` shows the tables and columns.",
    )


def _place(query: str, offset: int) -> str:
    """Where in the query: its line with a mark below; `offset` is bytes of UTF-8, -1 for nowhere."""
    if offset < 0:
        return ""
    before = query.encode()[:offset].decode(errors="ignore")
    number, begin = before.count("\n") + 1, before.rfind("\n") + 1
    line = query[begin:].partition("\n")[0]
    mark = "".join("\t" if letter == "\t" else " " for letter in before[begin:])
    return f"\n  line {number}: {line}\n  {' ' * len(f'line {number}: ')}{mark}^"
