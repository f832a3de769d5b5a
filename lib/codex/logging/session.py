"""Sessions: who is writing, when it began, how it ended. Everything here writes NDJSON and nothing else."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType, TracebackType

from codex.logging import config
from codex.logging.encoding import text_of
from codex.logging.writer import Appender, append_ndjson, warn

ROLES = frozenset({"system", "user", "assistant", "tool", "INFO", "WARN"})
Path = str | os.PathLike[str]
_making = threading.RLock()  # two threads must not make two ids


def get_session_id() -> str:
    """CODEX_SESSION_ID, else SESSION_ID_SOURCE, else a new UUID4; kept in CODEX_SESSION_ID from then on."""
    session_id = os.environ.get("CODEX_SESSION_ID") or os.environ.get("SESSION_ID_SOURCE")
    if not session_id:
        return _make_session_id()
    config.check_session_id(session_id)
    os.environ["CODEX_SESSION_ID"] = session_id
    return session_id


def _make_session_id() -> str:
    import uuid  # a fifth of this package's import time, and most agents come with an id

    with _making:
        session_id = os.environ.get("CODEX_SESSION_ID") or str(uuid.uuid4())
        os.environ["CODEX_SESSION_ID"] = session_id
    return session_id


def _given(session_id: str | None) -> str:
    return get_session_id() if session_id is None else session_id


def now() -> str:
    """The present moment as the records write it: ISO 8601, UTC, ending in Z."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def log_path(session_id: str, db_path: Path | None = None) -> str:
    """The file that a session's records go to.

    A database path that ends in `.ndjson` (argument, CODEX_LOG_DB_PATH or CODEX_DB_PATH) is itself that file.
    """
    config.check_session_id(session_id)
    return config.single_log(db_path) or config.session_path(session_id)


def log_event(
    session_id: str,
    role: str,
    message: str,
    db_path: Path | None = None,
    *,
    meta: Mapping[str, object] | None = None,
) -> None:
    """Append one message. Raises ValueError for a role outside ROLES or an id that can't name a file."""
    append_ndjson(log_path(session_id, db_path), message_record(session_id, role, message, meta))


def log_message(session_id: str, role: str, message: str, db_path: Path | None = None) -> None:
    """The same as log_event, under its older name."""
    log_event(session_id, role, message, db_path)


def message_record(
    session_id: str, role: str, message: str, meta: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The record of one message; keys of `meta` stand beside the others, and can't replace them."""
    if role not in ROLES:
        raise ValueError(f"role {role!r:.40} is none of {', '.join(sorted(ROLES))}")
    record: dict[str, object] = dict(meta) if meta else {}
    return record | {
        "ts": now(),
        "type": "message",
        "session_id": session_id,
        "role": role,
        "message": message,
    }


def start_session(
    session_id: str | None = None, db_path: Path | None = None, *, argv: Iterable[str] | None = None
) -> str:
    """Write session_start and the `.meta` file; the session's id comes back."""
    session_id = _given(session_id)
    path = log_path(session_id, db_path)
    moment = now()
    with Appender(f"{path.removesuffix('.ndjson')}.meta") as meta:
        meta.write(f"{moment} session_start {session_id}\n".encode())
    append_ndjson(
        path,
        {
            "ts": moment,
            "type": "session_start",
            "session_id": session_id,
            "cwd": _working_directory(),
            "argv": list(sys.argv if argv is None else argv),
        },
    )
    return session_id


def end_session(
    session_id: str | None = None,
    db_path: Path | None = None,
    *,
    exit_code: int | None = None,
    duration_s: int | None = None,
    **more: object,
) -> None:
    """Write session_end. `duration_s` is in whole seconds; further keys (summary, error) stand beside it."""
    session_id = _given(session_id)
    end = {"type": "session_end", "session_id": session_id, "exit_code": exit_code, "duration_s": duration_s}
    append_ndjson(log_path(session_id, db_path), {"ts": now(), **end, **more})


class SessionLogger:
    """A session's file kept open, for many messages: start on enter, end on exit.

    An exception on the way out is recorded with its type and message, and goes on to the caller. A forked child
    may log too, but doesn't end the session.
    """

    def __init__(self, session_id: str | None = None, db_path: Path | None = None) -> None:
        self.session_id = _given(session_id)
        self.db_path = db_path
        self._appender = Appender(log_path(self.session_id, db_path))
        self._began = time.monotonic()
        self._process = os.getpid()

    def log(self, role: str, message: str, *, meta: Mapping[str, object] | None = None) -> None:
        """Append one message: see log_event."""
        self._appender.append(message_record(self.session_id, role, message, meta))

    def __enter__(self) -> SessionLogger:
        self._began = time.monotonic()
        self._process = os.getpid()
        start_session(self.session_id, self.db_path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process == os.getpid():
            _end(self.session_id, self.db_path, self._began, exit_code_of(error), error)
        self._appender.close()


class session:  # noqa: N801 (a context manager that reads as a word of the language)
    """`with session(): main()` writes session_start, and session_end with the true exit code and duration.

    The end is also written at exit, and on SIGTERM before the process goes its former way.
    """

    def __init__(
        self, argv: Iterable[str] | None = None, session_id: str | None = None, db_path: Path | None = None
    ) -> None:
        self.session_id = _given(session_id)
        self._db_path = db_path
        self._argv = list(sys.argv if argv is None else argv)
        self._began = time.monotonic()
        self._process = os.getpid()
        self._ended = True
        self._ending = False
        self._sigterm_waits = False
        self._former: signal._HANDLER = None
        self._handles_sigterm = False

    def __enter__(self) -> session:
        self._began = time.monotonic()
        self._process = os.getpid()
        self._ended = False
        start_session(self.session_id, self._db_path, argv=self._argv)
        atexit.register(self._end, None, None)
        self._catch_sigterm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(exit_code_of(error), error)
        self._release_sigterm()
        atexit.unregister(self._end)

    def _end(self, exit_code: int | None, error: BaseException | None) -> None:
        if self._ended or os.getpid() != self._process:
            return
        self._ended = self._ending = True
        try:
            _end(self.session_id, self._db_path, self._began, exit_code, error)
        finally:
            self._ending = False
        if self._sigterm_waits:
            self._sigterm_waits = False
            os.kill(os.getpid(), signal.SIGTERM)

    def _catch_sigterm(self) -> None:
        try:
            former = signal.getsignal(signal.SIGTERM)
            if former is not signal.SIG_IGN and former is not None:
                self._former = former
                signal.signal(signal.SIGTERM, self._on_sigterm)
                self._handles_sigterm = True
        except ValueError:
            pass  # only the main thread may set handlers: atexit remains

    def _release_sigterm(self) -> None:
        if self._handles_sigterm and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            with suppress(ValueError):  # as above
                signal.signal(signal.SIGTERM, self._former)
        self._handles_sigterm = False

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            self._sigterm_waits = True
            return
        if self._sigterm_kills():
            self._end(128 + number, None)
        if callable(self._former):
            self._former(number, frame)  # one that raises SystemExit ends the session by __exit__
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _sigterm_kills(self) -> bool:
        """Whether no handler but those of sessions stands between SIGTERM and the process's end."""
        outer = getattr(self._former, "__self__", None)
        return outer._sigterm_kills() if isinstance(outer, session) else not callable(self._former)


def exit_code_of(error: BaseException | None) -> int:
    """The code with which the interpreter would end for this exception."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        code = int(error.code) if isinstance(error.code, int) else int(error.code is not None)
        return code & 0xFF if os.name == "posix" else code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _end(
    session_id: str, db_path: Path | None, began: float, exit_code: int | None, error: BaseException | None
) -> None:
    more: dict[str, object] = {}
    if error is not None and not isinstance(error, SystemExit):
        name = type(error).__name__
        more = {"error": f"{name}: {text_of(error)}", "error_type": name}
    try:
        end_session(session_id, db_path, exit_code=exit_code, duration_s=int(time.monotonic() - began), **more)
    except Exception as failure:  # the caller's own exception must not be masked
        warn(f"session_end not logged: {failure}")


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None
