"""Long output, by the reader's pager."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import click


def print_paged(pieces: Iterator[str], pager: bool, ink: bool) -> None:
    """To the pager on a terminal, as it is read; else to standard output."""
    if not (pager and sys.stdout.isatty() and sys.stdin.isatty()):
        for piece in pieces:
            sys.stdout.write(piece)
        return
    os.environ.setdefault("PAGER", "less")
    os.environ.setdefault("LESS", "-FRX")
    click.echo_via_pager(pieces, color=ink)
