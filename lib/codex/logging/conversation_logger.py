"""Write a conversation: start, messages, end. `python -m codex.logging.conversation_logger`, and the functions."""

from __future__ import annotations

import click

from codex.logging import terminal
from codex.logging.errors import ConfigError
from codex.logging.session import ROLES, Path, end_session, get_session_id, log_event, start_session

__all__ = ["command", "end_session", "log_message", "main", "start_session"]


def log_message(session_id: str, role: str, text: str, db_path: Path | None = None) -> None:
    """Append one message. Raises ValueError for a role outside ROLES or an id that can't name a file."""
    log_event(session_id, role, text, db_path)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  python -m codex.logging.conversation_logger --event start --session-id demo"
    "\n  python -m codex.logging.conversation_logger --event message --role user --message 'Where is the parser?'",
)
@click.option("--event", type=click.Choice(["start", "message", "end"]), required=True)
@click.option("--session-id", metavar="ID", help="[env: CODEX_SESSION_ID, SESSION_ID_SOURCE; default: a new UUID]")
@click.option("--role", default="system", show_default=True, help=f"One of {', '.join(sorted(ROLES))}.")
@click.option("--message", default="", help="The message's text.")
@click.option("--db-path", metavar="PATH", help="An .ndjson file to write to, instead of the session's own.")
def command(event: str, session_id: str | None, role: str, message: str, db_path: str | None) -> int:
    """Append one record to a session's NDJSON file.

    A database is never written: the daemon and `codex-import-ndjson` do that. Exit codes: 0 written or warned of,
    2 a role or a session id that can't be.
    """
    if role not in ROLES:
        raise ConfigError(f"role {role!r:.40} is none of {', '.join(sorted(ROLES))}")
    session_id = session_id or get_session_id()
    if event == "start":
        start_session(session_id, db_path)
    elif event == "end":
        end_session(session_id, db_path)
    else:
        log_message(session_id, role, message, db_path)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
