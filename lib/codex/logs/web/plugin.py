"""Our plugin of datasette: our pages in front of its own, which stay for SQL, facets, JSON and CSV at /record."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

from datasette import hookimpl
from datasette.utils.asgi import Response

from codex.logs.web import files, pages, reports, searching

RECORD = "record"
TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
METADATA = {"title": "The record", "databases": {RECORD: {"description": "Read-only; a query gets 2 seconds."}}}

_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (r"/$", pages.sessions),
    (r"/sessions\.json$", pages.sessions_json),
    (r"/sessions/stream$", pages.sessions_stream),
    (r"/session$", pages.session),
    (r"/session/events\.json$", pages.events_json),
    (r"/session/event\.json$", pages.event_json),
    (r"/session/stream$", pages.session_stream),
    (r"/search$", searching.search),
    (r"/usage$", reports.usage),
    (r"/health$", reports.health),
    (r"/health\.json$", reports.health_json),
    (r"/static/(?P<name>[a-z.-]+)$", files.static),
]


def _nothing() -> Response:
    return Response.text("There is no such page.\n", status=404)


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Ours come before datasette's; what it tells of itself, of this machine and its paths, is shown to nobody."""
    return [*_ROUTES, (r"/-/(?!static/).*$", _nothing), (r"/_internal.*$", _nothing), (r"/\.jsono?$", _nothing)]


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str) -> None:
    """Belt and braces: the file is open for reading alone, and the connection wouldn't write either."""
    if database != RECORD:  # datasette's own notes, in memory
        return
    conn.execute("PRAGMA busy_timeout = 5000")
    conn.execute("PRAGMA query_only = 1")
    conn.execute("PRAGMA trusted_schema = 0")


@hookimpl
def extra_css_urls() -> list[str]:
    """For datasette's own pages: dark where the rest is."""
    return ["/static/record.css"]
