"""`python -m codex.logging.purge_sessions`: what is old goes, and only what is safe elsewhere or wanted gone."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging import import_all
from tests.commands import shell, succeed
from tests.daemon import Daemon

PURGE = "python -m codex.logging.purge_sessions"
DAY = 86400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three ingested sessions: `old` and `edited`, untouched for 40 days, and `new`."""
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    for name in ("old", "edited", "new"):
        (sessions / f"{name}.ndjson").write_text(f'{{"role":"user","message":"the secret of {name}"}}\n')
    succeed("codex-import-ndjson --all", tmp_path)
    age(tmp_path, "old", "edited")
    return tmp_path


def database(folder: Path) -> Path:
    """The database in its default place."""
    return folder / ".codex" / "session_logs.db"


def query(folder: Path, text: str) -> list[tuple[object, ...]]:
    """Rows by the standard library's SQLite."""
    with closing(sqlite3.connect(database(folder))) as connection, connection:
        return connection.execute(text).fetchall()


def age(folder: Path, *names: str) -> None:
    """Make sessions 40 days old, their files and their last commits."""
    moment = time.time() - 40 * DAY
    for name in names:
        os.utime(folder / ".codex" / "sessions" / f"{name}.ndjson", (moment, moment))
        stream = f"SELECT id FROM streams WHERE session_id = '{name}'"
        query(folder, f"UPDATE generations SET committed_at = {moment} WHERE stream IN ({stream})")


def files(folder: Path) -> list[str]:
    """The names of the log files that are there."""
    return sorted(path.stem for path in (folder / ".codex" / "sessions").glob("*.ndjson"))


def test_old_sessions_go(folder: Path) -> None:
    """Files and rows of sessions at rest for that long go, 30 days where nothing is said; tombstones stay."""
    told = succeed(PURGE, folder)
    assert told.splitlines() == [
        "edited: gone: 1 file and 49 bytes of rows",
        "old: gone: 1 file and 46 bytes of rows",
    ]
    assert files(folder) == ["new"]
    assert query(folder, "SELECT session_id FROM session_events") == [("new",)]
    assert query(folder, "SELECT session_id FROM tombstones ORDER BY 1") == [("edited",), ("old",)]
    assert succeed("codex-ingestd verify", folder)
    assert b"secret of old" not in b"".join(path.read_bytes() for path in database(folder).parent.glob("*.db*"))
    assert succeed(PURGE, folder) == ""


def test_meta_files_go_along(folder: Path) -> None:
    """What tells of a session's starts goes with its log; one that was written lately keeps the session."""
    sessions = folder / ".codex" / "sessions"
    for name in ("old", "edited"):
        (sessions / f"{name}.meta").write_text(f"2026-01-01T00:00:00Z session_start {name}\n")
    os.utime(sessions / "old.meta", (1, 1))
    result = shell(PURGE, folder)
    assert result.stdout.splitlines() == [
        f"edited: kept: {sessions}/edited.meta was written lately",
        "old: gone: 2 files and 46 bytes of rows",
    ]
    assert sorted(path.name for path in sessions.iterdir()) == ["edited.meta", "edited.ndjson", "new.ndjson"]


def test_files_that_a_daemon_watches_under_another_name_are_known(folder: Path) -> None:
    """What was ingested from a folder above is not taken for a file that nobody ingested."""
    database(folder).unlink()
    succeed("codex-ingestd once --watch .codex", folder)
    edited = folder / ".codex" / "sessions" / "edited.ndjson"
    edited.write_bytes(edited.read_bytes().replace(b"secret", b"public"))
    age(folder, "edited")
    told = shell(f"{PURGE} --days 39", folder).stdout.splitlines()
    assert [line.split(":")[:3] for line in told] == [["edited", " kept", " it doesn't verify"]]


def test_dry_run_removes_nothing(folder: Path) -> None:
    """--dry-run says the same, and does nothing; --days counts."""
    assert "old: would go: 1 file and 46 bytes of rows\n" in succeed(f"{PURGE} --days 39 --dry-run", folder)
    assert succeed(f"{PURGE} --days 41 --dry-run", folder) == ""
    assert files(folder) == ["edited", "new", "old"]
    assert query(folder, "SELECT count(*) FROM session_events") == [(3,)]


def test_what_was_not_ingested_stays(folder: Path) -> None:
    """A file with lines that no row holds, or none of whose lines were ever ingested, stays: exit code 1."""
    sessions = folder / ".codex" / "sessions"
    with (sessions / "old.ndjson").open("a") as log:
        log.write('{"message":"more"}\n')
    (sessions / "unknown.ndjson").write_text('{"message":"x"}\n')
    moment = time.time() - 40 * DAY
    for name in ("old", "unknown"):
        os.utime(sessions / f"{name}.ndjson", (moment, moment))
    result = shell(PURGE, folder)
    assert result.returncode == 1
    assert f"old: kept: {sessions}/old.ndjson is not wholly ingested\n" in result.stdout
    assert f"unknown: kept: {sessions}/unknown.ndjson was never ingested: run codex-import" in result.stdout
    assert files(folder) == ["new", "old", "unknown"]


def test_what_does_not_verify_stays(folder: Path) -> None:
    """A session whose file was changed after it was ingested stays."""
    path = folder / ".codex" / "sessions" / "edited.ndjson"
    path.write_bytes(path.read_bytes().replace(b"secret", b"public"))
    age(folder, "edited")
    result = shell(PURGE, folder)
    assert result.returncode == 1
    assert "edited: kept: it doesn't verify: " in result.stdout
    assert files(folder) == ["edited", "new"]


def test_beside_a_daemon(folder: Path) -> None:
    """It works beside a running daemon, which goes on ingesting what is left."""
    sessions = folder / ".codex" / "sessions"
    daemon = Daemon(sessions, database(folder))
    try:
        daemon.start()
        assert "old: gone" in succeed(PURGE, folder)
        with (sessions / "new.ndjson").open("a") as log:
            log.write('{"message":"more"}\n')
        assert [row.message for row in daemon.wait_for_rows(2)] == ["the secret of new", "more"]
        assert daemon.stop() == 0
    finally:
        daemon.kill()


@pytest.mark.parametrize("command", [PURGE, "codex-ingestd purge --days 30 --sources --rows"])
def test_rows_of_a_forerunner_go_too(tmp_path: Path, command: str) -> None:
    """Sessions of which an upgraded database has old rows alone go when the last of them is old, by either command."""
    path = database(tmp_path)
    path.parent.mkdir()
    now = time.time()
    rows = [("stays", now - 40 * DAY, "x"), ("stays", now - DAY, "y"), ("no time", None, "z")]
    for number in range(2500):  # enough for the upgrade to leave half empty pages
        rows += [("gone", now - 40 * DAY, f"an old secret {number}"), ("stays", now - 40 * DAY, "x")]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE session_events (session_id TEXT, ts REAL, role TEXT, message TEXT)")
        connection.executemany("INSERT INTO session_events VALUES (?, ?, 'user', ?)", rows)
        connection.execute("CREATE TABLE codex_log (session_id TEXT, event TEXT, summary TEXT, ts TEXT)")
        connection.execute("INSERT INTO codex_log VALUES ('only logged', 'start', '', '2020-01-01T00:00:00+00:00')")
    import_all(tmp_path / ".codex" / "sessions", path)
    expected = ["gone: {}: 2500 rows of a forerunner", "only logged: {}: 1 row of a forerunner"]
    assert succeed(f"{command} --dry-run", tmp_path).splitlines()[:2] == [line.format("would go") for line in expected]
    assert succeed(f"{command}", tmp_path).splitlines()[:2] == [line.format("gone") for line in expected]
    assert query(tmp_path, "SELECT DISTINCT session_id, message FROM session_events ORDER BY 2") == [
        ("stays", "x"),
        ("stays", "y"),
        ("no time", "z"),
    ]
    assert query(tmp_path, "SELECT * FROM codex_log") == []
    assert b"an old secret" not in b"".join(file.read_bytes() for file in path.parent.glob("*.db*"))


def test_refusals(folder: Path) -> None:
    """No database, a number that is none, and TEST_MODE are each 2, and nothing is made or removed."""
    assert shell(f"{PURGE} --db nowhere.db", folder).returncode == 2
    assert shell(f"{PURGE} --days soon", folder).returncode == 2
    assert shell(PURGE, folder, {"TEST_MODE": "1"}).returncode == 2
    assert not (folder / "nowhere.db").exists()
    assert files(folder) == ["edited", "new", "old"]
    assert f"{PURGE} --days 90" in succeed(f"{PURGE} --help", folder)
