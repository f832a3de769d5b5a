"""A daemon's Nth system call fails, or kills it: it goes on or says why it stops, and a restart completes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.faults.sweep import CALLS, ERRORS, KILL

pytestmark = [
    pytest.mark.scenario(16),
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here"),
]


@pytest.mark.parametrize(
    ("call", "error", "step"),
    [
        ("write", "ENOSPC", 2),
        ("read", "EIO", 3),
        ("pwrite64", "EIO", 40),
        ("pwrite64", "ENOSPC", 50),
        ("pwrite64", KILL, 20),
        ("pread64", "EIO", 10),
        ("fdatasync", "EIO", 2),
        ("fdatasync", KILL, 2),
        ("openat", "EIO", 12),
        ("flock", "EIO", 4),
        ("inotify_add_watch", "ENOSPC", 1),
        ("newfstatat", "EIO", 60),
        ("getdents64", "EIO", 3),
        ("mmap", "ENOMEM", 3),
        ("clone3", "ENOMEM", 4),
        *(pytest.param(call, error, 1, marks=pytest.mark.long) for call in CALLS for error in (*ERRORS, KILL)),
    ],
)
def test_a_failing_call_loses_and_doubles_nothing(tmp_path: Path, call: str, error: str, step: int) -> None:
    """Each so-manyth call, until none fails: sweep.py says what is compared."""
    command = [sys.executable, "-m", "tests.faults.sweep", "--call", call, "--error", error, "--step", str(step)]
    done = subprocess.run([*command, "--dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    if "may not trace here" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert step == 1 or "runs 0 " not in done.stdout
