"""Locks of others: dead holders, stopped holders, and two daemons."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from codex.logging.ingest.sources import locate
from codex.logging.store.sqlite import Store
from codex_ingestd.instance import Instance
from codex_ingestd.intake import Intake
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Hold, Sessions

pytestmark = pytest.mark.scenario(15)


def test_a_second_daemon_names_the_first(daemon: Daemon, sessions: Sessions, request: pytest.FixtureRequest) -> None:
    """Two daemons on one database: the second exits with 3 and the first one's pid; the first goes on."""
    daemon.start()
    assert daemon.process is not None
    second = Daemon(daemon.log_dir, daemon.database)
    second.log = daemon.log.with_name("second.log")
    request.addfinalizer(second.kill)
    second.start(ready=False)
    assert second.process is not None
    assert second.process.wait(10) == 3
    assert f"a daemon already serves {daemon.database}: pid {daemon.process.pid}" in second.log.read_text("utf-8")
    sessions.append("s", "one")
    sessions.arrive(5)
    daemon.kill()
    second.start()
    sessions.append("s", "two")
    sessions.arrive(5)
    assert second.stop() == 0


def test_a_look_at_its_state_keeps_no_daemon_from_starting(database: Path) -> None:
    """Who asks for the state holds the lock for a moment: a daemon that starts just then waits for it."""
    entered = threading.Event()

    def enter() -> None:
        with Instance(str(database)):
            entered.set()

    with Path(f"{database}.lock").open("w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        starting = threading.Thread(target=enter)
        starting.start()
        assert not entered.wait(0.1)
    starting.join()
    assert entered.is_set()


def test_a_dead_holder_holds_nothing(daemon: Daemon, sessions: Sessions, hold: Hold) -> None:
    """A process that is killed with a log's lock in hand: its file flows again within two seconds."""
    holder = hold(sessions.append("s", "one"))
    daemon.start()
    wait_for(lambda: daemon.told("can't read now"))
    holder.kill()
    sessions.arrive(2)


def test_a_stopped_holder_holds_up_only_its_file(daemon: Daemon, sessions: Sessions, hold: Hold) -> None:
    """A lock held by a SIGSTOPped process: others flow fast, status tells lag and reason, then all flows."""
    log = sessions.append("held", "one")
    holder = hold(log)
    holder.send_signal(signal.SIGSTOP)
    daemon.start()
    wait_for(lambda: daemon.told("can't read now"))
    held = sessions.written.pop("held")
    for number in range(20):
        os.utime(log)  # its events must not cost the others the wait for its lock
        sessions.append("free", number)
        assert sessions.arrive(5) < 0.5
    streams = {stream["session_id"]: stream for stream in daemon.status()["streams"]}
    assert streams["held"]["lag"] == log.stat().st_size
    assert "locked by another process" in streams["held"]["error"]
    assert (streams["free"]["lag"], streams["free"]["error"]) == (0, None)
    sessions.written["held"] = held
    holder.send_signal(signal.SIGCONT)
    holder.kill()
    sessions.arrive(3)
    wait_for(lambda: not any(stream["error"] for stream in daemon.status()["streams"]))


def test_events_hasten_no_try_for_a_lock(store: Store, sessions: Sessions) -> None:
    """A file whose lock isn't had waits its time, whatever is told of it: each try costs the others the wait."""
    intake = Intake(store, lambda: now)
    now, log = 100.0, sessions.append("held", "one")
    location = locate(str(sessions.log_dir), str(log))
    assert location is not None
    delays = []
    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        intake.mark(location, now)
        for _ in range(8):
            intake.turn()
            intake.mark(location, now)
            delays.append(intake.wait(now) or 0.0)
            now += delays[-1]
    assert delays == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
    now += 1.0
    while intake.is_due():
        intake.turn()
    assert sessions.rows() == {"held": [(1, "one")]}
