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


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_inotify_watches": 0}, "inotify watch limit reached"),
        ({"max_inotify_watches": 3}, "inotify watch limit reached"),
        ({"max_inotify_instances": 0}, "inotify instance limit reached"),
    ],
    ids=["no watch", "too few for the folders", "no instance"],
)
def test_without_watches_it_polls(daemon: Daemon, sessions: Sessions, limits: dict[str, int], reason: str) -> None:
    """At the limit from the start: status says that it polls and why, and all that is appended arrives."""
    under = limited(**limits)
    for number in range(5):
        (sessions.log_dir / f"d{number}").mkdir()
    daemon.start(under=under)
    wait_for(lambda: daemon.status()["watcher"] == "polling", 5)
    assert reason in daemon.status()["reason"]
    for number in range(5):
        sessions.append(f"d{number}/s{number}", "one", "two")
        sessions.append("top", number)
    sessions.arrive(4)
    assert len(daemon.told("polling", level="warning")) == 1


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


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.long)])
def test_few_descriptors_are_enough(daemon: Daemon, sessions: Sessions, count: int) -> None:
    """Many files, all of them written to, with 40 descriptors: nothing is missed, no file is kept open."""
    if not shutil.which("prlimit"):
        pytest.skip("no prlimit here")
    daemon.start(under=["prlimit", "--nofile=40"])
    for number in range(count):
        sessions.append(f"s{number}", "one")
    for number in range(count):
        sessions.append(f"s{number}", "two")
    sessions.arrive(30)
    assert not daemon.told("can't read now")
