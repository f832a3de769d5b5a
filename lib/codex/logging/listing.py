"""What the commands that list rows do alike: times as options, JSON row by row."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timedelta

import click

from codex.logging.errors import ConfigError
from codex.logging.events import instant
from codex.logging.plain import plain_json, visible

_AGO = re.compile(r"(\d{1,9}) ?(s|m|min|h|d|w)(?: ago)?")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS = {"today": 0, "yesterday": 1}


def time_option(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A time from the command line, as epoch seconds. Raises ConfigError for what is no time."""
    moment = None if text is None else parse_moment(text)
    if text is not None and moment is None:
        raise ConfigError(
            f"{option.opts[0]}: {text!r} is no time",
            hint="Give ISO 8601 (2026-01-31, 2026-01-31T09:00:00-05:00), epoch seconds, or 30m, 24h, 7d, 2w, today,"
            " yesterday.",
        )
    return moment


def parse_moment(text: str) -> float | None:
    """Epoch seconds of a time as `instant` takes it, or before now: `30m`, `7d ago`, `today` (where the clock is)."""
    word = text.strip().lower()
    if ago := _AGO.fullmatch(word):
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    if word in _DAYS:
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return (midnight - timedelta(days=_DAYS[word])).timestamp()
    return time.time() if word == "now" else instant(text)


after_option = click.option(
    "--after",
    callback=time_option,
    metavar="TIME",
    help="From this time on: ISO 8601 (UTC where it has no offset), epoch seconds, or 30m, 24h, 7d, today.",
)
before_option = click.option("--before", callback=time_option, metavar="TIME", help="Up to this time, likewise.")


def print_lines(lines: Iterable[str]) -> bool:
    """Each text on a line of its own, buffered, where click.echo would flush each; whether there was any.

    It is written as it is; on a terminal what that would take as an order is shown.
    """
    shown = visible if sys.stdout.isatty() else str
    line = None
    for line in lines:
        sys.stdout.write(f"{shown(line)}\n")
    return line is not None


def to_json(value: object) -> str:
    """JSON in one line that a terminal takes no order from: controls, and marks that turn text around, are escapes."""
    return plain_json(json.dumps(value, ensure_ascii=False))


def print_json(rows: Iterable[dict[str, object]]) -> None:
    """One JSON array, written row by row."""
    first = True
    for row in rows:
        sys.stdout.write(("[\n" if first else ",\n") + to_json(row))
        first = False
    sys.stdout.write("[]\n" if first else "\n]\n")
