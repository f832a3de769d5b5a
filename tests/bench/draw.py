"""Draws plots as PNG: `python draw.py FOLDER < plots.json`, by a Python that has matplotlib and nothing of ours.

With a further NAME they become one picture of that name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

_MOST_MARKS = 12


def main() -> None:
    """The plots of standard input into the folder, each in a picture named after itself, or all in one."""
    folder, *together = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    plots = json.load(sys.stdin)
    pictures = {together[0]: plots} if together else {plot["name"]: [plot] for plot in plots}
    for name, parts in pictures.items():
        path = Path(folder) / f"{name}.png"
        _draw(parts).savefig(path)
        plt.close()
        print(path)


def _draw(plots: list[dict[str, Any]]) -> Any:
    size = (9, 5.5 if len(plots) == 1 else 2.6 * len(plots))
    figure, grid = plt.subplots(len(plots), figsize=size, dpi=120, layout="constrained", squeeze=False)
    for axes, plot in zip(grid.flat, plots, strict=True):
        plot["series"] = {name: points for name, points in plot["series"].items() if points}
        if all(len(points) == 1 for points in plot["series"].values()):
            _bars(axes, plot)
        else:
            _lines(axes, plot)
            if len(plots) == 1:
                figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
            elif len(plot["series"]) > 1:
                axes.legend(loc="best", ncols=2, frameon=False, fontsize=9)
        axes.set_title(plot["title"], loc="left", fontsize=12)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bars(axes: Any, plot: dict[str, Any]) -> None:
    """One value each, over one x."""
    names = list(plot["series"])[::-1]
    (x, _), *_ = plot["series"][names[0]]
    bars = axes.barh(names, [plot["series"][name][0][1] for name in names], color="tab:blue", height=0.5)
    axes.bar_label(bars, fmt="%.3g", padding=4)
    axes.set_axisbelow(True)
    axes.margins(x=0.1)
    axes.set_xlabel(f"{plot['y']}, at {x:.3g} {plot['x']}")


def _lines(axes: Any, plot: dict[str, Any]) -> None:
    few = max(map(len, plot["series"].values())) <= _MOST_MARKS
    for name, points in plot["series"].items():
        axes.plot(*zip(*points, strict=True), label=name, marker="o" if few else None, linewidth=1.6)
    axes.set_xlabel(plot["x"])
    axes.set_ylabel(plot["y"])
    plain = FuncFormatter(lambda value, _: f"{value:.3g}" if value < 1000 else f"{value:.0f}")
    if "x" in plot["log"]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(plain)
        if few:
            axes.set_xticks(sorted({x for points in plot["series"].values() for x, _ in points}))
            axes.minorticks_off()
    if "y" in plot["log"]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain)
    else:
        axes.set_ylim(bottom=0)


main()
