"""What happens to log files: rotated, copied and emptied, made anew under an old inode."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def shift(log: Path) -> None:
    """Make room for another `.1`: `.1` becomes `.2`, and so on."""
    number = 1
    while os.path.exists(f"{log}.{number}"):
        number += 1
    for high in range(number, 1, -1):
        os.rename(f"{log}.{high - 1}", f"{log}.{high}")


def rotate(log: Path) -> None:
    """As the writer does it, outside of any lock: shift, then rename the live file to `.1`."""
    shift(log)
    os.rename(log, f"{log}.1")


def copytruncate(log: Path, *, copy: bool = True) -> None:
    """As logrotate's option of that name does it; without a copy it is a truncation."""
    if copy:
        shutil.copy(log, f"{log}.1")
    os.truncate(log, 0)


def create_at_inode(path: Path, inode: int, data: bytes) -> None:
    """Make a file at a path and a freed inode; skip the test where the file system doesn't reuse it soon."""
    spare = []
    for attempt in range(1000):
        candidate = path.with_name(f"spare-{attempt}")
        candidate.write_bytes(data)
        if candidate.stat().st_ino == inode:
            candidate.rename(path)
            break
        spare.append(candidate)
    for candidate in spare:
        candidate.unlink()
    if not path.exists():
        pytest.skip("this file system doesn't reuse inodes at once")
