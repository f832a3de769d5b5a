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
    from codex.logging.import_ndjson import import_all, import_session

__all__ = [
    "Appender",
    "SessionLogger",
    "append_ndjson",
    "end_session",
    "get_session_id",
    "import_all",
    "import_session",
    "log_event",
    "log_message",
    "session",
    "start_session",
]

_LATE = {"import_all": "import_ndjson", "import_session": "import_ndjson"}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
