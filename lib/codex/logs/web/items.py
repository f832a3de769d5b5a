"""What a page shows of an event and of a session: plain JSON, its texts bounded, and with their controls visible.

Escaping isn't done here: templates escape what they show, and the scripts put text into the page as text.
"""

from __future__ import annotations

import json
from typing import Any

from codex.logging.events import iso_time
from codex.logging.plain import one_line, visible
from codex.logs.read.events import Event
from codex.logs.read.sessions import Session

WHOLE = 1 << 20
_SHOWN = {"tool_result": 4000, "tool_call": 8000, "other": 4000}
_SHOWN_ELSE = 16_000
_HEAD = 200
_TELLING = ("command", "cmd", "file_path", "path", "pattern", "query", "url", "description", "prompt", "input")


def shown(event: Event, most: int | None = None) -> dict[str, object]:
    """An event for the timeline. `size` is there where the text is cut: how many characters it has in all.

    `key` is its position as text: a script's numbers end at 2^53.
    """
    limit = most or _SHOWN.get(event.kind, _SHOWN_ELSE)
    text = event.message
    if event.kind == "tool_call" and event.tool:
        text = text.removeprefix(event.tool).lstrip()
    meta = _meta(event.meta) if event.kind in {"action", "session_start", "session_end", "tool_result"} else {}
    item: dict[str, object] = {
        "key": str(event.position),
        "seq": event.seq,
        "ts": event.ts,
        "role": event.role,
        "kind": event.kind,
        "tool": visible(event.tool) if event.tool else None,
        "text": visible(text[:limit]),
        "head": _head(event, text, meta),
    }
    if len(text) > limit:
        item["size"] = len(text)
    if event.inherited:
        item["inherited"] = True
    if event.kind == "tool_result" and _failed(meta):
        item["failed"] = True
    if event.kind in {"action", "session_end", "session_start"} or (event.kind == "other" and not text):
        item["meta"] = visible((event.meta or "")[:limit])
    return item


def session(found: Session, first_words: str = "") -> dict[str, object]:
    """A session for the list and for a timeline's head; its first words are its title where it has none."""
    words = {
        name: one_line(str(value)[:300]) if value else ""
        for name, value in (
            ("title", found.title or first_words.strip().partition("\n")[0]),
            ("cwd", found.cwd),
            ("branch", found.branch),
            ("agent", found.agent),
            ("state", found.state),
            ("parent", found.parent_session_id),
        )
    }
    models = json.loads(found.models)
    return {
        "id": found.session_id,
        "name": one_line(found.session_id),
        **words,
        "project": (words["cwd"].rstrip("/").rpartition("/")[2]) or words["cwd"],
        "models": [one_line(str(model)) for model in models] if isinstance(models, list) else [],
        "started": found.started,
        "last": found.last_event,
        "last_time": iso_time(found.last_event),
        "events": found.events,
        "turns": found.turns,
        "calls": found.tool_calls,
        "errors": found.errors,
        "tokens": found.tokens,
    }


def _head(event: Event, text: str, meta: dict[str, Any]) -> str:
    """The one line that stands for the event while it is folded."""
    if event.kind == "action":
        return one_line(f"{meta.get('action') or 'action'}: {meta.get('statement') or ''}"[:_HEAD])
    if event.kind == "session_end":
        return one_line(_ending(meta)[:_HEAD])
    if event.kind == "tool_call":
        return one_line(_telling(text)[:_HEAD])
    return one_line(text.lstrip()[: _HEAD * 2].partition("\n")[0][:_HEAD])


def _telling(text: str) -> str:
    """Of a call's arguments the one that tells most; the text's first line where they are no JSON object."""
    try:
        given = json.loads(text) if text[:1] == "{" and len(text) < WHOLE else None
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, dict) and isinstance(given.get("input"), str):
        text, given = given["input"], None
    if isinstance(given, dict):
        for name in _TELLING:
            value = given.get(name)
            if isinstance(value, list) and all(isinstance(word, str) for word in value):
                return str(value[-1] if value[:1] == ["bash"] and len(value) > 1 else " ".join(value))
            if isinstance(value, str) and value:
                return value
        return text
    return text.strip().removeprefix("*** Begin Patch\n").partition("\n")[0].removeprefix("*** ")


def _ending(meta: dict[str, Any]) -> str:
    parts = [str(meta[name]) for name in ("error", "summary") if meta.get(name)]
    if meta.get("exit_code") is not None:
        parts.append(f"exit code {meta['exit_code']}")
    if meta.get("duration_s") is not None:
        parts.append(f"after {meta['duration_s']} s")
    return " · ".join(parts)


def _failed(meta: dict[str, Any]) -> bool:
    return meta.get("is_error") is True or (isinstance(meta.get("exit_code"), int) and meta["exit_code"] != 0)


def _meta(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text) if text and len(text) < WHOLE else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
