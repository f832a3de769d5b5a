"""Write agents' records as NDJSON, keep them in SQLite, read them back.

Importing this package loads what an append needs and nothing more; the rest comes with its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from codex.logging.session import (
    SessionLogger,
    end_session,
    get_session_id,
    log_event,
    log_message,
    session,
    start_session,
)
from codex.logging.writer import Appender, append_ndjson

if TYPE_CHECKING:
    from codex.logging.actions import (
        CodexSessionLogger,
        finalize_session,
        init_codex_log_db,
        init_db,
        initialize_session,
        log_action,
        log_codex_action,
        log_codex_end,
        log_codex_start,
        record_codex_action,
    )
    from codex.logging.finalize import finalize_codex_log_db
    from codex.logging.import_ndjson import import_all, import_session
    from codex.logging.messages import fetch_messages

__all__ = [
    "Appender",
    "CodexSessionLogger",
    "SessionLogger",
    "append_ndjson",
    "end_session",
    "fetch_messages",
    "finalize_codex_log_db",
    "finalize_session",
    "get_session_id",
    "import_all",
    "import_session",
    "init_codex_log_db",
    "init_db",
    "initialize_session",
    "log_action",
    "log_codex_action",
    "log_codex_end",
    "log_codex_start",
    "log_event",
    "log_message",
    "record_codex_action",
    "session",
    "start_session",
]

_LATE = {
    "CodexSessionLogger": "actions",
    "fetch_messages": "messages",
    "finalize_codex_log_db": "finalize",
    "finalize_session": "actions",
    "import_all": "import_ndjson",
    "import_session": "import_ndjson",
    "init_codex_log_db": "actions",
    "init_db": "actions",
    "initialize_session": "actions",
    "log_action": "actions",
    "log_codex_action": "actions",
    "log_codex_end": "actions",
    "log_codex_start": "actions",
    "record_codex_action": "actions",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
