"""The example: record a short conversation, then show its transcript. `python -m codex.logging.end_to_end`."""

from __future__ import annotations

import uuid

from codex.logging import conversation_logger as conversation
from codex.logging import query_logs


def converse(session_id: str) -> None:
    """Write a session of two messages."""
    conversation.start_session(session_id)
    conversation.log_message(session_id, "user", "hello")
    conversation.log_message(session_id, "assistant", "hi there")
    conversation.end_session(session_id)


def main() -> int:
    """Write, then read; the reader's exit code."""
    session_id = f"demo-{uuid.uuid4()}"
    converse(session_id)
    return query_logs.main(["--session-id", session_id])


if __name__ == "__main__":
    raise SystemExit(main())
