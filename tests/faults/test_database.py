"""The database under fire: full, locked, forbidden, deleted, replaced. No row is lost, and no restart is needed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path

import apsw
import pytest

from codex.logging.ingest.sources import locate
from codex.logging.store import checkpoint
from codex.logging.store.checkpoint import Checkpointer
from codex.logging.store.sqlite import Store
from codex_ingestd.intake import Intake
from tests.commands import UNPRIVILEGED
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions
from tests.importer import Importer

pytestmark = pytest.mark.scenario(16)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the database for itself."""
    with closing(apsw.Connection(str(database))) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_a_locked_database_delays_and_loses_nothing(daemon: Daemon, sessions: Sessions, seconds: float) -> None:
    """Locked by another program for some time: it says so once, and goes on by itself when it is let go."""
    daemon.start()
    sessions.append("s", "before")
    sessions.arrive()
    with locked(daemon.database):
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            sessions.append("s", *range(100))
            daemon.status()
        assert daemon.status()["lag"] > 0
        daemon.wait_until_ill("the database takes nothing: ")
    sessions.arrive(7)
    daemon.wait_until_well()
    assert [record["level"] for record in daemon.told("stalled")] == ["error"]
    assert len(daemon.told("takes rows again")) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.scenario(11)
@pytest.mark.parametrize("megabytes", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_a_deleted_log_is_let_go_of(daemon: Daemon, sessions: Sessions, megabytes: int) -> None:
    """Deleted while the database takes nothing: its space is free, the stall is over when the lock is."""
    daemon.start()
    sessions.append("s", "one")
    sessions.arrive()
    log = sessions.log_dir / "big.ndjson"
    with locked(daemon.database):
        with log.open("wb") as file:
            for _ in range(megabytes):
                file.write(b'{"message":"%s"}\n' % (b"x" * (1 << 20)))
        wait_for(lambda: daemon.told("stalled"))
        log.unlink()
        wait_for(lambda: not is_held(log, daemon))
        daemon.wait_until_ill("the database takes nothing: ")
    daemon.wait_until_well()
    assert not is_held(log, daemon)
    sessions.append("s", "two")
    sessions.arrive()


def is_held(log: Path, daemon: Daemon) -> bool:
    """Whether the daemon has the file open."""
    assert daemon.process is not None
    held = Path(f"/proc/{daemon.process.pid}/fd")
    return any(
        os.path.islink(held / name) and os.readlink(held / name).startswith(str(log)) for name in os.listdir(held)
    )


def test_only_a_commit_ends_a_stall(store: Store, sessions: Sessions) -> None:
    """While nothing can be written, a file that has nothing new doesn't pass for recovery; each try comes later."""
    intake = Intake(store, lambda: now)
    now = 100.0
    old, new = (locate(str(sessions.log_dir), str(sessions.append(name, "one"))) for name in ("old", "new"))
    assert old is not None
    assert new is not None
    intake.mark(old, now)
    intake.turn()
    store.connection.set_busy_timeout(0)
    delays = []
    with locked(Path(store.path)):
        intake.mark(new, now)
        for _ in range(8):
            intake.turn()
            delays.append(intake.wait(now) or 0.0)
            intake.mark(old, 0.0)
            intake.turn()
            assert intake.stalled
            now += delays[-1]
            intake.turn()
            assert intake.stalled
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    intake.turn()
    assert not intake.stalled
    assert sessions.rows() == {"old": [(1, "one")], "new": [(1, "one")]}


def test_a_signal_ends_it_while_the_database_is_locked(daemon: Daemon, sessions: Sessions) -> None:
    """SIGTERM during a stall: it ends within three seconds, with 0; the next start has all."""
    daemon.start()
    with locked(daemon.database):
        sessions.append("s", "one")
        wait_for(lambda: daemon.told("stalled"))
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 0.5, what="the next try to be under way")
        assert daemon.stop() == 0
        assert time.monotonic() - began < 3
    daemon.start()
    sessions.arrive()


@pytest.fixture
def small_disk(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 32 MB, or of the size that the test says, with the daemon's database on it."""
    folder = daemon.database.parent / "disk"
    folder.mkdir()
    size = getattr(request, "param", "32m")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("may not mount here")
    daemon.log = folder.parent / "daemon.log"
    daemon.database = folder / "rows.db"
    yield folder
    daemon.kill()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_delays_and_loses_nothing(daemon: Daemon, sessions: Sessions, small_disk: Path) -> None:
    """No space for the database: it says so, keeps on trying, and takes all once there is room."""
    daemon.start()
    sessions.append("s", "before")
    sessions.arrive()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    for number in range(50):
        sessions.append(f"s{number}", *range(number))
    wait_for(lambda: daemon.told("stalled"))
    assert "full" in str(daemon.told("stalled")[0])
    assert daemon.status()["lag"] > 0
    daemon.wait_until_ill("database or disk is full")
    ballast.unlink()
    sessions.arrive(10)
    daemon.wait_until_well()
    assert daemon.scalar("PRAGMA integrity_check") == "ok"
    assert daemon.stop() == 0


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_the_log_leaves_room_for_the_file(daemon: Daemon, sessions: Sessions, small_disk: Path) -> None:
    """Commits fill a very small disk: the write-ahead log takes no room that its rows will need in the file."""
    choose = random.Random(1)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    daemon.start()
    for line in count(1):
        sessions.append("s", choose.randbytes(400).hex())
        wait_for(lambda line=line: daemon.scalar("SELECT max(seq) FROM events") == line or daemon.told("stalled"))
        if daemon.told("stalled"):
            break
    assert daemon.database.stat().st_size > 200_000
    ballast.unlink()
    for _ in range(100):
        sessions.append("s", choose.randbytes(400).hex())
        daemon.scalar("SELECT 1")
    sessions.arrive(15)
    assert daemon.scalar("PRAGMA integrity_check") == "ok"


@contextmanager
def logged(database: Path, log_dir: Path) -> Iterator[None]:
    """The database has rows that stand in its write-ahead log alone."""
    with closing(Importer(log_dir, database)) as importer:
        importer.store.connection.wal_autocheckpoint(0)
        (log_dir / "logged.ndjson").write_bytes(b'{"message":"x"}\n' * 5000)
        assert importer.take("logged.ndjson") == 5000
        assert database.stat().st_size < 100_000
        yield


@contextmanager
def no_room(database: Path) -> Iterator[None]:
    """Nothing more fits onto the disk."""
    ballast = database.with_name("ballast")
    ballast.write_bytes(bytes(shutil.disk_usage(database.parent).free))
    yield
    ballast.unlink()


@contextmanager
def no_file(database: Path) -> Iterator[None]:
    """The file can't be opened."""
    away = database.rename(database.with_name("away"))
    yield
    away.rename(database)


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
@pytest.mark.parametrize("trouble", [no_room, no_file])
def test_a_checkpoint_that_failed_is_tried_again(
    small_disk: Path,
    log_dir: Path,
    environment: pytest.MonkeyPatch,
    trouble: Callable[[Path], AbstractContextManager[None]],
) -> None:
    """Once the trouble is over the rows are brought into the file, though no commit follows."""
    environment.setattr(checkpoint, "EVERY_SECONDS", 0.01)
    database = small_disk / "rows.db"
    with logged(database, log_dir), ExitStack() as stack:
        checkpointer = Checkpointer(str(database))
        with trouble(database):
            stack.enter_context(checkpointer)
            began = time.monotonic()
            wait_for(lambda: time.monotonic() - began > 0.3, what="some tries")
            assert not database.exists() or database.stat().st_size < 100_000
        wait_for(lambda: database.stat().st_size > 100_000)


def test_a_folder_that_may_not_be_written_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    """A database that can't be made: exit code 1, with the reason and what to do."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    daemon.log, daemon.database = tmp_path / "daemon.log", closed / "rows.db"
    daemon.start(under=UNPRIVILEGED.split(), ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(10) == 1
    assert "Permission denied" in daemon.log.read_text("utf-8")
    assert "hint: " in daemon.log.read_text("utf-8")


def delete(database: Path) -> None:
    database.unlink()


def delete_with_its_log(database: Path) -> None:
    for name in ("", "-wal", "-shm"):
        Path(f"{database}{name}").unlink()


def delete_folder(database: Path) -> None:
    shutil.rmtree(database.parent)


def replace_by_older(database: Path) -> None:
    (database.parent / "older.db").rename(database)


def replace_by_empty(database: Path) -> None:
    (database.parent / "empty.db").touch()
    (database.parent / "empty.db").rename(database)


def wait_until_begun_anew(daemon: Daemon) -> None:
    wait_for(lambda: daemon.told("deleted or replaced"), 5)
    wait_for(daemon.database.exists)
    wait_for(lambda: daemon.scalar("SELECT 1 FROM sqlite_schema WHERE name = 'events'"))


@pytest.mark.parametrize(
    "lose",
    [
        delete,
        replace_by_older,
        *(pytest.param(way, marks=pytest.mark.long) for way in (delete_with_its_log, delete_folder, replace_by_empty)),
    ],
)
def test_a_lost_database_is_begun_anew(
    daemon: Daemon, sessions: Sessions, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    """Deleted or replaced while it runs: within a few seconds all rows are in the file at the path."""
    folder = tmp_path / "db"
    folder.mkdir()
    daemon.log, daemon.database = tmp_path / "daemon.log", folder / "rows.db"
    daemon.start()
    sessions.append("s", *range(100))
    sessions.arrive()
    with closing(apsw.Connection(str(daemon.database))) as source:
        source.execute("VACUUM INTO ?", (str(folder / "older.db"),))
    sessions.append("s", *range(100, 200))
    sessions.append("t", "one")
    sessions.arrive()
    lose(daemon.database)
    wait_until_begun_anew(daemon)
    sessions.append("t", "two")
    sessions.arrive()
    assert daemon.scalar("PRAGMA integrity_check") == "ok"
    status = daemon.status()
    assert daemon.process is not None
    assert (status["pid"], status["watcher"], status["lag"]) == (daemon.process.pid, "events", 0)


def test_a_database_that_moved_keeps_its_rows(daemon: Daemon, sessions: Sessions) -> None:
    """Renamed while it runs: the file under the new name is whole, without the log it left behind."""
    daemon.start()
    sessions.append("s", *range(100))
    sessions.arrive()
    moved = daemon.database.rename(daemon.database.with_name("moved.db"))
    wait_until_begun_anew(daemon)
    sessions.arrive()
    daemon.stop()
    with closing(apsw.Connection(str(moved))) as kept:
        assert kept.execute("SELECT count(*) FROM events").fetchone() == (100,)
        assert kept.pragma("integrity_check") == "ok"
