"""The Nth system call fails, for each N until a round is clean: nothing is lost, and no restart is needed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.faults.conftest import Sessions

pytestmark = [
    pytest.mark.scenario(16),
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here"),
]


@contextmanager
def failing(pid: int, call: str, error: str, number: int, trace: Path) -> Iterator[None]:
    """Each thread's call of that number fails once within the context; the kernel never sees it."""
    command = ["strace", "-f", "-o", str(trace), "-e", f"inject={call}:error={error}:when={number}", "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    attached = tracer.stderr.readline()
    if b"attached" not in attached:
        tracer.communicate()
        pytest.skip(f"may not trace here: {attached.decode()}")
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


@pytest.mark.parametrize(
    ("call", "error", "step", "said"),
    [
        ("pwrite64", "ENOSPC", 7, "database or disk is full"),
        pytest.param("pwrite64", "EIO", 1, "disk I/O error", marks=pytest.mark.long),
        pytest.param("pread64", "EIO", 1, "Input/output error", marks=pytest.mark.long),
        pytest.param("openat", "EMFILE", 1, "Too many open files", marks=pytest.mark.long),
        pytest.param("flock", "ENOLCK", 1, "can't be locked", marks=pytest.mark.long),
        pytest.param("newfstatat", "ESTALE", 1, "Stale file handle", marks=pytest.mark.long),
    ],
)
def test_a_failing_call_loses_nothing(
    daemon: Daemon, sessions: Sessions, call: str, error: str, step: int, said: str
) -> None:
    """A call of the running daemon fails: what was being written then arrives all the same, from the same process."""
    trace = daemon.database.with_name("trace")
    daemon.start()
    assert daemon.process is not None
    for number in count(1, step):
        with failing(daemon.process.pid, call, error, number, trace):
            for session in range(3):
                sessions.append(f"s{session}", *range(number, number + 10))
            sessions.append(f"new{number}", "one")
            sessions.arrive()
        if b"(INJECTED)" not in trace.read_bytes():
            break
    assert number > step, "no call ever failed"
    assert daemon.stop() == 0
    assert daemon.told(said)
    assert all(record["hint"] for record in daemon.told("stalled"))
    assert daemon.scalar("PRAGMA integrity_check") == "ok"
    assert not daemon.told("a defect")
    assert not daemon.told("a thread died")
