"""Words on their way to a terminal: what others wrote is shown, never executed."""

from __future__ import annotations

import re

# Controls but newline and tab (C0, DEL, C1), marks that reorder what stands around them, and separators of lines.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def visible(text: str) -> str:
    """The text with each control character as its escape (`\\x1b`, `\\u202e`); newlines and tabs stay as they are.

    What a terminal would take as an order, or show in another order than it stands, is read as what it is. The line
    ends of Windows are newlines.
    """
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same in a single line: `⏎` for each newline, a space for each tab."""
    return visible(text).replace("\n", "⏎").replace("\t", " ")


def plain_json(text: str) -> str:
    """JSON of the same value, in which each such character is an escape: they stand in strings alone."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\\r" if code == 13 else (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
