"""Transcripts as one page that needs nothing else: no script, no other file, everything that others wrote escaped."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Iterator
from importlib import resources
from string import Template
from typing import BinaryIO

from codex.logging.events import iso_time
from codex.logging.plain import one_line, visible
from codex.logs.export.transcript import Transcript
from codex.logs.read.events import Event

_OPEN = {"message"}
_ROLES = {"user", "assistant", "tool", "system"}


def write_page(file: BinaryIO, transcripts: Iterable[Transcript]) -> None:
    """A section for each session; calls, results and thoughts are folded; events without a message are left out."""
    first = True
    for number, transcript in enumerate(transcripts, 1):
        if first:
            file.write(_head(transcript.title).encode(errors="replace"))
            first = False
        for piece in _section(number, transcript):
            file.write(piece.encode(errors="replace"))
    if first:
        file.write(_head("No session").encode())
    file.write(b"</body>\n</html>\n")


def _head(title: str) -> str:
    folder = resources.files(__package__)
    style = (folder / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = Template((folder / "page.html").read_text(encoding="utf-8"))
    return page.substitute(hash=digest, style=style, title=_escaped(title))


def _section(number: int, transcript: Transcript) -> Iterator[str]:
    yield f'<section id="s{number}">\n<h1>{_escaped(transcript.title)}</h1>\n<dl>\n'
    for name, value in transcript.facts():
        yield f"<dt>{name}</dt><dd>{_escaped(value)}</dd>\n"
    yield "</dl>\n"
    for event in transcript.events:
        if event.message:
            yield _article(f"s{number}-{event.seq}-{event.part}", event)
    yield "</section>\n"


def _article(place: str, event: Event) -> str:
    role = event.role if event.role in _ROLES else "other"
    words = [f"<b>{_escaped(event.role)}</b>"]
    if event.kind != "message":
        words.append(_escaped(event.kind.replace("_", " ")))
    if event.tool:
        words.append(f"<b>{_escaped(event.tool)}</b>")
    if event.ts is not None:
        words.append(f"<time>{_escaped(iso_time(event.ts))}</time>")
    head = f'{" · ".join(words)} <a href="#{place}">#{event.seq}</a>'
    body = f"<pre>{html.escape(visible(event.message))}</pre>"
    if event.kind in _OPEN and event.role != "tool":
        return f'<article class="{role}" id="{place}"><header>{head}</header>\n{body}</article>\n'
    return f'<article class="{role}" id="{place}"><details><summary>{head}</summary>\n{body}</details></article>\n'


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
