"""A session as a person reads it: who speaks, what tools were called for, what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from codex.logs import calls
from codex.logs.colour import Ink
from codex.logs.highlight import highlighted, is_diff
from codex.logs.plain import one_line, visible
from codex.logs.read.events import Event
from codex.logs.times import local_time
from codex.logs.words import words

_FENCE = re.compile(
    r"^( {0,3})(```+|~~~+)[ \t]*([^\s`]*)[^\n`]*\n(.*?)(?:^ {0,3}\2[ \t]*$\n?|\Z)", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^#{1,6} .*$", re.MULTILINE)
# How much of a call, of its result and of a change is shown when tools are folded: lines.
_CALL_LINES, _RESULT_LINES, _CHANGE_LINES = 3, 3, 12
_LINE_LETTERS = 400
_NOTICES = frozenset({"session_start", "session_end", "usage", "other"})
_SPEAKERS = {"user": "green", "assistant": "cyan", "tool": "blue", "system": "yellow", "developer": "yellow"}


class Style(NamedTuple):
    """How a transcript is made: `tools` is full, fold or none; `width` in columns is that of its rules.

    The event at the position `mark` is marked.
    """

    ink: Ink
    tools: str = "fold"
    width: int = 80
    mark: int | None = None


def transcript(events: Iterable[Event], style: Style) -> Iterator[str]:
    """The events as text, piece by piece, each with its line ends."""
    speaker, begun = "", False
    for event in events:
        tool = event.kind in {"tool_call", "tool_result"}
        marked = event.position == style.mark
        if not marked and (not event.message.strip() or (tool and style.tools == "none")):
            continue
        if event.kind in _NOTICES:
            text = _notice(event, style) if begun else f"\n{_notice(event, style)}"
            begun = True
            yield _marked(text, event, style) if marked else text
            continue
        begun = True
        who = "assistant" if tool else event.role  # a result stands under the call that it is of
        if who != speaker or (event.role == "user" and event.kind == "message"):
            yield _heading(event, who, style)
            speaker = who
        text = _OF_TOOLS[event.kind](event, style) if tool else _speech(event, style)
        yield _marked(text, event, style) if marked else text


def _heading(event: Event, who: str, style: Style) -> str:
    ink = style.ink
    name = one_line(who)
    about = f" {local_time(event.ts)} #{event.seq}"
    rule = "─" * max(3, style.width - len(name) - len(about) - 4)
    speaker = ink(name, fg=_SPEAKERS.get(who, "white"), bold=True)
    return f"\n{ink('──', dim=True)} {speaker}{ink(f'{about} {rule}', dim=True)}\n"


def _notice(event: Event, style: Style) -> str:
    """A line of its own for what nobody says."""
    failed = calls.failed(event)
    mark = "✗" if failed else "·"
    text = f"{mark} {local_time(event.ts)} #{event.seq} {visible(words(event).strip())}"
    return _each_line(text, lambda line: style.ink(line, fg="red" if failed else None, dim=not failed))


def _speech(event: Event, style: Style) -> str:
    ink = style.ink
    if calls.failed(event):
        return ink(f"✗ {visible(event.message)}", fg="red") + "\n"
    if event.kind == "reasoning":
        return _each_line(visible(event.message.strip("\n")), lambda line: ink(f"  ~ {line}", dim=True, italic=True))
    return _message(visible(words(event).strip("\n")), ink) + "\n"


def _message(text: str, ink: Ink) -> str:
    """The text as it is, with headings, fenced code and changes in colour."""
    if not ink.on:
        return text
    if is_diff(text):
        return highlighted(text, "diff")
    pieces, end = [], 0
    for fence in _FENCE.finditer(text):
        code = fence[4]
        pieces.append(_headings(text[end : fence.start(4)], ink))
        pieces.append(highlighted(code, "diff" if is_diff(code) else fence[3]))
        end = fence.end(4)
    return "".join(pieces) + _headings(text[end:], ink)


def _headings(text: str, ink: Ink) -> str:
    return _HEADING.sub(lambda found: ink(found[0], bold=True), text)


def _call(event: Event, style: Style) -> str:
    ink = style.ink
    mark = "▶ sub-agent" if calls.starts_agent(event) else "⚙"
    name = ink(f"{mark} {one_line(event.tool or '')}", fg="magenta" if calls.starts_agent(event) else "blue", bold=True)
    about, change = visible(calls.summary(event)), visible(calls.change(event))
    if style.tools == "full":
        about = visible(event.message.removeprefix(event.tool or "").lstrip())
    if change and about == change:
        about = ""
    shown = _fold(about, _CALL_LINES, style)
    head = f"{name} {_indented(shown, '    ').lstrip()}\n" if about else f"{name}\n"
    if not change:
        return head
    lines = _fold(change, _CHANGE_LINES, style)
    return head + _indented(highlighted(lines, "diff") if ink.on else lines, "    ") + "\n"


def _result(event: Event, style: Style) -> str:
    ink = style.ink
    text = _fold(visible(event.message.strip("\n")), _RESULT_LINES, style)
    if calls.failed(event):
        return _each_line(text, lambda line: ink(f"  ✗ {line}", fg="red"))
    if ink.on and is_diff(text):
        return _indented(highlighted(text, "diff"), "  │ ") + "\n"
    return _each_line(text, lambda line: ink(f"  │ {line}", dim=True))


_OF_TOOLS = {"tool_call": _call, "tool_result": _result}


def _fold(text: str, most: int, style: Style) -> str:
    """The first lines, and how much was left out."""
    if style.tools == "full":
        return text
    lines = text.split("\n")
    kept = [line if len(line) <= _LINE_LETTERS else f"{line[:_LINE_LETTERS]}…" for line in lines[:most]]
    if len(lines) <= most and "".join(kept) == "".join(lines):
        return text
    left = len(text) - sum(map(len, kept))
    more = f"{len(lines) - most:,} lines, " if len(lines) > most else ""
    return "\n".join([*kept, f"… {more}{left:,} letters more: --tools full"])


def _marked(text: str, event: Event, style: Style) -> str:
    """The text between marks that are seen without colour too."""
    body = text if text.strip() else f"({one_line(event.kind)}, no text)\n"
    ink = style.ink
    return f"{ink(f'▼ #{event.seq}', reverse=True)}\n{body}{ink('▲', reverse=True)}\n"


def _each_line(text: str, style: Callable[[str], str]) -> str:
    return "".join(f"{style(line)}\n" for line in text.split("\n"))


def _indented(text: str, start: str) -> str:
    return "\n".join(f"{start}{line}" for line in text.rstrip("\n").split("\n"))
