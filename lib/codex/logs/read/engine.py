"""What a query is asked of: SQLite by apsw's connection or one that answers alike, or a server by one of its own.

The queries of this room are written in what both SQLite and PostgreSQL take; where an engine lacks a function, its own
schema has one of that name. Only full-text search is asked of each engine in its own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol

from codex.logging.errors import DatabaseError


class Rows(Protocol):
    """What a query found."""

    def fetchone(self) -> Any | None: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """As a context manager it is a transaction: all queries in it see one state."""

    def execute(self, statements: str, bindings: Any = ..., /) -> Rows:
        """Ask it, with `?`, `?1` and `:name` as the places of values."""

    def close(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...


class OutOfReachError(DatabaseError):
    """A server doesn't answer at this moment; later it may."""


class Shared:
    """What a server's connection is as well: it has the sessions of many hosts."""


# Whether a folder is a project's, which is named by its whole path, or by the end of it.
OF_PROJECT = "({path} = :project OR substr({path}, length({path}) - length(:project)) = '/' || :project)"
_RELATION = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?"


def scalar(connection: Connection, query: str, values: Any = ()) -> Any:
    """The first column of the query's first row; None when it has none."""
    row = connection.execute(query, values).fetchone()
    return None if row is None else row[0]


def is_local(connection: Connection) -> bool:
    """Whether it is a database of this machine, and of nothing but this machine's sessions."""
    return not isinstance(connection, Shared)


def has_relation(connection: Connection, name: str) -> bool:
    """Whether there is a table or a view of this name."""
    return scalar(connection, _RELATION, (name,)) is not None
