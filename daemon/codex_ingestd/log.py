"""Log lines on standard error: text on a terminal and for systemd's journal, else JSON. Times are UTC."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from typing import TextIO

from codex.logging.plain import one_line, plain_json, visible

LEVELS = ("debug", "info", "warning", "error")
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}


def set_up(level: str) -> None:
    """Send this program's and its libraries' log records to standard error."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(_formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _tell_of_death
    logging.getLogger("watchdog").setLevel(max(logging.WARNING, logging.getLogger().level))
    if level != "debug":
        logging.getLogger("py.warnings").setLevel(logging.ERROR)  # Python's warnings are for programmers


def _formatter() -> logging.Formatter:
    if sys.stderr.isatty():
        return _Text("NO_COLOR" not in os.environ)
    return _Journal() if _is_journal() else _Json()


def _is_journal() -> bool:
    """Whether standard error is systemd's journal: its device and inode are in JOURNAL_STREAM."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Handler(logging.StreamHandler[TextIO]):
    """What can't be written, onto a full disk for one, is lost without a word: where should that go?"""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _tell_of_death(death: threading.ExceptHookArgs) -> None:
    """A thread's last words as one log line, as all else is told; where the system failed, it is no defect."""
    cause = death.exc_value or death.exc_type()
    trace = None if isinstance(cause, OSError) else (death.exc_type, cause, death.exc_traceback)
    name = death.thread.name if death.thread else "unknown"
    logging.getLogger(__name__).error("a thread died: %s", cause, exc_info=trace, extra={"thread_name": name})


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN}


def _told(record: logging.LogRecord) -> str:
    """The message and its facts, in one line: a name in them can't begin another, nor order a terminal about."""
    facts = "".join(f" {key}={value}" for key, value in _extra(record).items())
    return one_line(f"{record.getMessage()}{facts}")


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return plain_json(json.dumps(line, ensure_ascii=False, default=str))


class _Text(logging.Formatter):
    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_moment(record)} {record.levelname.lower():7} {_told(record)}"
        if record.exc_info:
            line += "\n" + visible(self.formatException(record.exc_info))
        start = _COLOURS.get(record.levelname, "") if self._colour else ""
        return f"{start}{line}\033[0m" if start else line


class _Journal(logging.Formatter):
    """As sd-daemon(3) reads it: each line begins with its priority; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        text = _told(record)
        if record.exc_info:
            text += "\n" + visible(self.formatException(record.exc_info))
        prefix = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        return "\n".join(prefix + line for line in text.split("\n"))
