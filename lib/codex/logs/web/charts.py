"""Charts as SVG that the server draws: numbers and the classes that the style sheet colours, no script and no style."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

from markupsafe import Markup, escape

KINDS = ("input", "cache_write", "cache_read", "output")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960.0, 240.0, 46.0, 22.0, 8.0


class Column(NamedTuple):
    """One day's tokens, by KINDS."""

    day: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts)


def filled(columns: Sequence[Column], most: int) -> list[Column]:
    """The columns with a place for each day without any, from the first to the last; the last `most`."""
    known = {column.day: column for column in columns}
    try:
        first, last = date.fromisoformat(min(known)), date.fromisoformat(max(known))
    except ValueError:
        return [*columns][-most:]
    first = max(first, last - timedelta(days=most - 1))
    days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    return [known.get(day, Column(day, (0,) * len(KINDS))) for day in days]


def stacked(columns: Sequence[Column]) -> Markup:
    """A column for each day, a piece of it for each kind of tokens."""
    top = nice(max((column.total for column in columns), default=0))
    inner, high = _WIDTH - _LEFT, _HEIGHT - _BOTTOM - _TOP
    step = inner / max(1, len(columns))
    wide = max(1.0, min(step * 0.72, 46.0))
    parts = [
        f'<svg class="chart" role="img" aria-label="Tokens per day" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"'
        ' xmlns="http://www.w3.org/2000/svg">'
    ]
    for share in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - share)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(top * share)}</text>')
    every = max(1, -(-len(columns) // 10))
    for number, column in enumerate(columns):
        x = _LEFT + step * number + (step - wide) / 2
        parts.append(f"<g><title>{escape(column.day)}: {column.total:,} tokens</title>")
        y = _TOP + high
        for kind, count in zip(KINDS, column.counts, strict=True):
            tall = high * count / top if top else 0.0
            y -= tall
            if tall:
                parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.2f}"/>')
        parts.append("</g>")
        if number % every == 0:
            middle = x + wide / 2
            parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 5}" text-anchor="middle">{_label(column.day)}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, our own words, and what is escaped above


def bar(share: float) -> Markup:
    """A bar that is so much of its whole width, 0 to 1."""
    width = max(0.0, min(1.0, share)) * 100
    return Markup(  # noqa: S704 - a number
        '<svg aria-hidden="true" viewBox="0 0 100 8" preserveAspectRatio="none">'
        f'<rect width="{width:.2f}" height="8" rx="1"/></svg>'
    )


def short(number: float) -> str:
    """A number of at most four characters and a letter: 1.2M."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            scaled = number / unit
            return f"{scaled:.0f}{letter}" if scaled >= 100 or scaled == int(scaled) else f"{scaled:.1f}{letter}"
    return f"{number:.0f}"


def nice(number: float) -> float:
    """The next round number that isn't smaller."""
    if number <= 0:
        return 1.0
    unit = 10.0 ** (len(str(int(number))) - 1)
    return next(unit * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if unit * step >= number)


def _label(day: str) -> Markup:
    try:
        found = date.fromisoformat(day)
    except ValueError:
        return escape(day)
    return escape(f"{found.day} {found:%b}")
