"""What happened, in figures: `codex-logs stats`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import click

from codex.logging.events import iso_time
from codex.logging.listing import after_option, before_option, print_json
from codex.logging.plain import counted, plain_json
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, json_option, tell
from codex.logs.chosen import SESSION
from codex.logs.database import Opened, host_option, reading
from codex.logs.prices import Prices, Spent, read_prices, spent
from codex.logs.read import stats, usage
from codex.logs.read.sessions import find
from codex.logs.read.stats import Counts, Selection
from codex.logs.shown.charts import sparkline
from codex.logs.shown.tables import print_table
from codex.logs.shown.times import local_time

_DAYS = 30
_TOP = 8
_IN_ORDER = ("day", "hour")


class Line(NamedTuple):
    """What happened under one key, and the tokens that it took, where they are known by such keys."""

    counts: Counts
    spent: Spent | None

    def as_dict(self, by: str) -> dict[str, object]:
        """For JSON; times are UTC."""
        figures = self.counts._asdict()
        times = {name: iso_time(moment) if (moment := figures.pop(name)) else None for name in ("first", "last")}
        tokens = {"tokens": self.spent.tokens, "cost": self.spent.cost} if self.spent else {}
        return {by: figures.pop("key"), **figures, **tokens, **times}


class Overview(NamedTuple):
    """All of it: by day for what it comes to, by tool and by model."""

    sessions: int
    days: list[Line]
    tools: list[Counts]
    models: list[Spent]

    def total(self, name: str) -> int:
        """The sum of one of the counts."""
        return sum(getattr(line.counts, name) for line in self.days)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        totals = {name: self.total(name) for name in ("events", "turns", "tool_calls", "errors")}
        return {
            "sessions": self.sessions,
            **totals,
            "tokens": sum(model.tokens for model in self.models),
            "cost": _cost(self.models),
            "time_zone": time.strftime("%Z"),
            "days": [line.as_dict("day") for line in self.days],
            "tools": [Line(counts, None).as_dict("tool") for counts in self.tools],
            "models": [
                {"model": model.key, "calls": model.calls, "tokens": model.tokens, "cost": model.cost}
                for model in self.models
            ],
        }


@click.command(
    "stats",
    epilog="\b\nExamples:\n  codex-logs stats\n  codex-logs stats --by tool --after 7d"
    "\n  codex-logs stats --by project --json",
)
@click.option("--by", type=click.Choice(stats.BY), help="One row for each.  [default: an overview]")
@click.option(
    "--session-id", type=SESSION, metavar="ID", help="Only this session: its id, the beginning of it, or last."
)
@click.option("--agent", metavar="NAME", help="Only this agent's: claude, codex, native.")
@click.option("--project", metavar="FOLDER", help="Only this project's: its folder, or the end of its path.")
@after_option
@before_option
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows: the last days, the most events."
)
@click.option("--prices", type=click.Path(), help="Another price list.  [env: CODEX_PRICES]")
@db_option
@host_option
@json_option
def command(
    by: str | None,
    session_id: str | None,
    agent: str | None,
    project: str | None,
    after: float | None,
    before: float | None,
    limit: int | None,
    prices: str | None,
    db: str | None,
    host: str | None,
    as_json: bool,
) -> int:
    """Count events, turns, tool calls, errors, tokens and cost; days and hours are those of this machine's clock.

    A turn begins with what a person says. History that a session copied from another one doesn't count.
    """
    listed = read_prices(prices)
    with reading(db, host=host) as opened, translated(opened.path):
        session = None if session_id is None else find(opened.connection, session_id)
        selection = Selection(after, before, agent, project, session)
        if by is None:
            overview = _overview(opened, selection, listed)
        else:
            lines = _lines(opened, by, selection, listed)
    if by is None:
        if as_json:
            sys.stdout.write(plain_json(json.dumps(overview.as_dict(), ensure_ascii=False, indent=1)) + "\n")
        else:
            _show_overview(overview, listed)
        return 0
    if limit is not None:
        lines = (lines[-limit:] if limit else []) if by in _IN_ORDER else lines[:limit]
    if as_json:
        print_json(line.as_dict(by) for line in lines)
    else:
        _show_lines(by, lines, listed)
    return 0


def _overview(opened: Opened, selection: Selection, prices: Prices) -> Overview:
    connection = opened.connection
    tools = sorted(stats.read_counts(connection, "tool", selection), key=lambda counts: -counts.tool_calls)
    models = sorted(_spent(opened, "model", selection, prices).values(), key=lambda model: -model.tokens)
    days = [Line(counts, None) for counts in stats.read_counts(connection, "day", selection)]
    return Overview(stats.count_sessions(connection, selection), days, tools, models)


def _lines(opened: Opened, by: str, selection: Selection, prices: Prices) -> list[Line]:
    """By the key where it is a time, else that with the most events first."""
    found = stats.read_counts(opened.connection, by, selection)
    known = _spent(opened, by, selection, prices) if by in usage.BY else {}
    nothing = Spent(None) if by in usage.BY else None
    lines = [Line(counts, known.get(counts.key, nothing)) for counts in found]
    return lines if by in _IN_ORDER else sorted(lines, key=lambda line: -line.counts.events)


def _spent(opened: Opened, by: str, selection: Selection, prices: Prices) -> dict[str | None, Spent]:
    tokens = usage.read_usage(opened.connection, by, **selection._asdict())
    return {found.key: found for found in spent(tokens, prices)}


def _cost(found: Iterable[Spent]) -> float | None:
    costs = [each.cost for each in found if each.cost is not None]
    return sum(costs) if costs else None


def _show_overview(overview: Overview, prices: Prices) -> None:
    drawn = sys.stdout.isatty()
    events, calls, errors = (overview.total(name) for name in ("events", "tool_calls", "errors"))
    firsts = [line.counts.first for line in overview.days if line.counts.first is not None]
    lasts = [line.counts.last for line in overview.days if line.counts.last is not None]
    cost = _cost(overview.models)
    facts = [
        ("sessions", f"{overview.sessions:,}"),
        ("events", f"{events:,} on {counted(sum(line.counts.key is not None for line in overview.days), 'day')}"),
        ("turns", f"{overview.total('turns'):,}"),
        ("tool calls", f"{calls:,}"),
        ("errors", f"{errors:,}" + (f" ({errors / calls:.1%} of the calls)" if calls else "")),
        ("tokens", f"{sum(model.tokens for model in overview.models):,}"),
        ("cost", "-" if cost is None else f"{cost:,.2f} {prices.currency} by the prices of {prices.dated}"),
        ("first", local_time(min(firsts, default=None))),
        ("last", local_time(max(lasts, default=None))),
    ]
    if drawn and firsts:
        facts.append((f"{_DAYS} days", sparkline(_last_days(overview.days))))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        tell(f"{name:<{width}}  {value}")
    tools: list[list[object]] = [[each.key, each.tool_calls, each.errors] for each in overview.tools]
    models: list[list[object]] = [
        [each.key or "unknown", each.tokens, each.calls, each.cost] for each in overview.models
    ]
    _show_top(("tool", "calls", "errors"), tools, [each.tool_calls for each in overview.tools], drawn=drawn)
    _show_top(("model", "tokens", "calls", "cost"), models, [each.tokens for each in overview.models], drawn=drawn)


def _last_days(days: Sequence[Line]) -> list[int]:
    """The events of each of the last days, up to today or the newest day there is."""
    known = {line.counts.key: line.counts.events for line in days}
    newest = max((date.fromisoformat(key) for key in known if key is not None), default=date.today())
    last = newest if newest < date.today() - timedelta(days=_DAYS) else date.today()
    return [known.get(str(last - timedelta(days=ago)), 0) for ago in range(_DAYS - 1, -1, -1)]


def _show_top(columns: tuple[str, ...], rows: list[list[object]], figures: Sequence[float], *, drawn: bool) -> None:
    """The first rows with a bar each; all of them where nobody looks."""
    if not rows:
        return
    click.echo()
    most = _TOP if drawn else len(rows)
    print_table(columns, rows[:most], figures[:most])
    if len(rows) > most:
        tell(f"and {len(rows) - most} more: codex-logs stats --by {columns[0]}")


def _show_lines(by: str, lines: Sequence[Line], prices: Prices) -> None:
    heading = f"{by} ({time.strftime('%Z')})" if by in _IN_ORDER else by
    columns = (heading, "sessions", "events", "turns", "calls", "errors", "tokens", "cost")
    rows = [
        [
            line.counts.key or "unknown",
            *line.counts[1:6],
            line.spent and line.spent.tokens,
            line.spent and line.spent.cost,
        ]
        for line in lines
    ]
    print_table(columns, rows, [line.counts.events for line in lines])
    if any(line.spent and line.spent.cost is not None for line in lines):
        tell(f"Cost in {prices.currency} by the prices of {prices.dated}.", err=True)
