"""More than the queue holds, more than a turn takes: nothing is lost, nobody starves, a kill changes nothing."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from codex.logging import append_ndjson
from codex.logging.store.checkpoint import RELIEF_BYTES
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions
from tests.files import rotate

QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) if sys.platform == "linux" else 0
needs_inotify = pytest.mark.skipif(not QUEUE, reason="speaks of inotify")


@needs_inotify
@pytest.mark.scenario(8)
@pytest.mark.parametrize(("count", "seconds"), [(300, 5), pytest.param(20_000, 60, marks=pytest.mark.long)])
def test_files_made_while_stopped_overflow_the_queue(
    daemon: Daemon, sessions: Sessions, count: int, seconds: float
) -> None:
    """SIGSTOP; more events than the kernel keeps, new files, some rotated; SIGCONT: soon complete."""
    old = [sessions.append(f"old{number}", "before") for number in range(20)]
    daemon.start()
    sessions.arrive()
    daemon.freeze()
    for number in range(QUEUE + 1):
        os.utime(old[number % 2])
    for number in range(count):
        sessions.append(f"new{number}", "one", "two")
    for path in old:
        sessions.append(path.stem, "end")
        path.rename(f"{path}.1")
        sessions.append(path.stem, "begin")
    daemon.send(signal.SIGCONT)
    sessions.arrive(seconds)
    wait_for(lambda: daemon.told("queue overflowed"), what="word of the overflow")


@pytest.mark.scenario(8)
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_frozen_under_load(daemon: Daemon, sessions: Sessions, seconds: float) -> None:
    """SIGSTOP while four sessions grow and rotate, which they go on with; SIGCONT: soon complete."""
    daemon.start()
    choose = random.Random(seconds)
    frozen, began = False, time.monotonic()
    while time.monotonic() - began < seconds:
        path = sessions.append(f"s{choose.randrange(4)}", *(choose.randrange(10**9) for _ in range(5)))
        if choose.random() < 0.02:
            rotate(path)
        if not frozen and time.monotonic() - began > seconds / 10:
            daemon.freeze()
            frozen = True
        daemon.scalar("SELECT 1")
    daemon.send(signal.SIGCONT)
    sessions.arrive(60)
    sessions.prove()


@pytest.mark.scenario(12)
@pytest.mark.parametrize("megabytes", [64, pytest.param(5000, marks=pytest.mark.long)])
def test_a_backlog_leaves_a_small_rotating_file_its_latency(
    daemon: Daemon, sessions: Sessions, environment: pytest.MonkeyPatch, megabytes: int
) -> None:
    """Beside a file of many megabytes, a small one that rotates each 100 ms has each line in at once."""
    environment.setenv("NDJSON_MAX_BYTES", "1")
    piece = b"".join(b'{"message":"%d %s"}\n' % (number, b"x" * 900) for number in range(1100))
    with (sessions.log_dir / "backlog.ndjson").open("wb") as file:
        for _ in range(megabytes):
            file.write(piece)
    daemon.start()
    latencies: list[float] = []
    while count(daemon, "backlog") < megabytes * 1100 and len(latencies) < 200:
        began = time.monotonic()
        append_ndjson(sessions.log_dir / "small.ndjson", {"message": f"{len(latencies)}"})
        wait_for(lambda: count(daemon, "small") > len(latencies))
        latencies.append(time.monotonic() - began)
        wait_for(lambda began=began: time.monotonic() - began > 0.1)
    assert len(latencies) >= 5, "the backlog was too short to tell"
    assert sorted(latencies)[len(latencies) // 2] < 0.2
    assert max(latencies) < 1.0
    wait_for(lambda: count(daemon, "backlog") == megabytes * 1100, 600)
    assert [row.message for row in daemon.rows("small")] == [str(number) for number in range(len(latencies))]
    log = Path(f"{daemon.database}-wal")

    def is_cut() -> bool:
        append_ndjson(sessions.log_dir / "later.ndjson", {"message": "a commit after a checkpoint"})
        return log.stat().st_size <= RELIEF_BYTES

    wait_for(is_cut, 300, "the write-ahead log to shrink")  # the disk has gigabytes to take first


def count(daemon: Daemon, session: str) -> int:
    """The stream's highest line number that is committed."""
    found = daemon.scalar(f"SELECT max(seq) FROM session_ingest_watermark WHERE session_id = '{session}'")
    return int(str(found or 0))


@pytest.mark.scenario(10)
@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.long)])
def test_kills_at_any_time_change_nothing(daemon: Daemon, sessions: Sessions, kills: int) -> None:
    """SIGKILL at random while three sessions grow and rotate: at the end complete, and the database is sound."""
    choose = random.Random(kills)
    for _ in range(kills):
        daemon.start()
        began, end = time.monotonic(), choose.uniform(0, 0.3)
        while time.monotonic() - began < end:
            path = sessions.append(f"s{choose.randrange(3)}", *(choose.randrange(10**9) for _ in range(5)))
            if choose.random() < 0.02:
                rotate(path)
            daemon.scalar("SELECT count(*) FROM streams")
        daemon.kill()
    daemon.start()
    sessions.arrive()
    assert daemon.scalar("PRAGMA integrity_check") == "ok"
