"""Where the kernel gives no more watches: polling takes over, says so, and misses nothing."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions


def limited(**limits: int) -> list[str]:
    """A command that runs another one with these limits of /proc/sys/user, in a user namespace of its own."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    script = "".join(f"echo {value} > /proc/sys/user/{name} && " for name, value in limits.items()) + 'exec "$@"'
    return ["unshare", "-Ur", "sh", "-c", script, "sh"]


@pytest.mark.scenario(19)
@pytest.mark.parametrize(
    ("limits", "folders", "reason"),
    [
        ({"max_inotify_watches": 0}, 5, "inotify watch limit reached"),
        ({"max_inotify_watches": 8}, 10, "inotify watch limit reached"),
        ({"max_inotify_watches": 100}, 110, "inotify watch limit reached"),
        ({"max_inotify_instances": 0}, 5, "inotify instance limit reached"),
    ],
    ids=["no watch", "8", "100", "no instance"],
)
def test_without_watches_it_polls(
    daemon: Daemon, sessions: Sessions, limits: dict[str, int], folders: int, reason: str
) -> None:
    """At the limit from the start: status says that it polls and why, and all that is appended arrives."""
    under = limited(**limits)
    for number in range(folders):
        (sessions.log_dir / f"d{number}").mkdir()
    daemon.start(under=under)
    wait_for(lambda: daemon.status()["watcher"] == "polling", 5)
    assert reason in daemon.status()["reason"]
    for number in range(folders):
        sessions.append(f"d{number}/s{number}", "one", "two")
        sessions.append("top", number)
    sessions.arrive(4)
    assert len(daemon.told("polling", level="warning")) == 1


@pytest.mark.scenario(19)
def test_new_folders_beyond_the_limit_are_seen(daemon: Daemon, sessions: Sessions) -> None:
    """The limit is reached by a folder made later: from events it turns to polling, and misses nothing."""
    daemon.start(under=limited(max_inotify_watches=3))
    sessions.append("top", "one")
    sessions.arrive(2)
    assert daemon.status()["watcher"] == "events"
    for number in range(5):
        (sessions.log_dir / f"d{number}").mkdir()
    wait_for(lambda: daemon.status()["watcher"] == "polling", 5)
    for number in range(5):
        sessions.append(f"d{number}/s{number}", "one", "two")
    sessions.arrive(4)


needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")


@needs_prlimit
@pytest.mark.scenario(11)
@pytest.mark.parametrize(
    ("limit", "count"),
    [(40, 300), *(pytest.param(limit, 5000, marks=pytest.mark.long) for limit in (40, 64, 256))],
)
def test_few_descriptors_are_enough(daemon: Daemon, sessions: Sessions, limit: int, count: int) -> None:
    """Many files, all of them written to, with few descriptors: nothing is missed, no file is kept open."""
    daemon.start(under=["prlimit", f"--nofile={limit}"])
    for number in range(count):
        sessions.append(f"s{number}", "one")
    for number in range(count):
        sessions.append(f"s{number}", "two")
    sessions.arrive(120)
    assert not daemon.told("can't read now")


@needs_prlimit
@pytest.mark.scenario(6)
@pytest.mark.parametrize(("megabytes", "rejects"), [(100, 1), pytest.param(60, 0, marks=pytest.mark.long)])
def test_a_long_line_fits_a_memory_limit(daemon: Daemon, sessions: Sessions, megabytes: int, rejects: int) -> None:
    """A line of 100 MB where the daemon may have 256 MB: it is accounted for, and the next one lands."""
    daemon.start(under=["prlimit", f"--data={256 << 20}"])
    log = sessions.append("s", "before")
    with log.open("ab") as file:
        file.write(b'{"message":"' + b"x" * (megabytes << 20) + b'"}\n')
    sessions.append("s", "after")
    last = "SELECT message FROM session_events ORDER BY seq DESC LIMIT 1"
    wait_for(lambda: daemon.scalar(last) == "after", 60)
    assert daemon.scalar("SELECT count(*) FROM ingest_rejects") == rejects
    assert daemon.scalar("SELECT max(seq) FROM session_events") == 3
    assert not daemon.told("a defect")
