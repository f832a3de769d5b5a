"""What the commands that list rows do alike: times as options, JSON row by row."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import click

from codex.logging.errors import ConfigError
from codex.logging.events import instant


def time_option(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A time from the command line, as epoch seconds. Raises ConfigError for what is no time."""
    moment = None if text is None else instant(text)
    if text is not None and moment is None:
        raise ConfigError(
            f"{option.opts[0]}: {text!r} is no time",
            hint="Give ISO 8601 (2026-01-31, 2026-01-31T09:00:00-05:00) or epoch seconds.",
        )
    return moment


def print_lines(lines: Iterable[str]) -> None:
    """Each text on a line of its own, as it is; buffered, where click.echo would flush each."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def print_json(rows: Iterable[dict[str, object]]) -> None:
    """One JSON array, written row by row."""
    first = True
    for row in rows:
        sys.stdout.write(("[\n" if first else ",\n") + json.dumps(row, ensure_ascii=False))
        first = False
    sys.stdout.write("[]\n" if first else "\n]\n")
