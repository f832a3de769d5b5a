"""Usage and health: what it all comes to."""

from __future__ import annotations

import time
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from codex.logging.plain import one_line
from codex.logs.prices import Spent, read_prices, spent
from codex.logs.read.usage import BY, Tokens, read_usage
from codex.logs.web import charts
from codex.logs.web.answers import as_json, html, number, read
from codex.logs.web.health import Health

_SPANS = ((7, "7 days"), (30, "30 days"), (90, "90 days"), (3650, "All"))
_DAY_SECONDS = 86400.0
_ROWS = 200
_COLUMNS = 92


async def usage(datasette: Datasette, request: Request) -> Response:
    """Tokens and cost of a span of days: a chart by day, and a table by whatever is asked for."""
    days = number(request, "days", 30, _SPANS[-1][0])
    by = request.args.get("by") or "model"
    by = by if by in BY else "model"
    after = time.time() - days * _DAY_SECONDS if days < _SPANS[-1][0] else None

    def find(connection: Any) -> tuple[list[Tokens], list[Tokens]]:
        found = list(read_usage(connection, by, after=after))
        return found, found if by == "day" else list(read_usage(connection, "day", after=after))

    tokens, daily = await read(datasette, find)
    prices = read_prices()
    rows = list(spent(tokens, prices))
    rows = rows[::-1] if by == "day" else rows if by == "hour" else sorted(rows, key=lambda row: -row.tokens)
    columns = [
        charts.Column(row.key, (row.input, row.cache_write, row.cache_read, row.output))
        for row in spent(daily, prices)
        if row.key
    ]
    return await html(
        datasette,
        request,
        "usage",
        by=by,
        days=days,
        spans=_SPANS,
        names=BY,
        rows=rows[:_ROWS],
        left=max(0, len(rows) - _ROWS),
        most=max((row.tokens for row in rows), default=0) or 1,
        total=_total(rows),
        chart=charts.stacked(charts.filled(columns, _COLUMNS)) if columns else "",
        currency=prices.currency,
        dated=prices.dated,
        zone=time.strftime("%Z"),
        bar=charts.bar,
        short=charts.short,
        plain=one_line,
    )


def _total(rows: list[Spent]) -> Spent:
    sums = [sum(column) for column in zip(*(row[1:9] for row in rows), strict=True)] if rows else [0] * 8
    costs = [row.cost for row in rows if row.cost is not None]
    unpriced = tuple(sorted({model for row in rows for model in row.unpriced}))
    return Spent._make((None, *sums, sum(costs) if costs else None, unpriced))


async def health(datasette: Datasette, request: Request) -> Response:
    """How ingestion is; a script asks."""
    return await html(datasette, request, "health")


async def health_json(datasette: Datasette) -> Response:
    """What `codex-ingestd status --json` says, with the streams that have something to tell."""
    judge: Health = datasette.codex_health
    return as_json(await judge.told())
