"""What a measurement is reduced to, and how it is shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
from rich.console import Console
from rich.table import Table

from tests.bench.peers import python_with


class Plot(NamedTuple):
    """One picture: points (x, y) for each contender. `name` is its file's; `log` has the axes that are logarithmic."""

    name: str
    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]]
    log: str = ""


class Report(NamedTuple):
    """One table: a row per contender, the same keys in each; `notes` says what a reader must know."""

    title: str
    rows: list[dict[str, object]]
    notes: list[str]
    plots: Sequence[Plot] = ()

    def show(self) -> None:
        """Print the table to standard output."""
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        for number, name in enumerate(self.rows[0]):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(_text(value) for value in row.values()))
        console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
        console.print(table)
        for note in self.notes:
            console.print(f"- {note}")

    def plain(self) -> dict[str, object]:
        """It as JSON has it."""
        return {**self._asdict(), "plots": [plot._asdict() for plot in self.plots]}


def save(path: str, result: dict[str, object], options: dict[str, object]) -> None:
    """Write a result as one JSON object, with the options and the machine that it was measured with."""
    answer = {**result, "options": options, "machine": _machine()}
    Path(path).write_text(json.dumps(answer, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def draw(folder: str, plots: Sequence[Plot], together: str = "") -> list[str]:
    """Make a PNG of each plot in the folder, or one of that name of all; a line on each.

    Raises PeerError without matplotlib.
    """
    python = python_with("matplotlib", "matplotlib")
    given = json.dumps([plot._asdict() for plot in plots])
    done = subprocess.run(
        [python, str(Path(__file__).with_name("draw.py")), folder, *filter(None, [together])],
        input=given,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout.splitlines()


class Spread(NamedTuple):
    """The quantiles of one sample, in its own unit."""

    p50: float
    p90: float
    p99: float
    most: float


def spread(sample: Sequence[float]) -> Spread:
    """The sample's quantiles, each a value that was measured (nearest rank); all NaN for an empty one."""
    if not sample:
        return Spread(*[math.nan] * 4)
    ranked = sorted(sample)
    return Spread(*(ranked[max(0, math.ceil(share * len(ranked)) - 1)] for share in (0.5, 0.9, 0.99, 1.0)))


def paired(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the pairs' ratios, mine by theirs."""
    ratios = [a / b for a, b in zip(mine, theirs, strict=True) if b and not math.isnan(a / b)]
    return statistics.median(ratios) if ratios else math.nan


def tail(sample: Sequence[float]) -> list[tuple[float, float]]:
    """Points (value, share of the sample that is more), close together where few are more."""
    ranked = sorted(sample, reverse=True)
    points = []
    above = float(len(ranked))
    while above >= 1:
        points.append((ranked[int(above) - 1], int(above) / len(ranked)))
        above = min(above - 1, above * 0.97)
    return points


def worst(points: Sequence[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """The largest y of each stretch of x that is that wide, at its middle."""
    most: dict[int, float] = {}
    for x, y in points:
        number = int(x / width)
        most[number] = max(y, most.get(number, y))
    return [((number + 0.5) * width, most[number]) for number in sorted(most)]


def load() -> str:
    """How busy the machine is, as a note."""
    return f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores"


def _machine() -> dict[str, object]:
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }


def _text(value: object) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def of_checkout(checkout: str | None) -> dict[str, str]:
    """The environment in which a new Python process takes the product's code from there, not from here."""
    return {"PYTHONPATH": f"{checkout}/lib{os.pathsep}{checkout}/daemon"} if checkout else {}
