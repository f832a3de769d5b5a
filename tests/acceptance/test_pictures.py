"""The README's pictures are drawn from sample data, and are small and harmless."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests import pictures

SAYS = {"sessions": "waiting", "show": "parser.done", "search": "timeout", "stats": "█"}


def check(svg: str, name: str) -> None:
    """A small picture that asks for no other file, runs nothing, and shows what it is to show."""
    elements = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert elements <= {"svg", "style", "defs", "clipPath", "rect", "text", "g", "circle"}
    assert "url(http" not in svg
    assert len(svg.encode()) < 100_000
    assert SAYS[name] in svg.replace("&#160;", " ")


def test_they_are_drawn_anew(tmp_path: Path) -> None:
    """From sessions made for them, by the commands themselves on a terminal."""
    database = pictures.prepare(tmp_path, datetime.now(UTC))
    assert set(pictures.PICTURES) == set(SAYS)
    for name, picture in pictures.PICTURES.items():
        check(pictures.draw(picture, database), name)


@pytest.mark.parametrize("name", SAYS)
def test_those_that_are_kept_are_such(name: str) -> None:
    """The files that the READMEs show."""
    check((pictures.FOLDER / f"{name}.svg").read_text("utf-8"), name)
