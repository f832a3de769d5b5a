"""What model calls cost, by a list of prices."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import NamedTuple

from codex.logging.config import absolute
from codex.logging.errors import ConfigError
from codex.logs.read.usage import Tokens

_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$")


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

    @property
    def tokens(self) -> int:
        """All that were spent here."""
        return self.input + self.cache_read + self.cache_write + self.output

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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{chosen} is no price list: {error}",
            hint='It needs dated = "YYYY-MM-DD" and [models] with input, cache_read, cache_write and output of each.',
        ) from error


def spent(tokens: Iterable[Tokens], prices: Prices) -> Iterator[Spent]:
    """What each key's models took together, in the order of the keys."""
    last: Spent | None = None
    for found in tokens:
        if last is None or last.key != found.key:
            if last is not None:
                yield last
            last = Spent(found.key)
        last = _add(last, found, prices.of(found.model))
    if last is not None:
        yield last


def _add(known: Spent, found: Tokens, price: Price | None) -> Spent:
    sums = [a + b for a, b in zip(known[1:9], found[2:], strict=True)]
    cost, unpriced = known.cost, known.unpriced
    tokens = (found.input, found.cache_read, found.cache_write, found.output)
    if price is not None:
        cost = (cost or 0.0) + sum(count * each for count, each in zip(tokens, price, strict=True)) / 1e6
    elif any(tokens):
        unpriced = (*unpriced, found.model or "unknown")
    return Spent._make((known.key, *sums, cost, unpriced))
