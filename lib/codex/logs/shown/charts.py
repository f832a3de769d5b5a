"""Figures as letters: a line over days, a bar beside a number."""

from __future__ import annotations

from collections.abc import Sequence

_STEPS = "▁▂▃▄▅▆▇█"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def sparkline(figures: Sequence[float]) -> str:
    """A letter for each figure, the highest as a full block; a dot is none."""
    most = max(figures, default=0)
    return "".join(_STEPS[min(7, int(figure / most * 8))] if figure > 0 else "·" for figure in figures)


def bar(figure: float, most: float, width: int) -> str:
    """A bar of at most so many letters, to an eighth of one; what is more than nothing shows."""
    if figure <= 0 or most <= 0:
        return ""
    whole, eighth = divmod(max(1, round(figure / most * width * 8)), 8)
    return "█" * whole + _EIGHTHS[eighth]
