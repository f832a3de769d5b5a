"""Colour: on a terminal alone, never with NO_COLOR, each session its own."""

from __future__ import annotations

import os
import sys
import zlib
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from codex.logging.plain import one_line

_SESSIONS = (
    "cyan",
    "green",
    "magenta",
    "blue",
    "yellow",
    "bright_cyan",
    "bright_green",
    "bright_magenta",
    "bright_blue",
    "bright_yellow",
)
_SHORTEST = 4


def is_wanted() -> bool:
    """Whether standard output takes colour. NO_COLOR: https://no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Ink:
    """Styles a text as click does, or leaves it alone."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, **style: Any) -> str:
        """The text in this style."""
        if not self.on or not text:
            return text
        import click

        return click.style(text, **style)


def of_session(session_id: str) -> str:
    """The session's colour, always the same."""
    return _SESSIONS[zlib.crc32(session_id.encode("utf-8", "replace")) % len(_SESSIONS)]


class Labels:
    """Short names of sessions: the beginning that no other one has, which every command takes for the whole."""

    def __init__(self, names: Callable[[], list[str]]) -> None:
        self._names = names
        self._labels: dict[str, str] = {}
        self.width = 0

    def __call__(self, session_id: str) -> str:
        """The session's label; it stays the same, whatever sessions begin later."""
        label = self._labels.get(session_id)
        if label is None:
            label = one_line(self._shorten(session_id, self._names()))
            self._labels[session_id] = label
            self.width = max(self.width, len(label))
        return label

    def _shorten(self, session_id: str, names: list[str]) -> str:
        above, _, own = session_id.rpartition("/")
        siblings = sorted({name for name in names if name.rpartition("/")[0] == above} | {session_id})
        place = bisect_left(siblings, session_id)
        near = [name.rpartition("/")[2] for name in siblings[max(0, place - 1) : place + 2] if name != session_id]
        shared = (len(os.path.commonprefix([own, name])) for name in near)  # noqa: RUF071 - letters, not folders
        length = max([_SHORTEST, *(count + 1 for count in shared)])
        return f"{self._shorten(above, names)}/{own[:length]}" if above else own[:length]
