"""Folders that come, go, change places and are not to be entered."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codex.logging import append_ndjson
from tests.commands import UNPRIVILEGED, shell
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions

pytestmark = pytest.mark.scenario(17)
CHURN = """
import os, random, shutil, sys
root, choose = sys.argv[1], random.Random(sys.argv[2])
while True:
    name, other, sub = (f"{root}/{choose.choice('abcd')}", f"{root}/{choose.choice('abcd')}", choose.choice("xyz"))
    try:
        match choose.randrange(4):
            case 0 | 1: os.makedirs(f"{name}/{sub}/deep", exist_ok=True)
            case 2: os.rename(choose.choice([name, f"{name}/{sub}"]), choose.choice([other, f"{other}/{sub}"]))
            case 3: shutil.rmtree(name, ignore_errors=True)
    except OSError:
        pass
"""


@contextmanager
def churn(folder: Path) -> Iterator[None]:
    """Folders are made, renamed and removed all the time, by two processes."""
    command = [sys.executable, "-c", CHURN, str(folder)]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(2)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.scenario(9)
@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.long)])
def test_an_append_arrives_after_churn(daemon: Daemon, sessions: Sessions, seconds: float) -> None:
    """mkdir, rename and rmtree without end kill watchdog's reader in silence; what is appended then arrives."""
    daemon.start()
    with churn(sessions.log_dir):
        began = time.monotonic()
        wait_for(lambda: daemon.told("a thread died"), 60)
        daemon.wait_until_ill("the watcher of changes went silent")
        wait_for(lambda: time.monotonic() - began > seconds, seconds + 1)
    sessions.append("after", "the churn")
    sessions.arrive(6)
    if seconds:
        wait_for(lambda: daemon.status()["reason"] == "the watcher died 3 times within 60 s")
    sessions.append("after", "and later")
    sessions.arrive(6)
    daemon.wait_until_well()


def test_a_missing_root_is_made(daemon: Daemon, sessions: Sessions) -> None:
    """The folder is not there at the start: it is made, and watched."""
    sessions.log_dir.rmdir()
    daemon.start()
    sessions.append("s", "one")
    sessions.arrive(2)


def test_a_root_deleted_and_made_again(daemon: Daemon, sessions: Sessions) -> None:
    """The folder goes with all that is in it, and comes back: old rows stay, new lines arrive."""
    daemon.start()
    sessions.append("old", "one")
    sessions.arrive()
    shutil.rmtree(sessions.log_dir)
    wait_for(sessions.log_dir.exists, 8, "the folder to be made again")
    sessions.append("new", "two")
    sessions.arrive(8)
    shutil.rmtree(sessions.log_dir)
    sessions.log_dir.mkdir()
    sessions.append("newer", "three")
    sessions.arrive(8)


def test_a_root_renamed_away_and_replaced(daemon: Daemon, sessions: Sessions) -> None:
    """Another folder takes the root's place: what is appended there arrives, and nothing from the one that left."""
    daemon.start()
    log = sessions.append("s", "one")
    sessions.arrive()
    away = sessions.log_dir.rename(sessions.log_dir.with_name("away"))
    sessions.log_dir.mkdir()
    with (away / log.name).open("ab") as file:
        file.write(b'{"message":"unwatched"}\n')
    sessions.append("t", "two")
    sessions.arrive(8)


@pytest.fixture
def mounted(sessions: Sessions) -> Iterator[Path]:
    """The root, from which a file system that is mounted over it is taken off at the end."""
    yield sessions.log_dir
    subprocess.run(["umount", "--lazy", str(sessions.log_dir)], capture_output=True, check=False)


@pytest.mark.long
def test_a_root_on_another_mount(daemon: Daemon, sessions: Sessions, mounted: Path) -> None:
    """A file system is mounted over the root: what is appended in the one on top arrives."""
    daemon.start()
    sessions.append("below", "one")
    sessions.arrive()
    mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mounted)], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("may not mount here")
    sessions.append("on-top", "two")
    sessions.arrive(8)


def test_a_root_that_can_not_be_made_is_waited_for(daemon: Daemon, sessions: Sessions) -> None:
    """Where the folder is missing and may not be made, it says so and polls, and takes it once it is there."""
    parent = sessions.log_dir = daemon.log_dir = sessions.log_dir / "closed" / "root"
    parent.parent.mkdir(mode=0o500)
    daemon.start(under=UNPRIVILEGED.split())
    wait_for(lambda: daemon.told("polling"))
    status = daemon.status()
    assert status["watcher"] == "polling"
    assert "Permission denied" in status["reason"]
    parent.mkdir()
    sessions.append("s", "one")
    sessions.arrive(5)


def test_a_folder_that_may_not_be_read_is_told_of_once(daemon: Daemon, sessions: Sessions) -> None:
    """An unreadable folder: one warning however often it is looked at; the other files arrive."""
    closed = sessions.log_dir / "closed"
    closed.mkdir(mode=0o300)
    daemon.start(under=UNPRIVILEGED.split())
    sessions.append("s", "one")
    sessions.arrive(5)
    assert daemon.stop() == 0
    assert len(daemon.told("skipped", path=str(closed))) == 1


def test_folders_that_may_only_be_read(daemon: Daemon, sessions: Sessions, tmp_path: Path) -> None:
    """No sentinel can be made in the root, no file beside the database: it says so, and goes on."""
    sessions.log_dir.chmod(0o555)
    daemon.start(under=UNPRIVILEGED.split())
    tmp_path.chmod(0o500)
    wait_for(lambda: daemon.told("no pulse can be taken"))
    sessions.append("s", "one")
    sessions.arrive(5)
    assert daemon.status()["watcher"] == "events"
    assert daemon.reasons() == ""


def test_a_root_that_may_not_be_read_is_refused(daemon: Daemon, sessions: Sessions) -> None:
    """A root that can't be listed at the start is bad usage: exit code 2, and the reason."""
    sessions.log_dir.chmod(0o300)
    daemon.start(under=UNPRIVILEGED.split(), ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(10) == 2
    assert "is not readable" in daemon.log.read_text("utf-8")


@pytest.mark.parametrize("command", ["codex-ingestd once --watch", "codex-import-ndjson --all --log-dir"])
def test_a_root_whose_name_is_not_utf8_is_refused(tmp_path: Path, command: str) -> None:
    """Its rows could not say where they are from: exit code 2, the name, and what to do; writers go on there."""
    folder = tmp_path / "odd-\udcff"
    append_ndjson(folder / "s.ndjson", {"message": "one"})
    result = shell(f"{command} '{folder}' --db rows.db", tmp_path)
    assert (result.returncode, "odd-\\udcff is no UTF-8 name" in result.stderr) == (2, True), result.stderr
    assert "hint: " in result.stderr


@pytest.mark.long
def test_a_root_that_may_no_longer_be_read_is_polled(daemon: Daemon, sessions: Sessions) -> None:
    """Where a folder that can't be watched takes the root's place, it says so, and polls until it may be read."""
    daemon.start(under=UNPRIVILEGED.split())
    sessions.log_dir.rename(sessions.log_dir.with_name("away"))
    sessions.log_dir.mkdir(mode=0o300)
    wait_for(lambda: "Permission denied" in daemon.status()["reason"], 10)
    sessions.append("s", "one")
    sessions.log_dir.chmod(0o700)
    sessions.arrive(5)
