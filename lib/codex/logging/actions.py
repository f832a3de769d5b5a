"""Actions, and a session's start and end, under the names of the action log. NDJSON is all that is written here."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from codex.logging import config
from codex.logging.encoding import text_of
from codex.logging.owners import make_folders
from codex.logging.session import Path, end_session, exit_code_of, get_session_id, log_path, now, start_session
from codex.logging.writer import append_ndjson, warn

Metadata = str | Mapping[str, object] | Sequence[object] | None
SUMMARY = "session complete"


def init_codex_log_db(db_path: Path | None = None) -> pathlib.Path:
    """Make the folder that the logs go to; where the database is, or will be once something is imported."""
    log = config.single_log(db_path)
    if not config.test_mode():
        try:
            make_folders(os.path.dirname(log) if log else config.resolve_log_dir())
        except OSError as error:
            warn(f"no folder for the logs: {error}")
    return pathlib.Path(log or config.resolve_database(db_path))


def record_codex_action(session_id: str, action: str, statement: str, metadata: Metadata = None) -> None:
    """Append one action. A dict or list as `metadata` is kept as JSON, a text as it is.

    Raises SessionIdError for an id that can't name a file.
    """
    record: dict[str, object] = {
        "ts": now(),
        "type": "action",
        "session_id": session_id,
        "action": text_of(action),
        "statement": text_of(statement),
    }
    if metadata is not None:
        record["metadata"] = dict(metadata) if isinstance(metadata, Mapping) else metadata
    append_ndjson(log_path(session_id), record)


def log_codex_start(session_id: str) -> None:
    """Write the session's start. Raises SessionIdError."""
    start_session(session_id)


def log_codex_end(session_id: str, summary: str | None = None) -> None:
    """Write the session's end. Raises SessionIdError."""
    more: dict[str, Any] = {} if summary is None else {"summary": summary}
    end_session(session_id, **more)


def initialize_session(session_id: str) -> None:
    """Begin a session. Raises SessionIdError."""
    init_codex_log_db()
    log_codex_start(session_id)


def finalize_session(session_id: str, summary: str = SUMMARY) -> pathlib.Path:
    """End a session and finalize the database: the path of the copy. Raises as finalize_codex_log_db does."""
    log_codex_end(session_id, summary)
    return _finalize()


def _finalize() -> pathlib.Path:
    from codex.logging.finalize import finalize_codex_log_db  # SQLite, which writing doesn't need

    return finalize_codex_log_db()


init_db = init_codex_log_db
log_codex_action = record_codex_action
log_action = record_codex_action


class CodexSessionLogger:
    """`with CodexSessionLogger(sid) as logger: logger.log("generate", "created script")`, then the database finalized.

    An exception on the way out is recorded as the summary, `error: …`, and goes on to the caller; neither the logging
    of the end nor the finalizing can replace it. A forked child may log too, but doesn't end the session.
    """

    def __init__(self, session_id: str | None = None, *, summary: str = SUMMARY) -> None:
        self.session_id = get_session_id() if session_id is None else config.check_session_id(session_id)
        self.summary = summary
        self._began = time.monotonic()
        self._process = os.getpid()

    def log(self, action: str, statement: str, metadata: Metadata = None) -> None:
        """Append one action: see record_codex_action."""
        record_codex_action(self.session_id, action, statement, metadata)

    def __enter__(self) -> CodexSessionLogger:
        self._began = time.monotonic()
        self._process = os.getpid()
        initialize_session(self.session_id)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process != os.getpid():
            return
        try:
            end_session(
                self.session_id,
                exit_code=exit_code_of(error),
                duration_s=int(time.monotonic() - self._began),
                **self._outcome(error),
            )
            _finalize()
        except Exception as failure:  # the caller's own exception must not be masked
            warn(f"session {self.session_id} not finalized: {failure}")

    def _outcome(self, error: BaseException | None) -> dict[str, Any]:
        if error is None or exit_code_of(error) == 0:
            return {"summary": self.summary}
        name = type(error).__name__
        return {
            "summary": f"error: {text_of(error) or name}",
            "error": f"{name}: {text_of(error)}",
            "error_type": name,
        }
