"""`python -m codex.logging.query_logs` and `codex-logs`: every flag, ours and forerunners' tables."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands import shell, succeed

QUICK_START = """
import os, sqlite3, time, pathlib
sid = os.getenv("CODEX_SESSION_ID", "dev-session")
db = pathlib.Path(os.getenv("CODEX_LOG_DB_PATH", ".codex/session_logs.db"))
db.parent.mkdir(parents=True, exist_ok=True)
con = sqlite3.connect(db)
cur = con.cursor()
cur.execute("CREATE TABLE IF NOT EXISTS logs(ts REAL, session TEXT, kind TEXT, message TEXT)")
def log(kind, msg):
    cur.execute("INSERT INTO logs(ts, session, kind, message) VALUES(strftime('%s','now'), ?, ?, ?)", (sid, kind, msg))
log("start", "session begin")
log("message", "processing step A")
log("message", "processing step B")
log("end", "session end")
con.commit(); con.close()
"""
RECORDS = [
    {"ts": "2026-01-31T08:59:00Z", "role": "system", "message": "zero"},
    {"ts": "2026-01-31T09:00:00Z", "role": "user", "message": "one", "k": {"n": 1}},
    {"ts": "2026-01-31T04:01:00-05:00", "role": "assistant", "message": "two"},
    {"ts": 1769850120, "role": "user", "message": "three"},
    {"role": "tool", "message": "no time"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one imported session of five records, and another of one."""
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    (sessions / "s1.ndjson").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    (sessions / "s2.ndjson").write_text('{"ts":"2026-01-31T09:00:30Z","role":"user","message":"other"}\n')
    succeed("codex-import-ndjson --all", tmp_path)
    return tmp_path


def messages(folder: Path, flags: str) -> list[str]:
    rows = json.loads(succeed(f"codex-logs --format json {flags}", folder))
    return [row["message"] for row in rows]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--session-id s1", ["zero", "one", "two", "three", "no time"]),
        ("--session-id s1 --role user", ["one", "three"]),
        ("--after 2026-01-31T09:00:00Z --session-id s1", ["one", "two", "three"]),
        ("--after 2026-01-31T10:00:30+01:00 --before 1769850090 --session-id s1", ["two"]),
        ("--before 2026-01-31T09:00:00 --session-id s1", ["zero", "one"]),
        ("--session-id s1 --limit 2", ["zero", "one"]),
        ("--session-id s1 --limit 2 --offset 1", ["one", "two"]),
        ("--session-id s1 --order desc --limit 1", ["no time"]),
        ("--session-id s1 --tail 2", ["three", "no time"]),
        ("--session-id s1 --tail 2 --limit 1 --offset 1 --order desc", ["three", "no time"]),
        ("--after 2026-01-31T09:00:00Z", ["one", "other", "two", "three"]),
        ("--session-id nobody", []),
    ],
)
def test_filters_and_order(folder: Path, flags: str, expected: list[str]) -> None:
    """Times are compared as instants, whatever their offset; --tail overrides limit, offset and order."""
    assert messages(folder, flags) == expected


def test_meta_is_shown_when_asked(folder: Path) -> None:
    """--show-meta adds the record's other keys."""
    rows = json.loads(succeed("codex-logs --session-id s1 --format json --show-meta --role user --limit 1", folder))
    assert rows[0]["meta"] == {"k": {"n": 1}}
    assert '{"k":{"n": 1}}' in succeed("codex-logs --session-id s1 --show-meta", folder)


def test_reader_sees_what_was_just_written(folder: Path) -> None:
    """With no daemon running, a reader imports what is pending first."""
    with (folder / ".codex" / "sessions" / "s1.ndjson").open("a") as log:
        log.write('{"role":"user","message":"fresh"}\n')
    assert messages(folder, "--session-id s1 --tail 1") == ["fresh"]


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ("--after yesterday-ish", "ISO 8601"),
        ("--db nowhere.db", "codex-ingestd run"),
        ("--db empty.db", "codex-import-ndjson"),
    ],
)
def test_bad_usage_exits_with_2(folder: Path, flags: str, hint: str) -> None:
    """A bad date, no database and no table are each 2, with what to do next; no database is made."""
    with closing(sqlite3.connect(folder / "empty.db")) as connection:
        connection.execute("CREATE TABLE other (x)")
    result = shell(f"python -m codex.logging.query_logs {flags}", folder)
    assert result.returncode == 2
    assert hint in result.stderr
    assert not (folder / "nowhere.db").exists()


@pytest.mark.parametrize("first", ["script", "ours"])
def test_quick_start_runs_before_and_after_ours(tmp_path: Path, first: str) -> None:
    """The quick start's script works on the same file, whoever used it first, and its rows are shown."""
    (tmp_path / "quick_start.py").write_text(QUICK_START)
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    (sessions / "dev-session.ndjson").write_text('{"ts":"2026-01-01T00:00:00Z","role":"user","message":"ours"}\n')
    for command in ("python quick_start.py", "codex-ingestd once")[:: 1 if first == "script" else -1]:
        succeed(command, tmp_path)
    shown = messages(tmp_path, "--session-id dev-session --tail 20")
    assert shown == ["ours", "session begin", "processing step A", "processing step B", "session end"]
    succeed("python quick_start.py", tmp_path)
    assert len(messages(tmp_path, "--session-id dev-session")) == 9


def test_plain_sqlite_reads_the_rows(folder: Path) -> None:
    """The standard library's sqlite3 reads the views, watermark included."""
    with closing(sqlite3.connect(folder / ".codex" / "session_logs.db")) as connection:
        rows = connection.execute(
            "SELECT seq, role FROM session_events WHERE session_id = 's1' ORDER BY seq"
        ).fetchall()
        marks = connection.execute("SELECT session_id, seq FROM session_ingest_watermark ORDER BY 1").fetchall()
    assert rows == [(1, "system"), (2, "user"), (3, "assistant"), (4, "user"), (5, "tool")]
    assert marks == [("s1", 5), ("s2", 1)]
