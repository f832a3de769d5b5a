"""One append that goes all the way: through the daemon that runs, or through one of its own that is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

from codex.logging.errors import CodexLoggingError
from codex.logging.events import iso_time
from codex.logging.store.connection import open_reader, scalar, translated
from codex.logging.writer import append_ndjson
from codex_ingestd.doctor.checks import Finding
from codex_ingestd.doctor.filesystem import SCRATCH
from codex_ingestd.health.judge import Facts
from codex_ingestd.settings.values import Settings

SESSION = "codex-doctor"
SECONDS = 10.0
_POLL_SECONDS = 0.005
_STOP_SECONDS = 15.0
_ARRIVED = "SELECT 1 FROM session_events WHERE session_id = ? AND message = ?"


def through(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """By the daemon that runs. The line stays, as all that was ever appended does: in the session `codex-doctor`."""
    roots = [root for root in facts.roots if root not in settings.formats and os.access(root, os.W_OK)]
    if not roots:
        yield Finding("append", "note", "not tried: the daemon watches no folder of its own format that can be written")
        return
    yield _append(os.path.join(roots[0], f"{SESSION}.ndjson"), settings.db, "the daemon")


def alone(settings: Settings) -> Iterator[Finding]:
    """By a daemon of this trial's own, in a folder of its own beside the database."""
    beside = os.path.dirname(settings.db)
    place = beside if os.access(beside, os.W_OK) else None
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=SCRATCH) as folder:
            logs, path = os.path.join(folder, "logs"), os.path.join(folder, "trial.db")
            os.mkdir(logs)
            with _daemon(folder, logs, path):
                yield _append(os.path.join(logs, f"{SESSION}.ndjson"), path, "a daemon of this trial's own")
    except OSError as error:
        yield Finding("append", "problem", f"not tried: {error}", "Make room, and give this user the right to write.")


@contextmanager
def _daemon(folder: str, logs: str, path: str) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "NOTIFY_"))}
    command = [sys.executable, "-m", "codex_ingestd.cli", "run", "--config", os.devnull, "--watch", logs, "--db", path]
    with open(os.path.join(folder, "log"), "wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _append(path: str, database: str, who: str) -> Finding:
    """The finding of one line that is appended, and waited for."""
    message = f"test append {uuid.uuid4()}"
    append_ndjson(path, {"ts": iso_time(time.time()), "type": "doctor", "message": message})
    began = time.monotonic()
    while time.monotonic() < began + SECONDS:
        if _has_arrived(database, message):
            milliseconds = (time.monotonic() - began) * 1000
            return Finding("append", "fine", f"a test append became a row within {milliseconds:.0f} ms, by {who}")
        time.sleep(_POLL_SECONDS)
    hint = "`codex-ingestd status` and the daemon's log say what stands still."
    return Finding("append", "problem", f"a test append to {path} was no row after {SECONDS:.0f} s, by {who}", hint)


def _has_arrived(database: str, message: str) -> bool:
    try:
        with closing(open_reader(database)) as connection, translated(database):
            return scalar(connection, _ARRIVED, (SESSION, message)) is not None
    except CodexLoggingError:
        return False
