"""Code in colour: every letter stays, and the last line is as good as the others."""

from __future__ import annotations

import re

import pytest

from codex.logs.shown.highlight import highlighted

UNDERLINED = "\x1b[04m"


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize(("code", "language"), [("-old\n+new", "diff"), ("x = 'é'\n\n# done", "python")])
def test_the_last_line_is_no_mistake(code: str, language: str, end: str) -> None:
    """With or without its line end it has its colour; without the escapes the text is what it was."""
    shown = highlighted(code + end, language)
    assert UNDERLINED not in shown
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == code + end
