"""The search page: hits with their words marked, each a link to its place."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from codex.logging.errors import CodexLoggingError
from codex.logging.events import iso_time
from codex.logging.plain import one_line, visible
from codex.logs.query import parse
from codex.logs.read.search import Found, Hit, Sort
from codex.logs.read.search import search as find
from codex.logs.web.answers import html, number, read

_PAGE = 20
_DEEPEST = 100_000
_MARKS = 12  # different words that a timeline marks


async def search(datasette: Datasette, request: Request) -> Response:
    """What is found for `q`, or how to ask; a query that can't be understood is told so."""
    text = (request.args.get("q") or "").strip()
    sort: Sort = "time" if request.args.get("sort") == "time" else "rank"
    offset = number(request, "from", 0, _DEEPEST)
    if not text:
        return await html(datasette, request, "search")
    began = time.monotonic()
    try:
        query = parse(text, time.time())
        found: Found = await read(
            datasette, lambda connection: find(connection, query, limit=_PAGE, offset=offset, sort=sort)
        )
    except CodexLoggingError as error:
        return await html(datasette, request, "search", status=400, problem=visible(str(error)), hint=error.hint)
    except sqlite3.OperationalError as error:
        problem = "That took too long." if str(error) == "interrupted" else str(error)
        return await html(datasette, request, "search", status=503, problem=problem, hint="Narrow it: since:7d, say.")
    return await html(
        datasette,
        request,
        "search",
        found=found,
        hits=[_shown(hit) for hit in found.hits],
        sort=sort,
        offset=offset,
        size=_PAGE,
        milliseconds=round(1000 * (time.monotonic() - began)),
    )


def _shown(hit: Hit) -> dict[str, Any]:
    marked = dict.fromkeys(visible(piece.text).lower() for piece in hit.snippet if piece.marked)
    return {
        **hit._asdict(),
        "name": one_line(hit.session_id),
        "tool": one_line(hit.tool) if hit.tool else None,
        "project": one_line((hit.project or "").rstrip("/").rpartition("/")[2]),
        "time": iso_time(hit.ts) if hit.ts is not None else "",
        "pieces": [piece._replace(text=visible(piece.text)) for piece in hit.snippet],
        "marks": "\x1f".join(list(marked)[:_MARKS]),
    }
