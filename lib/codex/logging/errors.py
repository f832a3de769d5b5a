"""What can go wrong, in words for the person at the terminal."""

from __future__ import annotations


class CodexLoggingError(Exception):
    """The one base. `hint` says what to do next; `exit_code` is what a command returns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CodexLoggingError, ValueError):
    """A setting that can't be used: a variable, a flag or a file's key."""

    exit_code = 2


class SessionIdError(ConfigError):
    """A session id that can't name a file."""


class DatabaseMissingError(CodexLoggingError):
    """A reader was pointed at a file, or a table, that isn't there."""

    exit_code = 2


class NoSuchSessionError(CodexLoggingError):
    """No session, line or generation is meant by what was given, or several are."""

    exit_code = 2


class DatabaseError(CodexLoggingError):
    """The database can't be used: not SQLite, damaged, or read-only."""


class NewerDatabaseError(DatabaseError):
    """A newer program made the database: it is left alone, and trying again mends nothing."""

    exit_code = 2


class DaemonRunningError(CodexLoggingError):
    """Another daemon already serves this database."""

    exit_code = 3


class OutputError(CodexLoggingError):
    """Standard output takes nothing: its disk is full, or its device fails."""


class SourceError(CodexLoggingError):
    """A file that can't be read as a log: no regular file, no permission, a read error."""


class SourceBusyError(SourceError):
    """Somebody else holds the file's lock for longer than the bounded wait."""


class SourceChangedError(SourceError):
    """The path names another file than the one that was opened: look again."""


class StaleWatermarkError(CodexLoggingError):
    """Another importer moved the watermark first: nothing was written, look again."""
