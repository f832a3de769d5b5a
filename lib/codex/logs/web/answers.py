"""What every page does alike: ask the database, answer in HTML or JSON, read an address's numbers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from datasette.app import Datasette
from datasette.utils import sqlite_timelimit
from datasette.utils.asgi import Request, Response

Reply = TypeVar("Reply")

_MILLISECONDS = 5000
_UNCACHED = {"cache-control": "no-store"}


class _Connection:
    """The standard library's connection with as much of apsw's as `codex.logs.read` uses.

    So one set of queries serves both libraries, of which this process may have only one: see server.py.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Any = ()) -> sqlite3.Cursor:
        return self._connection.execute(query, values)

    def create_scalar_function(self, name: str, function: Callable[..., Any], count: int = -1) -> None:
        self._connection.create_function(name, count, function)

    def __enter__(self) -> None:
        """One snapshot for all that is read in the block."""
        self._connection.execute("BEGIN")

    def __exit__(self, *error: object) -> None:
        self._connection.execute("ROLLBACK")


async def read(datasette: Datasette, function: Callable[[Any], Reply]) -> Reply:
    """What a function of `codex.logs.read` finds on one of datasette's own connections, within the time limit."""

    def limited(connection: sqlite3.Connection) -> Reply:
        factory, connection.row_factory = connection.row_factory, None
        try:
            with sqlite_timelimit(connection, _MILLISECONDS):
                return function(_Connection(connection))
        finally:
            connection.row_factory = factory

    found: Reply = await datasette.get_database().execute_fn(limited)
    return found


async def html(datasette: Datasette, request: Request, name: str, *, status: int = 200, **context: Any) -> Response:
    """A page by its template; it escapes what it shows."""
    values = {"page": name, "query": request.args.get("q") or "", **context}
    body = await datasette.render_template(f"page/{name}.html", values, request=request)
    return Response.html(body, status=status, headers=_UNCACHED)


def as_json(found: object, status: int = 200) -> Response:
    """For a script."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(text, status=status, headers=_UNCACHED, content_type="application/json; charset=utf-8")


def number(request: Request, name: str, default: int, most: int) -> int:
    """A number above 0 of the address, at most so much; the default for anything else."""
    text = request.args.get(name) or ""
    return min(int(text), most) if is_number(text) and int(text) > 0 else default


def position(request: Request, name: str) -> int | None:
    """An event's position of the address; None for anything else."""
    text = request.args.get(name) or ""
    return int(text) if is_number(text) else None


def is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19
