"""The watcher beneath the daemon: silent deaths, lost events, moved files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex_ingestd.watch.marks import EVERYTHING, Marks
from codex_ingestd.watch.watcher import POLLING_SECONDS, PULSE_NAME, Watcher
from tests.daemon import wait_for

pytestmark = pytest.mark.scenario(9)

deadly = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Watched:
    """A running watcher of one folder, whose clock the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marks = Marks()
        self.watcher = Watcher([str(folder)], self.marks)
        self.now = 0.0
        self.watcher.start(self.now)

    def close(self) -> None:
        self.watcher.close()

    def go_on(self) -> None:
        """Let the time pass until the watcher wants to be checked again, and check it."""
        self.now += self.watcher.check(self.now)
        self.watcher.check(self.now)
        assert self.now < 600, "ten minutes without the change that is waited for"

    def kill(self) -> None:
        """Let the thread that reads the events end without a word, as an exception in it does."""
        watch = self.watcher._watch
        assert watch is not None
        wait_for(lambda: watch.echoed, what="the first pulse")
        reader = watch._observer._inotify_fd  # type: ignore[attr-defined]

        def die(event: object) -> None:
            raise KeyError(0)

        reader.handle_event = die
        (self.folder / "last").touch()
        wait_for(lambda: not reader.is_alive())
        assert watch._observer.is_alive(), "watchdog itself would tell"

    def hears(self, name: str) -> bool:
        """Whether an append to the file is told of within a second."""
        path = self.folder / name
        with path.open("ab") as log:
            log.write(b"{}\n")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if str(path) in self.marks.take(0.1):
                return True
        return False


@pytest.fixture
def watched(log_dir: Path) -> Iterator[Watched]:
    with closing(Watched(log_dir)) as running:
        yield running


@deadly
def test_a_silent_death_is_noticed_within_five_seconds(watched: Watched) -> None:
    """When the reader thread ends, the pulse tells by 5 s later; all is looked at, and events come again."""
    watched.kill()
    assert not watched.hears("s.ndjson")
    while not watched.watcher.rebuilds:
        watched.go_on()
    assert watched.now <= 5.0
    assert watched.watcher.state == "events"
    assert EVERYTHING in watched.marks.take(1)
    assert watched.hears("s.ndjson")


@deadly
def test_a_silent_death_is_noticed_where_no_sentinel_can_be_written(log_dir: Path) -> None:
    """In a folder that may only be read the watcher's pulse can't be taken: its thread is asked."""
    (log_dir / PULSE_NAME).mkdir()
    with closing(Watched(log_dir)) as watched:
        watched.kill()
        while not watched.watcher.rebuilds:
            watched.go_on()
        assert watched.now <= 5.0
        assert watched.hears("s.ndjson")


def test_a_living_watcher_is_left_alone(watched: Watched) -> None:
    """Pulse after pulse with its echo: nothing is built anew."""
    for _ in range(5):
        watch = watched.watcher._watch
        assert watch is not None
        wait_for(lambda watch=watch: watch.echoed)
        watched.go_on()
    assert watched.now > 5.0
    assert watched.watcher.rebuilds == 0


@deadly
def test_three_deaths_turn_to_polling_for_a_while(watched: Watched) -> None:
    """After three deaths within a minute it polls, says why, and is told of changes again a minute later."""
    for rebuilds in (1, 2, 3):
        watched.kill()
        while watched.watcher.rebuilds < rebuilds:
            watched.go_on()
    assert (watched.watcher.state, watched.watcher.reason) == ("polling", "the watcher died 3 times within 60 s")
    assert not watched.hears("s.ndjson")
    began = watched.now
    while watched.watcher.state == "polling":
        watched.go_on()
    assert began < watched.now <= began + POLLING_SECONDS + 1
    assert watched.watcher.reason == ""
    assert watched.hears("s.ndjson")


@deadly
@pytest.mark.parametrize("disorder", [False, True])
def test_rebuilding_leaks_nothing(watched: Watched, disorder: bool) -> None:
    """Dead watchers that are replaced give back descriptors and threads, also where watchdog's own end fails."""
    threads, descriptors = Path("/proc/self/task"), Path("/proc/self/fd")

    def held() -> tuple[int, int]:
        return len(os.listdir(threads)), len(os.listdir(descriptors))

    before = held()
    for _ in range(3):
        watched.kill()
        watch = watched.watcher._watch
        assert watch is not None
        if disorder:
            for emitter in watch._observer.emitters:
                emitter._inotify._active_callbacks_by_path.clear()  # type: ignore[attr-defined]
        watched.watcher._rebuild(watched.now, str(watched.folder))
        watched.now += POLLING_SECONDS + 1
    wait_for(lambda: held() <= before, what="the old watchers to end")


def test_a_file_moved_out_holds_nothing_up(watched: Watched, tmp_path: Path) -> None:
    """An append is told of at once, also right after an unrelated file has left the tree."""
    (watched.folder / "other").touch()
    assert watched.hears("s.ndjson")
    began = time.monotonic()
    (watched.folder / "other").rename(tmp_path / "other")
    assert watched.hears("s.ndjson")
    assert time.monotonic() - began < 0.2


def test_an_overflow_is_told(watched: Watched) -> None:
    """When the kernel drops events, everything is marked."""
    watch = watched.watcher._watch
    assert watch is not None
    wait_for(lambda: watch.echoed)
    reader = watch._observer._inotify_fd  # type: ignore[attr-defined]
    reader._lock.acquire()  # the reader stands still, as under load
    try:
        for number in range(10_000):
            os.utime(watched.folder)
            (watched.folder / f"{number % 2}").touch()
    finally:
        reader._lock.release()
    wait_for(lambda: EVERYTHING in watched.marks.take(1))
    assert watched.hears("s.ndjson")


def test_the_sentinel_is_removed(log_dir: Path) -> None:
    """After the end no file of the watcher is in the folder."""
    with closing(Watched(log_dir)):
        assert (log_dir / PULSE_NAME).exists()
    assert list(log_dir.iterdir()) == []


def test_a_hostile_sentinel_is_not_followed(log_dir: Path, tmp_path: Path) -> None:
    """A link or a named pipe that stands in the sentinel's place is neither written nor waited for."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (log_dir / PULSE_NAME).symlink_to(victim)
    with closing(Watched(log_dir)) as watched:
        assert watched.watcher.state == "events"
        assert watched.hears("s.ndjson")
    assert victim.read_bytes() == b"untouched"
    os.mkfifo(log_dir / PULSE_NAME)
    with closing(Watched(log_dir)) as watched:
        assert watched.hears("t.ndjson")


def test_a_replaced_folder_is_noticed_without_a_pulse(watched: Watched) -> None:
    """Where no sentinel can be written, a watcher is left alone until its folder's name leads to another folder."""
    watch = watched.watcher._watch
    assert watch is not None
    wait_for(lambda: watch.echoed, what="the first pulse")
    (watched.folder / PULSE_NAME).unlink()
    (watched.folder / PULSE_NAME).mkdir()
    for _ in range(5):
        watched.go_on()
    assert watched.watcher.rebuilds == 0
    watched.folder.rename(watched.folder.with_name("aside"))
    (watched.folder / PULSE_NAME).mkdir(parents=True)
    while not watched.watcher.rebuilds:
        watched.go_on()
    assert watched.watcher.state == "events"
    assert watched.hears("s.ndjson")
