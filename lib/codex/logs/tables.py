"""Figures in columns: aligned, in the terminal's width, plain where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from codex.logs.plain import one_line


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A heading and rows; numbers stand to the right, with thin grouping; None is a dash."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [list(row) for row in rows]
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        console.width = 10_000
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        figures = any(isinstance(row[index], int | float) for row in shown)
        table.add_column(name, justify="right" if figures else "left", no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(str(value))
