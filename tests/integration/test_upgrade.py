"""A new version brings an old database up to date, and keeps it as it was until the new one is proven."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import DatabaseError
from codex.logging.finalize import finalize
from codex.logging.store.connection import APPLICATION_ID, migrations
from codex.logging.store.sqlite import Store
from codex.logging.targets import Finding
from codex_ingestd.housekeeping import Housekeeping
from tests.commands import shell, succeed
from tests.integration.test_housekeeping import Clock, run

LATEST = len(migrations())
OPEN = [sys.executable, "-c", "import sys; from codex.logging.store.sqlite import Store; Store(sys.argv[1])"]


def old_database(path: Path, version: int, rows: int = 1) -> list[tuple[object, ...]]:
    """One that a program of that schema made, with so many streams; they are what comes back."""
    streams = [(f"/logs/{'x' * 200}", f"s{number}.ndjson", f"s{number}", "native") for number in range(rows)]
    with closing(apsw.Connection(str(path))) as old:
        old.pragma("journal_mode", "wal")
        for step in migrations()[:version]:
            old.execute(step)
        old.executemany("INSERT INTO streams (root, path, session_id, format) VALUES (?, ?, ?, ?)", streams)
        old.execute("INSERT INTO meta VALUES ('verified', '{\"after\": 7, \"began\": 1}')")
        old.pragma("application_id", APPLICATION_ID)
        old.pragma("user_version", version)
    return streams  # type: ignore[return-value]


def held(path: Path) -> tuple[int, list[tuple[object, ...]]]:
    """A database's version and streams, when it is sound."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as opened:
        assert opened.pragma("integrity_check") == "ok"
        streams = opened.execute("SELECT root, path, session_id, format FROM streams ORDER BY id").fetchall()
        return opened.pragma("user_version"), streams


@pytest.mark.parametrize("version", range(1, LATEST))
def test_each_old_version_is_brought_up_to_date(database: Path, version: int) -> None:
    """Its rows are in the new database, and in a copy that is as the old one was, for its owner alone."""
    streams = old_database(database, version)
    Store(str(database)).close()
    kept = Path(f"{database}.schema-{version}")
    assert {path.name for path in database.parent.glob("session_logs.db*")} == {database.name, kept.name}
    assert held(database) == (LATEST, streams)
    assert held(kept) == (version, streams)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize("version", range(1, LATEST))
def test_each_old_version_can_be_finalized(database: Path, version: int) -> None:
    """Also where nothing is imported first: it is looked through for secrets, which needs what older ones lack."""
    streams = old_database(database, version)
    done = finalize(str(database), None)
    assert held(Path(done.copy)) == (LATEST, streams)
    assert done.secrets == ()


def test_a_new_or_current_database_leaves_no_copy(database: Path) -> None:
    """Neither the first open nor the second one makes any."""
    for _ in range(2):
        Store(str(database)).close()
    assert [path.name for path in database.parent.glob("session_logs.db*")] == [database.name]


def test_the_copy_goes_when_all_is_verified(database: Path) -> None:
    """A round of verifying that finds nothing lets it go; one before that has found something keeps it."""
    old_database(database, LATEST - 1, rows=0)
    kept = Path(f"{database}.schema-{LATEST - 1}")
    with closing(Store(str(database))) as store:
        finding = Finding("s", 1, "edited", 0, 1, "x")._asdict()
        for findings, stays in (([finding], True), ([], False)):
            store.note("findings", json.dumps(findings))
            clock = Clock()
            run(Housekeeping(store, clock), clock, 20)
            assert kept.exists() is stays
    with closing(Store(str(database))) as store:
        assert store.connection.execute("SELECT * FROM meta WHERE key = 'former'").fetchall() == []


@pytest.mark.parametrize("nth", [1, 5, 40])
def test_a_kill_while_it_is_copied(database: Path, nth: int) -> None:
    """SIGKILL at the nth write to the copy: the database is as it was, and the next open brings it up to date."""
    streams = old_database(database, LATEST - 1, rows=2000)
    kept = Path(f"{database}.schema-{LATEST - 1}")
    inject = ["strace", "-f", "-o", "/dev/null", "-P", f"{kept}.part", "-e", "trace=pwrite64"]
    inject += ["-e", f"inject=pwrite64:signal=KILL:when={nth}"]
    assert subprocess.run([*inject, *OPEN, str(database)], capture_output=True, timeout=60).returncode == -9
    assert held(database) == (LATEST - 1, streams)
    assert not kept.exists()
    Store(str(database)).close()
    assert (held(database), held(kept)) == ((LATEST, streams), (LATEST - 1, streams))
    assert not Path(f"{kept}.part").exists()


def test_two_at_once(database: Path) -> None:
    """Of programs that open it together one upgrades it, and all go on."""
    streams = old_database(database, LATEST - 1, rows=2000)
    opening = [subprocess.Popen([*OPEN, str(database)]) for _ in range(3)]
    assert [process.wait(60) for process in opening] == [0, 0, 0]
    assert held(database) == (LATEST, streams)
    assert held(Path(f"{database}.schema-{LATEST - 1}")) == (LATEST - 1, streams)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_without_room_for_a_copy_nothing_is_done(tmp_path: Path) -> None:
    """It is refused with what to do, the database stays as it was, and no half copy is left."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        database = small / "session_logs.db"
        streams = old_database(database, LATEST - 1, rows=100)
        with pytest.raises(DatabaseError, match="no room to keep a copy") as refusal:
            Store(str(database))
        assert "Make room" in refusal.value.hint
        assert held(database) == (LATEST - 1, streams)
        assert not list(small.glob("*.schema-*"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.parametrize("command", ["codex-ingestd run", "codex-ingestd once", "codex-import-ndjson --all"])
def test_a_newer_database_is_refused(command: str, database: Path, tmp_path: Path) -> None:
    """An older program says so, by exit code 2, which no service manager tries again, and changes nothing."""
    Store(str(database)).close()
    with closing(apsw.Connection(str(database))) as newer:
        newer.pragma("user_version", LATEST + 1)
    before = shutil.copy(database, tmp_path / "before")
    result = shell(f"timeout 20 {command} --db '{database}'", tmp_path)
    assert result.returncode == 2
    assert f"made by a newer version (schema {LATEST + 1}, this program knows {LATEST})" in result.stderr
    assert "hint: Upgrade codex-ingestd" in result.stderr
    assert held(database) == held(Path(before))


def test_a_person_is_told(database: Path, tmp_path: Path) -> None:
    """A command that upgrades the database says so, and where the former one is."""
    old_database(database, 1, rows=0)
    assert f"{database}.schema-1" in shell(f"codex-import-ndjson --all --db '{database}'", tmp_path).stderr
    assert succeed(f"codex-import-ndjson --all --db '{database}' 2>&1", tmp_path).count("schema") == 0
