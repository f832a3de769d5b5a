"""What the fault tests share: a plain model of what was written, to compare the rows with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.store.connection import open_reader
from tests.daemon import Daemon, wait_for

HOLDER = """
import fcntl, sys
log = open(sys.argv[1], "ab")
fcntl.flock(log, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
Hold = Callable[[Path], "subprocess.Popen[bytes]"]


class Sessions:
    """The watched folder and what was appended to each of its sessions: the exact oracle."""

    def __init__(self, log_dir: Path, daemon: Daemon) -> None:
        self.log_dir = log_dir
        self.daemon = daemon
        self.written: dict[str, list[str]] = {}

    def append(self, name: str, *messages: object) -> Path:
        """Append each message as a line to `name.ndjson`, all by one write; the file."""
        path = self.log_dir / f"{name}.ndjson"
        with path.open("ab", buffering=0) as log:
            log.write(b"".join(json.dumps({"message": str(message)}).encode() + b"\n" for message in messages))
        self.written.setdefault(path.stem, []).extend(map(str, messages))
        return path

    def arrive(self, seconds: float = 20) -> float:
        """Wait until each message is a row, once, in order, numbered without a gap; the seconds it took."""
        began = time.monotonic()
        total = sum(map(len, self.written.values()))
        wait_for(lambda: (self.daemon.scalar("SELECT count(*) FROM events") or 0) >= total, seconds, f"{total} rows")
        took = time.monotonic() - began
        assert self.rows() == {
            session: list(enumerate(messages, 1)) for session, messages in self.written.items() if messages
        }
        return took

    def rows(self) -> dict[str, list[tuple[int, str]]]:
        """(seq, message) of each session's rows."""
        found: dict[str, list[tuple[int, str]]] = {}
        query = "SELECT session_id, seq, message FROM session_events ORDER BY seq, part"
        with closing(open_reader(str(self.daemon.database))) as connection:
            for session, seq, message in connection.execute(query):
                found.setdefault(session, []).append((seq, message))
        return found


@pytest.fixture
def sessions(log_dir: Path, daemon: Daemon) -> Sessions:
    """Sessions in the folder that `daemon` watches."""
    return Sessions(log_dir, daemon)


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process that holds a file's lock until it is killed."""
    holders: list[subprocess.Popen[bytes]] = []

    def start(path: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLDER, str(path)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        return holder

    yield start
    for holder in holders:
        holder.kill()
        holder.communicate()
