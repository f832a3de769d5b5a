"""SIGKILL at any moment, and a database's log that lost its tail: nothing is lost, doubled, or wrong in silence."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import DatabaseError
from codex.logging.ingest.reader import Limits
from tests.commands import ROOT
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions
from tests.importer import Importer, Recorded

pytestmark = pytest.mark.scenario(10)
SMALL = Limits(batch=4096, line=1 << 20)
CUTS = 45


@pytest.mark.parametrize(
    ("kills", "seed"), [*((50, seed) for seed in range(1, 5)), pytest.param(3000, 5, marks=pytest.mark.long)]
)
def test_killed_daemons_lose_and_double_nothing(tmp_path: Path, kills: int, seed: int) -> None:
    """At random and at named points, while five writers append and rotate: crash.py says what is compared."""
    command = [sys.executable, "-m", "tests.faults.crash", "--kills", str(kills), "--seed", str(seed)]
    done = subprocess.run([*command, "--dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"kills {kills} " in done.stdout


def cut(tail: bytes) -> bytes:
    return b""


def zero(tail: bytes) -> bytes:
    return bytes(len(tail))


def garble(tail: bytes) -> bytes:
    return random.Random(1).randbytes(len(tail))


@pytest.fixture
def killed(log_dir: Path, database: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with the database of an importer that was killed, its rows in the log; or in the file as well."""
    folder = database.parent / "killed"
    folder.mkdir()
    with closing(Importer(log_dir, database, limits=SMALL)) as importer:
        connection = importer.store.connection
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        connection.wal_autocheckpoint(0)
        for number in range(100):
            with (log_dir / f"{number % 2}.ndjson").open("a") as log:
                log.writelines(f'{{"message":"{number} {line}"}}\n' for line in range(10))
            importer.take(f"{number % 2}.ndjson")
        if request.param == "checkpointed":
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        for file in database.parent.glob("*.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, folder)
    return folder


def damaged(killed: Path) -> Iterator[Path]:
    """The database with the tail of its log damaged in each way, from ever further on."""
    log = (killed / "session_logs.db-wal").read_bytes()
    for number in range(CUTS):
        place = len(log) * number // CUTS
        folder = killed.parent / str(number)
        shutil.copytree(killed, folder)
        damage = (cut, zero, garble)[number % 3]
        (folder / "session_logs.db-wal").write_bytes(log[:place] + damage(log[place:]))
        yield folder / "session_logs.db"


def messages(log_dir: Path, session: str) -> list[str]:
    return [line.split('"')[3] for line in (log_dir / f"{session}.ndjson").read_text("utf-8").splitlines()]


def taken(log_dir: Path, database: Path) -> bool:
    """Whether an importer can go on with the database; if so, all of it is right."""
    try:
        with closing(Importer(log_dir, database)) as importer:
            importer.sweep()
    except DatabaseError as error:
        if "run `codex-ingestd rebuild`" not in error.hint:
            raise
        return False
    recorded = Recorded(database)
    for session in "01":
        assert [message for _, _, message in recorded.rows(session)] == messages(log_dir, session)
    assert recorded.findings() == []
    with closing(apsw.Connection(str(database))) as connection:
        assert connection.pragma("integrity_check") == "ok"
    return True


@pytest.mark.parametrize("killed", ["logged"], indirect=True)
def test_a_log_that_lost_its_tail_is_made_good(log_dir: Path, killed: Path) -> None:
    """Rows and watermark went together: the lines are taken once more."""
    assert all(taken(log_dir, database) for database in damaged(killed))


@pytest.mark.parametrize("killed", ["checkpointed"], indirect=True)
def test_a_log_that_lost_what_the_file_has_is_made_good_or_refused(log_dir: Path, killed: Path) -> None:
    """Old pages over new ones, which no crash leaves behind: where they don't fit, it says so, and what to do."""
    assert {taken(log_dir, database) for database in damaged(killed)} == {True, False}


@pytest.mark.parametrize("killed", ["checkpointed"], indirect=True)
def test_a_refused_database_is_told_of_and_made_anew(
    log_dir: Path, killed: Path, daemon: Daemon, sessions: Sessions
) -> None:
    """The daemon names the damage; with the file moved away the next one takes all from the logs."""
    sessions.written = {session: messages(log_dir, session) for session in "01"}
    daemon.database = next(database for database in damaged(killed) if not taken(log_dir, database))
    daemon.start(ready=False)
    wait_for(lambda: b"malformed" in daemon.log.read_bytes())
    assert b"codex-ingestd rebuild" in daemon.log.read_bytes()
    daemon.kill()
    shutil.rmtree(daemon.database.parent)
    daemon.start()
    sessions.arrive()
