"""Health tells the truth: within 10 s of any stall it says what stands still, and once that is over all is well."""

from __future__ import annotations

import signal
import sys

from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Hold, Sessions

# A hook that is stuck until its file is removed.
STUCK = f"{sys.executable} -c 'import os, sys, time\nwhile os.path.exists(sys.argv[1]): time.sleep(0.05)' "


def test_a_daemon_that_is_frozen_or_dead(daemon: Daemon, sessions: Sessions) -> None:
    """Neither can say so itself: its silence does, and the lock that nobody holds."""
    daemon.start()
    daemon.wait_until_well()
    daemon.freeze()
    daemon.wait_until_ill("has given no sign of life for")
    daemon.send(signal.SIGCONT)
    daemon.wait_until_well()
    daemon.kill()
    assert daemon.reasons() == "no daemon serves this database: start `codex-ingestd run`"


def test_a_watcher_that_hears_nothing(daemon: Daemon, sessions: Sessions) -> None:
    """The folder that it watches isn't the root any more: it is silent, until it is built anew."""
    daemon.start()
    daemon.wait_until_well()
    sessions.log_dir.rename(sessions.log_dir.with_name("away"))
    sessions.log_dir.mkdir()
    daemon.wait_until_ill("the watcher of changes went silent")
    daemon.wait_until_well()


def test_a_file_and_a_hook_that_do_not_go_on(daemon: Daemon, sessions: Sessions, hold: Hold) -> None:
    """A lag that doesn't fall, for a lock that is held, and a hook that is stuck: each is named, until it goes on."""
    stuck = daemon.database.with_name("stuck")
    stuck.touch()
    daemon.start("--hook", f"{STUCK}{stuck}")
    daemon.wait_until_well()
    holder = hold(sessions.log_dir / "held.ndjson")
    sessions.append("held", "one")
    with (sessions.log_dir / "s.ndjson").open("ab") as log:
        log.write(b'{"type":"session_end","session_id":"s"}\n')
    wait_for(lambda: "held.ndjson is locked" in (why := daemon.reasons()) and "is at work on s (for" in why, 60)
    holder.kill()
    wait_for(lambda: "can't read" not in (why := daemon.reasons()) and "is at work on s" in why, 60)
    stuck.unlink()
    daemon.wait_until_well()
    sessions.written["s"] = ["session_end"]
    sessions.arrive()
