"""Calls of tools as a person reads them: the command, the file, the change; and whether what came back is a failure."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from codex.logs.read.events import Event

# What a call is mostly about, as agents name it.
_ABOUT = ("command", "cmd", "file_path", "path", "notebook_path", "pattern", "query", "url", "description", "prompt")
_PATCH = "*** Begin Patch"
_FAILED = re.compile(
    r"\A\s*(<tool_use_error>|error\b|exit code:? [1-9]|command failed|traceback \(most recent call last\))"
    r"|\b(exited with code|exit code:|\"exit_code\": ?) ?[1-9]",
    re.IGNORECASE,
)
_ERRORS = re.compile(r'"type": ?"error"|"subtype": ?"api_error"')
_ENDED_BADLY = re.compile(r'"error":|"exit_code": ?-?[1-9]')
_LOOKED_AT = 400
_AGENTS = frozenset({"Task", "Agent", "spawn_agent"})


def arguments(event: Event) -> Any:
    """What a call was given: as JSON where it is some, else its text."""
    text = event.message.removeprefix(event.tool or "").lstrip()
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def summary(event: Event) -> str:
    """What a call is about, without the tool's name: a command, a file, a pattern; else all that it was given."""
    given = arguments(event)
    if not isinstance(given, dict):
        return str(given) if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    for name in _ABOUT:
        if given.get(name):
            return _plain(given[name])
    return json.dumps(given, ensure_ascii=False) if given else ""


def _plain(value: object) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        is_shell = len(value) == 3 and value[1] in {"-c", "-lc"}
        return str(value[2]) if is_shell else shlex.join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def change(event: Event) -> str:
    """The change that a call makes to a file, as lines that begin with - and +; empty for another call."""
    given = arguments(event)
    if isinstance(given, str):
        return given if _PATCH in given else ""
    if not isinstance(given, dict):
        return ""
    for name in ("input", "patch", "command", "cmd"):
        text = _plain(given[name]) if given.get(name) else ""
        if _PATCH in text:
            return text[text.index(_PATCH) :]
    edits = given.get("edits") if isinstance(given.get("edits"), list) else [given]
    return "\n".join(_edit(edit) for edit in edits or [] if isinstance(edit, dict) and "new_string" in edit)


def _edit(edit: dict[str, object]) -> str:
    sides = (("-", edit.get("old_string")), ("+", edit.get("new_string")))
    return "\n".join(f"{mark}{line}" for mark, text in sides if text for line in str(text).splitlines())


def starts_agent(event: Event) -> bool:
    """Whether a call starts a sub-agent."""
    return event.kind == "tool_call" and event.tool in _AGENTS


def failed(event: Event) -> bool:
    """Whether an event tells of a failure: an agent's error, or a tool's result that begins like one."""
    if event.kind == "tool_result":
        return '"is_error":true' in (event.meta or "") or _FAILED.search(event.message[:_LOOKED_AT]) is not None
    if event.role == "WARN":
        return True
    marks = _ENDED_BADLY if event.kind == "session_end" else _ERRORS
    return event.kind in {"other", "session_end"} and marks.search(event.meta or "") is not None
