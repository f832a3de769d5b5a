"""The Nth system call of a daemon fails, or kills it, for each N until none does: is each line there once, in order?

    .venv/bin/python -m tests.faults.sweep --call pwrite64
    .venv/bin/python -m tests.faults.sweep --call openat --error EIO --from 100 --to 200

The daemon is the real one, forked from a process that has its modules already, so that each call is its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import click

from codex.logging import terminal
from codex.logging.errors import CodexLoggingError
from codex.logging.store.connection import open_reader
from tests.daemon import Daemon
from tests.faults.conftest import Sessions
from tests.faults.doomed import Doom, Fork

CALLS = (
    "write", "pwrite64", "fdatasync", "fsync", "read", "pread64", "openat", "flock", "inotify_add_watch",
    "inotify_init", "ftruncate", "fstat", "newfstatat", "stat", "lstat", "mmap", "unlink", "mkdir",
    "getdents64", "clone3",
)  # fmt: skip
ERRORS = ("EIO", "ENOSPC", "EINTR", "ENOMEM")
KILL = "SIGKILL"
ARRIVE_SECONDS = 20.0
_BEFORE_SECONDS = 1.0
_UNCLEAR = ("Traceback", '"traceback"', "a defect")


class Outcome:
    """What came of the runs of one call."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.covered: dict[str, int] = {}
        self.runs = self.went_on = self.stopped = self.killed = self.lost = self.doubled = 0
        self.words: Counter[str] = Counter()
        self.wrong: list[str] = []

    def __str__(self) -> str:
        covered = ", ".join(f"{error} 1-{number}" for error, number in self.covered.items())
        return (
            f"{self.call} | {covered or 'never called'} | runs {self.runs} | went on {self.went_on}"
            f" | stopped with a message {self.stopped} | killed {self.killed} | lost {self.lost}"
            f" | doubled {self.doubled} | other findings {len(self.wrong)}"
        )


class Run:
    """A few sessions, a database that a killed daemon left, and one daemon that takes what is there and what comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_dir = folder / "sessions"
        self.log_dir.mkdir()
        self._daemon = Daemon(self.log_dir, folder / "s.db")
        self._sessions = Sessions(self.log_dir, self._daemon)
        self._places = ("--watch", str(self.log_dir), "--db", str(self._daemon.database))
        self.log = folder / "daemon.log"
        self.trace = folder / "trace"
        self.wrong: list[str] = []

    def run(self, call: str, error: str, number: int) -> int:
        """The traced daemon's exit code; what is wrong is in `wrong`."""
        self._prepare()
        with (
            Fork("run", *self._places, log=self.log, waits=True) as daemon,
            failing(daemon.pid, call, error, number, self.trace),
        ):
            os.kill(daemon.pid, signal.SIGUSR1)
            self._arrives(daemon, _BEFORE_SECONDS)
            self._go_on()
            if not self._arrives(daemon, ARRIVE_SECONDS) and not daemon.ended():
                self.wrong.append(f"still not there after {ARRIVE_SECONDS:.0f} s")
            code = daemon.end(signal.SIGTERM)
        self._check_words(code, killed=error == KILL)
        return code

    def words(self) -> list[str]:
        """The message that it stopped with, if it did."""
        lines = self.log.read_text("utf-8").splitlines()
        return [line.replace(str(self.folder), "…") for line in lines if line.startswith("error: ")]

    def injected(self) -> str:
        """The calls that were tampered with."""
        return "".join(
            line for line in self.trace.read_text().splitlines(True) if "(INJECTED)" in line or "KILL" in line
        )

    def restart(self) -> tuple[int, int]:
        """Lines that are lost, and others that are doubled or misplaced, once another daemon has run without faults."""
        once = Fork("once", *self._places, log=self.folder / "once.log")
        if not once.ended(20.0) or once.code != 0:
            self.wrong.append(f"the restart ended with {once.code}")
        verify = Fork("verify", "--deep", "--db", str(self._daemon.database), log=self.folder / "verify.log")
        if not verify.ended(20.0) or verify.code != 0:
            self.wrong.append((self.folder / "verify.log").read_text())
        with closing(open_reader(str(self._daemon.database))) as connection:
            if connection.pragma("integrity_check") != "ok":
                self.wrong.append("integrity_check")
        return self._compare()

    def _compare(self) -> tuple[int, int]:
        lost = doubled = 0
        rows = self._sessions.rows()
        for session, written in self._sessions.written.items():
            found = [message for _, message in rows.get(session, [])]
            if rows.get(session) != list(enumerate(written, 1)):
                missing = len(set(written) - set(found))
                lost, doubled = lost + missing, doubled + max(len(found) - len(written) + missing, int(not missing))
        return lost, doubled

    def _prepare(self) -> None:
        """Some is taken, by a daemon that was killed; more was written since."""
        self._sessions.append("a", *range(20))
        self._sessions.append("b", *range(5))
        former = Fork("once", *self._places, log=self.folder / "former.log", doom=Doom("group taken", True, 1))
        former.ended(20.0)
        assert former.code == -signal.SIGKILL, (self.folder / "former.log").read_text()
        self._sessions.append("a", *range(20, 25))
        self._rotate("b")
        self._sessions.append("b", *range(5, 10))
        self._sessions.append("c", "x" * 150_000, "y")

    def _go_on(self) -> None:
        """What happens while the daemon runs."""
        self._sessions.append("a", *range(25, 30))
        self._rotate("a")
        self._sessions.append("a", *range(30, 35))
        (self.log_dir / "below").mkdir()
        self._sessions.append("below/d", *range(5))

    def _rotate(self, session: str) -> None:
        path = self.log_dir / f"{session}.ndjson"
        path.rename(f"{path}.1")

    def _arrives(self, daemon: Fork, seconds: float) -> bool:
        """Whether all that was written is there before the daemon ends, and within the time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not daemon.ended(0.01):
            try:
                if self._compare() == (0, 0):
                    return True
            except CodexLoggingError:  # no database yet
                continue
        return False

    def _check_words(self, code: int, *, killed: bool) -> None:
        words = self.log.read_text("utf-8")
        self.wrong += [f"it told of {phrase!r}" for phrase in _UNCLEAR if phrase in words]
        if code > 0 and sum(line.startswith("error: ") for line in words.splitlines()) != 1:
            self.wrong.append(f"it ended with {code}, without one message")
        if code < 0 and not killed:
            self.wrong.append(f"it was killed by signal {-code}")


@contextmanager
def failing(pid: int, call: str, error: str, number: int, trace: Path) -> Iterator[None]:
    """Each thread's call of that number fails once within the context: the kernel never sees it."""
    how = f"signal={error}" if error == KILL else f"error={error}"
    command = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(trace),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:{how}:when={number}",
    ]
    tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    attached = tracer.stderr.readline()
    if b"attached" not in attached:
        tracer.communicate()
        raise click.ClickException(f"may not trace here: {attached.decode()}")
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def sweep(call: str, errors: Sequence[str], numbers: Iterator[int] | range, parent: str | None) -> Outcome:
    """Each error for each of the numbers, until one comes that the daemon doesn't reach."""
    outcome = Outcome(call)
    for error in errors:
        for number in numbers if isinstance(numbers, range) else count(1):
            folder = Path(tempfile.mkdtemp(prefix="codex-sweep-", dir=parent))
            run = Run(folder)
            code = run.run(call, error, number)
            lost, doubled = run.restart()
            hit = run.injected()
            outcome.words.update(run.words())
            run.wrong += ["nothing failed, and it stopped"] if code > 0 and not hit else []
            outcome.lost, outcome.doubled = outcome.lost + lost, outcome.doubled + doubled
            if run.wrong or lost or doubled:
                about = f"{folder}: {call} {error} {number}: {lost} lost, {doubled} doubled"
                outcome.wrong.append("\n  ".join([about, *run.wrong, *hit.splitlines()]))
            else:
                shutil.rmtree(folder)
            if not hit:
                break
            outcome.runs += 1
            outcome.went_on += code == 0
            outcome.stopped += code > 0
            outcome.killed += code < 0
            outcome.covered[error] = number
    return outcome


@click.command(epilog="\b\nExample:\n  python -m tests.faults.sweep --call pwrite64 --error EIO --from 1 --to 20")
@click.option("--call", "calls", multiple=True, help="Which system call; may be given again.  [default: all]")
@click.option("--error", "errors", multiple=True, help="EIO, …, or SIGKILL; may be given again.  [default: all]")
@click.option("--from", "first", default=1, show_default=True, help="The first number.")
@click.option("--to", "last", default=100_000, help="The last number.  [default: up to a run that none fails in]")
@click.option("--step", default=1, show_default=True, help="Only each so-manyth number.")
@click.option("--dir", "parent", type=click.Path(file_okay=False, exists=True), help="Where to make the folders.")
def main(calls: tuple[str, ...], errors: tuple[str, ...], first: int, last: int, step: int, parent: str | None) -> int:
    """Fail the Nth system call of a daemon, restart it, and compare the rows with what was written.

    Exit codes: 0 nothing lost, doubled or wrong; 1 something was, and the folders with it are kept.
    """
    clean = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process stays behind
    for call in calls or CALLS:
        outcome = sweep(call, errors or ERRORS, range(first, last + 1, step), parent)
        click.echo(str(outcome))
        for words, number in outcome.words.most_common():
            click.echo(f"    {number} x {words}")
        for what in outcome.wrong:
            click.echo(what, err=True)
        clean = clean and not (outcome.lost or outcome.doubled or outcome.wrong)
    return int(not clean)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
