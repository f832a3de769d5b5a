"""What an event says in words: its message, an action's statement, how a session ended."""

from __future__ import annotations

from codex.logging.rows import meta_value
from codex.logs.read.events import Event


def words(event: Event) -> str:
    """The event's text, with what its record holds beside it where that is what it tells."""
    if event.kind not in {"action", "session_end"}:
        return event.message
    meta = meta_value(event.meta)
    record = meta if isinstance(meta, dict) else {}
    if event.kind == "action":
        parts = [str(record[name]) for name in ("action", "statement") if record.get(name)]
        return ": ".join(parts) or event.message
    code = record.get("exit_code")
    told = [f"exit code {code}" if code else "", *(str(record.get(name) or "") for name in ("error", "summary"))]
    return ", ".join([event.message, *filter(None, told)])
