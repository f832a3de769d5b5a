"""Figures in columns: aligned, in the terminal's width, plain where nobody looks."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from codex.logging.plain import one_line
from codex.logs.shown.charts import bar
from codex.logs.shown.paged import print_paged

_SHORT = 8  # letters that are left of a text at least
_GAP = 2
_BAR, _SHORTEST_BAR = 24, 4


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], bars: Sequence[float] = ()) -> None:
    """A heading and rows, by pages on a terminal; numbers stand to the right, with thin grouping; None is a dash.

    On a terminal texts are cut to its width, numbers never; `bars`, a figure for each row, are drawn at the rows' end
    where there is room for them.
    """
    shown = [list(row) for row in rows]
    if sys.stdout.isatty():
        _print_wide(columns, shown, bars)
    else:
        _print_plain(columns, shown)


def _print_wide(columns: Sequence[str], rows: Sequence[Sequence[object]], bars: Sequence[float]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [[_cell(cell) for cell in row] for row in rows]
    figures = [any(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]
    widths = _cut([max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)], figures, console.width)
    for name, is_figure, width in zip(columns, figures, widths, strict=True):
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=True, overflow="ellipsis", width=width)
    whole = sum(widths) + _GAP * (len(widths) - 1)
    room = min(_BAR, console.width - whole - _GAP)
    drawn = [bar(figure, max(bars), room) for figure in bars] if room >= _SHORTEST_BAR else []
    if drawn:
        table.add_column("", no_wrap=True)
    for number, row in enumerate(cells):
        table.add_row(*(Text(cell) for cell in row), *drawn[number : number + 1])
    console.width = max(console.width, whole)
    with console.capture() as made:
        console.print(table)
    print_paged(iter([made.get()]), len(rows) > shutil.get_terminal_size().lines - 3, not console.no_color)


def _cut(widths: list[int], figures: Sequence[bool], room: int) -> list[int]:
    """The columns' widths, of which texts, the widest first, give way until all have room."""
    texts = [index for index, is_figure in enumerate(figures) if not is_figure]
    over = sum(widths) + _GAP * (len(widths) - 1) - room
    while over > 0 and texts and widths[widest := max(texts, key=widths.__getitem__)] > _SHORT:
        widths[widest] -= 1
        over -= 1
    return widths


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
