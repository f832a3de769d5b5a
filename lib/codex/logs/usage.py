"""What the agents' model calls cost: `codex-logs usage`."""

from __future__ import annotations

import os
import re
import time
import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, NamedTuple

import apsw
import click

from codex.logging.config import absolute
from codex.logging.errors import ConfigError
from codex.logging.listing import print_json, time_option
from codex.logging.reading import reading
from codex.logging.store.connection import has_relation, translated
from codex.logging.terminal import db_option, json_option
from codex.logs.tables import print_table

_KEYS = {
    "day": "strftime('%Y-%m-%d', u.ts, 'unixepoch', 'localtime')",
    "model": "u.model",
    "project": "(SELECT m.cwd FROM summaries AS m WHERE m.generation = u.generation)",
    "session": "u.session_id",
}
_QUERIES = {
    name: f"""
SELECT {key}, u.model, count(*) FILTER (WHERE NOT u.inherited),
       total(u.input) FILTER (WHERE NOT u.inherited), total(u.cache_read) FILTER (WHERE NOT u.inherited),
       total(u.cache_write) FILTER (WHERE NOT u.inherited), total(u.output) FILTER (WHERE NOT u.inherited),
       total(u.reasoning) FILTER (WHERE NOT u.inherited),
       total(u.input + u.cache_read + u.cache_write + u.output) FILTER (WHERE u.inherited), total(u.repeated)
FROM session_usage AS u
WHERE u.input + u.cache_read + u.cache_write + u.output + u.repeated
  AND (:after IS NULL OR u.ts >= :after) AND (:before IS NULL OR u.ts <= :before)
  AND (:agent IS NULL OR u.agent = :agent) AND (:session IS NULL OR u.session_id = :session)
GROUP BY 1, 2 ORDER BY 1"""  # noqa: S608
    for name, key in _KEYS.items()
}
_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$")
_COLUMNS = ("calls", "input", "cache read", "cache write", "output", "inherited", "repeated", "cost")


class Price(NamedTuple):
    """US dollars for a million tokens of each kind."""

    input: float
    cache_read: float
    cache_write: float
    output: float


class Prices(NamedTuple):
    """A price list, the day it is of, and what it counts in."""

    dated: str
    currency: str
    models: dict[str, Price]

    def of(self, model: str | None) -> Price | None:
        """A model's price by its name, or by its name without the date it ends in."""
        return self.models.get(model or "") or self.models.get(_DATE.sub("", model or ""))


class Spent(NamedTuple):
    """Tokens of one day, model, project or session; `unpriced` are the models whose cost isn't known.

    `inherited` tokens were spent by another session, `repeated` ones told more than once: neither is in the others.
    """

    key: str | None
    calls: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    inherited: int = 0
    repeated: int = 0
    cost: float | None = None
    unpriced: tuple[str, ...] = ()

    def as_dict(self, by: str, currency: str) -> dict[str, object]:
        """For JSON."""
        figures = self._asdict()
        return {by: figures.pop("key"), **figures, "unpriced": list(self.unpriced), "currency": currency}


def read_prices(path: str | None = None) -> Prices:
    """A price list: the named one, CODEX_PRICES, else the one that comes along. Raises ConfigError."""
    chosen = path or os.environ.get("CODEX_PRICES")
    try:
        if chosen:
            with open(absolute(chosen), "rb") as file:
                found = tomllib.load(file)
        else:
            text = (resources.files("codex.logs") / "prices.toml").read_text(encoding="utf-8")
            found = tomllib.loads(text)
        models = {
            model: Price(*(float(price[kind]) for kind in Price._fields)) for model, price in found["models"].items()
        }
        return Prices(str(found["dated"]), str(found.get("currency", "USD")), models)
    except OSError as error:
        raise ConfigError(f"{chosen}: {error.strerror}", hint="Name a price list with --prices.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{chosen} is no price list: {error}",
            hint='It needs dated = "YYYY-MM-DD" and [models] with input, cache_read, cache_write and output of each.',
        ) from error


def spent(
    connection: apsw.Connection,
    by: str,
    prices: Prices,
    *,
    after: float | None = None,
    before: float | None = None,
    agent: str | None = None,
    session: str | None = None,
) -> Iterator[Spent]:
    """The tokens by day, model, project or session, in its order; each call once. Times are epoch seconds."""
    values = {"after": after, "before": before, "agent": agent, "session": session}
    last: Spent | None = None
    rows: Iterable[Any] = connection.execute(_QUERIES[by], values)
    for key, model, *counts in rows:
        if last is None or last.key != key:
            if last is not None:
                yield last
            last = Spent(key)
        last = _add(last, model, [int(count) for count in counts], prices.of(model))
    if last is not None:
        yield last


def _add(known: Spent, model: str | None, counts: list[int], price: Price | None) -> Spent:
    sums = [a + b for a, b in zip(known[1:9], counts, strict=True)]
    cost, unpriced = known.cost, known.unpriced
    if price is not None:
        tokens = (counts[1], counts[2], counts[3], counts[4])
        cost = (cost or 0.0) + sum(count * each for count, each in zip(tokens, price, strict=True)) / 1e6
    elif any(counts[1:5]):
        unpriced = (*unpriced, model or "unknown")
    return Spent._make((known.key, *sums, cost, unpriced))


@click.command(
    "usage", epilog="\b\nExamples:\n  codex-logs usage --by model\n  codex-logs usage --after 2026-01-01 --json"
)
@click.option("--by", type=click.Choice(list(_KEYS)), default="day", show_default=True, help="What the rows are.")
@click.option("--session-id", metavar="ID", help="Only this session.")
@click.option("--agent", metavar="NAME", help="Only this agent: claude, codex, native.")
@click.option("--after", callback=time_option, metavar="TIME", help="From this time on: ISO 8601 or epoch seconds.")
@click.option(
    "--before", callback=time_option, metavar="TIME", help="Up to this time. Times without an offset are UTC."
)
@click.option("--prices", type=click.Path(), help="Another price list.  [env: CODEX_PRICES]")
@db_option
@json_option
def command(
    by: str,
    session_id: str | None,
    agent: str | None,
    after: float | None,
    before: float | None,
    prices: str | None,
    db: str | None,
    as_json: bool,
) -> int:
    """Show the tokens that model calls took, and their cost where the model's price is known.

    A call that several lines tell of counts once. Inherited tokens were spent by the session that this one was forked
    from, repeated ones are told again: neither is in the other columns.
    """
    listed = read_prices(prices)
    with reading(db) as opened, translated(opened.path):
        rows = []
        if has_relation(opened.connection, "session_usage"):
            found = spent(opened.connection, by, listed, after=after, before=before, agent=agent, session=session_id)
            rows = list(found)
    if as_json:
        print_json(row.as_dict(by, listed.currency) for row in rows)
        return 0
    heading = f"day ({time.strftime('%Z')})" if by == "day" else by
    figures = ([row.key or "unknown", *row[1:6], row.inherited, row.repeated, row.cost] for row in rows)
    print_table((heading, *_COLUMNS), figures)
    unpriced = sorted({model for row in rows for model in row.unpriced})
    click.echo(f"Cost in {listed.currency} by the prices of {listed.dated}.", err=True)
    if unpriced:
        click.echo(f"No price is known for {', '.join(unpriced)}: name a list that has one with --prices.", err=True)
    return 0
