"""Code in colour, for a terminal's own palette."""

from __future__ import annotations

import re

_DIFF = re.compile(r"\A\s*(diff --git |--- \S.*\n\+\+\+ |\*\*\* Begin Patch)|^@@ -\d+(,\d+)? \+\d+", re.MULTILINE)
_LOOKED_AT = 4000
_LONGEST = 1 << 16


def is_diff(text: str) -> bool:
    """Whether a text is a change of files."""
    return _DIFF.search(text[:_LOOKED_AT]) is not None


def highlighted(code: str, language: str) -> str:
    """The code with colours, letter for letter; as it is where the language isn't known, or where it is very long.

    Controls must have been made visible before.
    """
    if not language or len(code) > _LONGEST:
        return code
    from pygments import highlight
    from pygments.formatters import TerminalFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return code
    # Some lexers take a last line without its end for a mistake.
    return str(highlight(f"{code}\n", lexer, TerminalFormatter(bg="dark"))).removesuffix("\n")
