"""Daemons as forks of this process, so that a start costs 10 ms; each may be doomed to SIGKILL itself at a point."""

from __future__ import annotations

import importlib.readers  # noqa: F401  # what is imported by now isn't read by a daemon that a test tampers with
import os
import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from codex.logging.ingest.engine import Engine
from codex.logging.ingest.recogniser import Recogniser
from codex.logging.ingest.sources import Source
from codex.logging.store import checkpoint, connection, merge
from codex.logging.store.checkpoint import Checkpointer
from codex.logging.store.inserts import Inserts
from codex.logging.store.sqlite import Store
from codex_ingestd import cli, housekeeping
from codex_ingestd.database import Database
from codex_ingestd.housekeeping import Tidying
from codex_ingestd.instance import Instance
from codex_ingestd.intake import Intake
from codex_ingestd.watch import reconcile
from codex_ingestd.watch.reconcile import Reconciler
from codex_ingestd.watch.watcher import Watcher

# The calls before or behind which a daemon may die.
POINTS: dict[str, tuple[Any, str]] = {
    "instance locked": (Instance, "__enter__"),
    "schema made": (connection, "migrate"),
    "database opened": (Database, "__enter__"),
    "watcher started": (Watcher, "start"),
    "sweep ended": (Reconciler, "_end"),
    "file opened": (Source, "__init__"),
    "file recognised": (Recogniser, "life"),
    "copy handed over": (Recogniser, "_hand_over"),
    "file taken": (Engine, "_take"),
    "group taken": (Intake, "_group"),
    "generation begun": (Store, "_begin_generation"),
    "watermark moved": (Store, "_move_watermark"),
    "rows inserted": (Inserts, "write"),
    "batch committed": (Store, "commit"),
    "generation resumed": (Store, "resume"),
    "generation ended": (Store, "end"),
    "state told": (Database, "tell"),
    "log checkpointed": (Checkpointer, "_checkpoint"),
    "segments merged": (merge, "_replace"),
    "pages given back": (Tidying, "_give_back"),
}


class Doom(NamedTuple):
    """Before or behind the so-many-th call of a point."""

    point: str
    behind: bool
    count: int

    def arm(self) -> None:
        """Have this process killed there."""
        owner, name = POINTS[self.point]
        call, left = getattr(owner, name), [self.count]

        def doomed(*values: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not self.behind:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*values, **named)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, doomed)


class Fork(AbstractContextManager["Fork"]):
    """A process that runs `codex-ingestd` with these arguments; what it says is appended to `log`.

    The process that forks must have no threads, and no open connection to a database. One that `waits` begins with
    SIGUSR1.
    """

    def __init__(self, *arguments: str, log: Path, doom: Doom | None = None, waits: bool = False) -> None:
        self.code: int | None = None
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, log, doom, waits)

    def _run(self, arguments: tuple[str, ...], log: Path, doom: Doom | None, waits: bool) -> None:
        code = 70
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            hasten()
            if doom is not None:
                doom.arm()
            if waits:
                signal.sigwait({signal.SIGUSR1})
            code = cli.main(list(arguments))
            sys.stdout.flush()
        finally:
            os._exit(code)

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, at the latest after so many seconds; its exit code is in `code`."""
        deadline = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                break
            else:
                time.sleep(0.001)
        return self.code is not None

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGKILL, seconds: float = 20.0) -> int:
        """Send it the signal, if it still runs; its exit code."""
        if not self.ended():
            os.kill(self.pid, number)
        if not self.ended(seconds):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise AssertionError(f"signal {number} didn't end it within {seconds} s")
        assert self.code is not None
        return self.code


def hasten() -> None:
    """Have what is done each some seconds happen within a life of a tenth of a second."""
    checkpoint.EVERY_SECONDS, checkpoint.WAL_BYTES = 0.02, 256 << 10
    merge.REST_SECONDS = merge.LONG_REST_SECONDS = 0.05
    housekeeping.REST_SECONDS = housekeeping._FIRST_SECONDS = 0.02
    reconcile.RECONCILE_SECONDS = 2.0
