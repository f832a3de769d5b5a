"""A session as a person reads it: who speaks, what tools were called for, what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from textwrap import fill
from typing import NamedTuple

from codex.logging.plain import one_line, visible
from codex.logs.read.events import Event
from codex.logs.shown import calls
from codex.logs.shown.colour import Ink
from codex.logs.shown.highlight import highlighted, is_diff
from codex.logs.shown.times import local_time
from codex.logs.shown.words import words

_FENCE = re.compile(
    r"^( {0,3})(```+|~~~+)[ \t]*([^\s`]*)[^\n`]*\n(.*?)(?:^ {0,3}\2[ \t]*$\n?|\Z)", re.MULTILINE | re.DOTALL
)
_ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])?\s+")
_HEADING = re.compile(r"^#{1,6} .*$", re.MULTILINE)
# How much of a call, of its result and of a change is shown when tools are folded: lines.
_CALL_LINES, _RESULT_LINES, _CHANGE_LINES = 3, 3, 12
_LINE_LETTERS = 400
_NOTICES = frozenset({"session_start", "session_end", "usage", "other"})
_SPEAKERS = {"user": "green", "assistant": "cyan", "tool": "blue", "system": "yellow", "developer": "yellow"}


class Style(NamedTuple):
    """How a transcript is made: `tools` is full, fold or none; `width` in columns is that of its rules.

    The event at the position `mark` is marked. With `wrap`, for terminals, prose is broken at words to the width, and
    what is folded is cut to it.
    """

    ink: Ink
    tools: str = "fold"
    width: int = 80
    mark: int | None = None
    wrap: bool = False


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
        thought = _broken(visible(event.message.strip("\n")), style, 4)
        return _each_line(thought, lambda line: ink(f"  ~ {line}", dim=True, italic=True))
    return _message(visible(words(event).strip("\n")), style) + "\n"


def _message(text: str, style: Style) -> str:
    """The text as it is, with headings, fenced code and changes in colour."""
    ink = style.ink
    if is_diff(text):
        return highlighted(text, "diff") if ink.on else text
    pieces, end = [], 0
    for fence in _FENCE.finditer(text):
        code = fence[4]
        pieces.append(_prose(text[end : fence.start(4)], style))
        pieces.append(highlighted(code, "diff" if is_diff(code) else fence[3]) if ink.on else code)
        end = fence.end(4)
    return "".join(pieces) + _prose(text[end:], style)


def _prose(text: str, style: Style) -> str:
    broken = _broken(text, style)
    return _HEADING.sub(lambda found: style.ink(found[0], bold=True), broken) if style.ink.on else broken


def _broken(text: str, style: Style, start: int = 0) -> str:
    """The text, with lines that are too long broken at words; `start` columns are taken already."""
    width = style.width - start
    if not style.wrap:
        return text
    return "\n".join(line if len(line) <= width else _fill(line, width) for line in text.split("\n"))


def _fill(line: str, width: int) -> str:
    """Several lines of one, the later ones indented as a list's item is."""
    begins = _ITEM.match(line)
    indent = " " * min(len(begins[0]) if begins else 0, width // 2)
    return fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or line


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
    letters = max(20, style.width - 5) if style.wrap else _LINE_LETTERS
    shown = [line.expandtabs(4) if style.wrap else line for line in lines[:most]]
    kept = [line if len(line) <= letters else f"{line[:letters]}…" for line in shown]
    if len(lines) <= most and kept == shown:
        return text
    left = max(0, len(text) - sum(map(len, kept)))
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
