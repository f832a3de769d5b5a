"""Figures in columns: aligned, in the terminal's width, plain where nobody looks."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from codex.logs.paged import print_paged
from codex.logs.plain import one_line

_KEPT = 22  # columns no wider than this keep their width where there is too little room for all


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A heading and rows, by pages on a terminal; numbers stand to the right, with thin grouping; None is a dash."""
    shown = [list(row) for row in rows]
    if not sys.stdout.isatty():
        _print_plain(columns, shown)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        figures = any(isinstance(row[index], int | float) for row in shown)
        width = max(len(name), *(len(_cell(row[index])) for row in shown)) if shown else len(name)
        table.add_column(
            name,
            justify="right" if figures else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=width if width <= _KEPT else None,
        )
    for row in shown:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    with console.capture() as made:
        console.print(table)
    long = len(shown) > shutil.get_terminal_size().lines - 3
    print_paged(iter([made.get()]), long, not console.no_color)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The same without a terminal's width, which costs a quarter of the time."""
    table = [list(columns), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    right = [any(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]
    for cells in table:
        placed = zip(cells, widths, right, strict=True)
        line = "  ".join(cell.rjust(width) if figures else cell.ljust(width) for cell, width, figures in placed)
        sys.stdout.write(f"{line.rstrip()}\n")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(str(value))
