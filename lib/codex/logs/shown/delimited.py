"""CSV that no spreadsheet takes for formulas, and that gives back what went in."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import TextIO

# What a spreadsheet may take for a formula, and what already has our mark before it.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A heading and rows, UTF-8, CRLF, as RFC 4180 has it; None is empty, bytes are hexadecimal."""
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([cell(column) for column in columns])
    for row in rows:
        writer.writerow([cell(value) for value in row])


def cell(value: object) -> object:
    """A value for a cell. A text that a spreadsheet would run gets an apostrophe before it; `plain` takes it away."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value


def plain(text: str) -> str:
    """The text that `cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
