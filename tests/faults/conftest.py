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
from tests.importer import Recorded

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
        self.recoveries: list[float] = []

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
        total = self.total
        wait_for(lambda: (self.daemon.scalar("SELECT count(*) FROM events") or 0) >= total, seconds, f"{total} rows")
        self.recoveries.append(time.monotonic() - began)
        self.compare()
        return self.recoveries[-1]

    def prove(self) -> None:
        """All arrives, nothing more comes until the daemon ends, and the product's own deep check finds nothing."""
        self.arrive()
        assert self.daemon.stop() == 0
        self.compare()
        assert Recorded(self.daemon.database).findings() == []

    def compare(self) -> None:
        """Each message is a row, once, in order, numbered without a gap."""
        assert self.rows() == {
            session: list(enumerate(messages, 1)) for session, messages in self.written.items() if messages
        }

    @property
    def total(self) -> int:
        """How many messages were written."""
        return sum(map(len, self.written.values()))

    def rows(self) -> dict[str, list[tuple[int, str]]]:
        """(seq, message) of each session's rows."""
        found: dict[str, list[tuple[int, str]]] = {}
        query = "SELECT session_id, seq, message FROM session_events ORDER BY seq, part"
        with closing(open_reader(str(self.daemon.database))) as connection:
            for session, seq, message in connection.execute(query):
                found.setdefault(session, []).append((seq, message))
        return found


@pytest.fixture(autouse=True)
def scenario(request: pytest.FixtureRequest) -> None:
    """The number of the scenario that the test plays goes into the report."""
    if (mark := request.node.get_closest_marker("scenario")) is not None:
        request.node.user_properties.append(("scenario", mark.args[0]))


@pytest.fixture
def sessions(log_dir: Path, daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Sessions]:
    """Sessions in the folder that `daemon` watches; how often and how fast all was there goes into the report."""
    found = Sessions(log_dir, daemon)
    yield found
    facts = {"lines": found.total, "recoveries": len(found.recoveries), "slowest": max(found.recoveries, default=0.0)}
    request.node.user_properties += facts.items()


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
