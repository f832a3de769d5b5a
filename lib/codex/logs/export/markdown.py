"""Transcripts as Markdown: what others wrote stands in fences that it can't end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from codex.logging.plain import one_line, visible
from codex.logs.export.transcript import Transcript, heading
from codex.logs.read.events import Event

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~&$])")
_TICKS = re.compile("`+")


def write_markdown(file: BinaryIO, transcripts: Iterable[Transcript]) -> None:
    """A heading for each session and each event; events without a message are left out."""
    for transcript in transcripts:
        for piece in _pieces(transcript):
            file.write(piece.encode(errors="replace"))


def _pieces(transcript: Transcript) -> Iterator[str]:
    yield f"# {_escaped(transcript.title)}\n\n"
    for name, value in transcript.facts():
        yield f"- {name}: {_escaped(value)}\n"
    yield "\n"
    for event in transcript.events:
        if event.message:
            tool = f" · {_escaped(event.tool)}" if event.tool else ""
            yield f"## {_escaped(heading(event))}{tool}\n\n{_fenced(event)}\n"


def _escaped(text: str) -> str:
    """A text within a line, with nothing in it that is markup."""
    return _MARKUP.sub(r"\\\1", one_line(text))


def _fenced(event: Event) -> str:
    """A message between fences longer than any row of backticks in it."""
    text = visible(event.message)
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in _TICKS.findall(text)), default=0))
    return f"{fence}text\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}\n"
