"""What runs when a session has ended: the protocol, and the three hooks that come with the daemon."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, NamedTuple, Protocol

from codex.logging.errors import CodexLoggingError, ConfigError
from codex.logging.events import iso_time
from codex.logging.finalize import archive, finalize

COMMAND_SECONDS = 60.0
OUTPUT_BYTES = 16 << 10

log = logging.getLogger(__name__)


class HookError(CodexLoggingError):
    """A hook that did not do its work: it is tried again."""


class Details(NamedTuple):
    """The event that a hook runs for, which is committed.

    `ts` is epoch seconds, `meta` JSON text of the record's other keys, `path` the session's live file; `tries` counts
    this one.
    """

    session_id: str
    generation: int
    seq: int
    part: int
    kind: str
    ts: float | None
    message: str
    meta: str | None
    path: str
    database: str
    tries: int

    def as_json(self) -> str:
        """For a command: the same names, with `ts` in ISO 8601 and `meta` as an object."""
        fields = self._asdict() | {"ts": None if self.ts is None else iso_time(self.ts)}
        with suppress(ValueError, RecursionError):  # nested deeper than this reads: it stays text
            fields["meta"] = json.loads(self.meta or "{}")
        return json.dumps(fields, ensure_ascii=False)


class Hook(Protocol):
    """`when` is the kind of event that it runs for. One run of a hook that `covers` does it for all that are due."""

    @property
    def name(self) -> str: ...
    @property
    def when(self) -> str: ...
    @property
    def covers(self) -> bool: ...

    def run(self, details: Details) -> None:
        """Do the work. It may be done twice for one event; any exception lets it be tried again."""


class CopyAndStage:
    """Finalize: a consistent copy beside the database and in GH_COPILOT_BACKUP_ROOT, and `git add` of both."""

    name, when, covers = "finalize", "session_end", True

    def __init__(self, *, allow_secrets: bool | None = None) -> None:
        self._allow_secrets = allow_secrets
        self._told: tuple[str, ...] = ()

    def run(self, details: Details) -> None:
        """Raises HookError for what may succeed later, DatabaseError when there is no copy."""
        done = finalize(details.database, log_dir=None, allow_secrets=self._allow_secrets)
        if done.notes != self._told:  # the same news is none
            for note in done.notes:
                log.warning(note)
            self._told = done.notes
        if done.failures:
            raise HookError("; ".join(done.failures))


class Archive:
    """A consistent copy in GH_COPILOT_BACKUP_ROOT alone."""

    name, when, covers = "archive", "session_end", True

    def run(self, details: Details) -> None:
        """Raises DatabaseError."""
        archive(details.database)


class Command:
    """A program of the user's, without a shell; details as JSON on its standard input, its output in the log."""

    when, covers = "session_end", False

    def __init__(self, arguments: Sequence[str], seconds: float = COMMAND_SECONDS) -> None:
        self.name = shlex.join(arguments)
        self._arguments = list(arguments)
        self._seconds = seconds

    def run(self, details: Details) -> None:
        """Raises HookError when it can't be started, takes too long, or ends with another code than 0."""
        with tempfile.TemporaryFile() as given:
            given.write(details.as_json().encode("utf-8", "replace") + b"\n")
            given.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603
                    self._arguments,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise HookError(f"can't be started: {error}") from error
        output = _Output(process.stdout)
        try:
            code = process.wait(self._seconds)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise HookError(f"killed after {self._seconds:g} s{output.said()}") from error
        said = output.said()
        if code:
            raise HookError(f"ended with {code}{said}")
        if said:
            log.info("hook said%s", said, extra={"hook": self.name, "session_id": details.session_id})


class _Output:
    """The last 16 KiB of what a process says, read while it runs so that it never waits for us."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="hook output", daemon=True)
        self._thread.start()

    def said(self) -> str:
        """Once the process has ended; what it left running in the background may still say more, unheard."""
        self._thread.join(1.0)
        text = self._kept.decode("utf-8", "replace").strip()
        return f": {text}" if text else ""

    def _read(self) -> None:
        with self._stream as stream:
            while piece := os.read(stream.fileno(), 1 << 16):
                self._kept = (self._kept + piece)[-OUTPUT_BYTES:]


BUILT_IN = (CopyAndStage.name, Archive.name)


def chosen(names: Sequence[str], seconds: float = COMMAND_SECONDS, *, allow_secrets: bool | None = None) -> list[Hook]:
    """The hooks of these names: `finalize`, `archive`, or a command line. Raises ConfigError."""
    return [_hook(name, seconds, allow_secrets) for name in dict.fromkeys(names)]


def _hook(name: str, seconds: float, allow_secrets: bool | None) -> Hook:
    if name == CopyAndStage.name:
        return CopyAndStage(allow_secrets=allow_secrets)
    if name == Archive.name:
        if not os.environ.get("GH_COPILOT_BACKUP_ROOT"):
            raise ConfigError("the hook `archive` has no place to go", hint="Set GH_COPILOT_BACKUP_ROOT to a folder.")
        return Archive()
    try:
        arguments = shlex.split(name)
    except ValueError as error:
        raise ConfigError(f"the hook {name!r} is no command line: {error}") from error
    if not arguments:
        raise ConfigError("a hook is finalize, archive, or a command line; this one is empty")
    return Command(arguments, seconds)
