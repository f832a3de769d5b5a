"""The example: record a short conversation, then show its transcript. `python -m codex.logging.end_to_end`."""

from __future__ import annotations

import uuid

import click

from codex.logging import conversation_logger as conversation
from codex.logging import query_logs, terminal


def converse(session_id: str) -> None:
    """Write a session of two messages."""
    conversation.start_session(session_id)
    conversation.log_message(session_id, "user", "hello")
    conversation.log_message(session_id, "assistant", "hi there")
    conversation.end_session(session_id)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  python -m codex.logging.end_to_end",
)
def command() -> int:
    """Record a conversation of two messages in a new session, and show its transcript."""
    session_id = f"demo-{uuid.uuid4()}"
    converse(session_id)
    return query_logs.main(["--session-id", session_id])


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
