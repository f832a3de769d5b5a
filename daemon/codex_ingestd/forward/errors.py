"""What can keep rows from going on, in words for the person at the terminal. No text holds a password."""

from __future__ import annotations

from codex.logging.errors import CodexLoggingError


class SinkError(CodexLoggingError):
    """The sink takes nothing now: it can't be reached, lacks the schema or a right, or its disk is full.

    It is tried again; `passes` tells whether that may help without anybody doing something.
    """

    def __init__(self, message: str, *, hint: str = "", passes: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.passes = passes


class StaleSinkError(SinkError):
    """Somebody else moved a watermark at the sink first: nothing was written, read them again."""


class DivergedError(CodexLoggingError):
    """The sink has other rows under this host's id than the record has: a copy forwards as well. Nothing is written."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the sink has another record under this host id: {what}",
            hint="Another machine, or another copy of this database, forwards under the same id. Give this one an id of"
            " its own with --forward-host-id, or forward-host-id in its settings.",
        )
