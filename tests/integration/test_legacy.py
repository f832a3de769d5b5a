"""Databases that the forerunners made are upgraded in place, once, and nothing in them is lost or shown twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging import import_all
from codex.logging.errors import DatabaseError
from codex.logging.purge import Wish, purge
from codex.logging.rows import Selection, read_rows
from codex.logging.store import connection, legacy
from codex.logging.store.sqlite import Store
from tests.commands import succeed

EVENTS = (
    "CREATE TABLE session_events (session_id TEXT NOT NULL, ts REAL, role TEXT, message TEXT, seq INTEGER, meta TEXT)"
)
UNIQUE = "CREATE UNIQUE INDEX session_events_session_seq_idx ON session_events (session_id, seq)"
MARKS = "CREATE TABLE session_ingest_watermark (session_id TEXT PRIMARY KEY, seq INTEGER NOT NULL)"
ACTIONS = """
CREATE TABLE codex_actions (
    id INTEGER PRIMARY KEY, session_id TEXT, ts TEXT, action TEXT, statement TEXT, metadata TEXT)"""
LOG = "CREATE TABLE codex_log (session_id TEXT, event TEXT, summary TEXT, ts TEXT)"
SHOWN = "SELECT seq, part, ts, role, message, meta FROM session_events WHERE session_id = 's' ORDER BY seq, part"


def sql(database: Path, *statements: str, rows: Iterable[tuple[object, ...]] = ()) -> list[tuple[object, ...]]:
    """Run statements by the standard library's SQLite; the last one once for each of the rows; its result."""
    with closing(sqlite3.connect(database)) as opened, opened:
        *first, last = statements
        for statement in first:
            opened.execute(statement)
        rows = list(rows)
        return opened.executemany(last, rows).fetchall() if rows else opened.execute(last).fetchall()


def upgrade(database: Path) -> None:
    """Open it once as every writer does."""
    Store(str(database)).close()


def everything(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Each table's and view's rows, and the schema."""
    names = [name for (name,) in sql(database, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
    return {"": sql(database, "SELECT * FROM sqlite_schema")} | {
        str(name): sql(database, f'SELECT * FROM "{name}"') for name in names
    }


def write(log_dir: Path, *records: tuple[float, str, str]) -> None:
    """Append (ts, role, message) lines to session s."""
    with (log_dir / "s.ndjson").open("a") as log:
        log.writelines(
            json.dumps(dict(zip(("ts", "role", "message"), record, strict=True))) + "\n" for record in records
        )


def test_rows_without_seq_and_meta(database: Path) -> None:
    """The oldest tables have neither column: the rows are numbered as they were written, and their meta is {}."""
    columns = "(ts REAL NOT NULL, session_id TEXT NOT NULL, role TEXT NOT NULL, message TEXT NOT NULL)"
    rows = [(2.0, "s", "user", "first"), (9.0, "other", "user", "x"), (1.0, "s", "tool", "second")]
    sql(database, f"CREATE TABLE session_events {columns}", "INSERT INTO session_events VALUES (?, ?, ?, ?)", rows=rows)
    upgrade(database)
    assert sql(database, SHOWN) == [(1, 0, 2.0, "user", "first", "{}"), (2, 0, 1.0, "tool", "second", "{}")]
    assert sql(database, "SELECT ts, session_id, role, message FROM legacy_session_events ORDER BY rowid") == rows


def test_rows_with_some_seqs(database: Path) -> None:
    """Numbers that are there stay; a row without one, or with one that is taken, comes behind them in rowid order."""
    seqs = [None, 7, 2, None, 7]
    rows = [("s", 1.0, "user", f"m{place}", seq, None) for place, seq in enumerate(seqs)]
    sql(database, EVENTS, "INSERT INTO session_events VALUES (?, ?, ?, ?, ?, ?)", rows=rows)
    upgrade(database)
    found = [(seq, message) for seq, _, _, _, message, _ in sql(database, SHOWN)]
    assert found == [(2, "m2"), (7, "m1"), (8, "m0"), (9, "m3"), (10, "m4")]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (1769850000.25, 1769850000.25),
        (1769850000, 1769850000.0),
        ("1769850000.25", 1769850000.25),
        ("2026-01-31T09:00:00Z", 1769850000.0),
        ("2026-01-31T04:00:00.250000-05:00", 1769850000.25),
        ("2026-01-31 09:00:00", 1769850000.0),
        ("2026-01-31T09:00:00+00:00", 1769850000.0),
        ("yesterday", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("kind", ["REAL", "TEXT"])
def test_times_become_epoch_seconds(database: Path, kind: str, written: object, read: float | None) -> None:
    """Whatever the old column's type and text, the view's ts is REAL; the old value stays where it was."""
    create = f"CREATE TABLE session_events (session_id TEXT, ts {kind}, role TEXT, message TEXT)"
    sql(database, create, "INSERT INTO session_events VALUES (?, ?, ?, ?)", rows=[("s", written, "user", "m")])
    before = sql(database, "SELECT ts, typeof(ts) FROM session_events")
    upgrade(database)
    assert sql(database, "SELECT ts, typeof(ts) FROM session_events") == [(read, "null" if read is None else "real")]
    assert sql(database, "SELECT ts, typeof(ts) FROM legacy_session_events") == before


def test_imported_rows_are_not_doubled(database: Path, log_dir: Path) -> None:
    """Rows that the old importer made of NDJSON lines leave the view when those lines come."""
    records = [(1769850000.5, "user", "one"), (1769850001.0, "assistant", "two"), (1769850001.0, "user", "three")]
    write(log_dir, *records)
    with (log_dir / "s.ndjson").open("a") as log:
        log.write('{"role":"user","message":"no time"}\n{"type":"session_end","ts":"2026-01-31T09:00:09Z"}\n')
    rows = [("s", *record, seq, None) for seq, record in enumerate(records, 1)]
    rows += [("s", None, "user", "no time", 4, None), ("s", 1769850009.0, "system", "session_end", 5, None)]
    sql(database, EVENTS, UNIQUE, MARKS, "INSERT INTO session_ingest_watermark VALUES ('s', 5)")
    sql(database, "INSERT INTO session_events VALUES (?, ?, ?, ?, ?, ?)", rows=rows)
    upgrade(database)
    assert [row[4] for row in sql(database, SHOWN)] == ["one", "two", "three", "no time", "session_end"]
    assert sql(database, "SELECT session_id, seq, generation FROM session_ingest_watermark") == [("s", 5, None)]
    assert import_all(log_dir, database) == {"s": 5}
    assert [(row[0], row[1], row[4]) for row in sql(database, SHOWN)] == [
        (1, 0, "one"), (2, 0, "two"), (3, 0, "three"), (4, 0, "no time"), (5, 0, "session_end"),
    ]  # fmt: skip
    assert sql(database, "SELECT session_id, seq, generation FROM session_ingest_watermark") == [("s", 5, 1)]
    assert sql(database, "SELECT count(*) FROM legacy_session_events") == [(5,)]


def test_rows_that_only_sqlite_has_stay_in_view(database: Path, log_dir: Path) -> None:
    """Messages that never stood in NDJSON are shown once, at their place in time, under keys that no line has."""
    lines = [(100.0, "system", "session_start"), (105.5, "user", "both"), (110.0, "system", "session_end")]
    both = [(100.0004, "system", "session_start"), (105.0, "user", "both"), (105.5, "user", "both")]
    only = [(99.0, "INFO", "before"), (102.0, "user", "hello"), (103.0, "assistant", "hi"), (104.0, "user", "both")]
    only += [(105.5, "tool", "both"), (110.0, "WARN", "last"), (111.0, "WARN", "after")]
    rows = [("s", *row, None, None) for row in only + both]
    sql(database, EVENTS, UNIQUE, "INSERT INTO session_events VALUES (?, ?, ?, ?, ?, ?)", rows=rows)
    write(log_dir, *lines[:1])
    import_all(log_dir, database)
    write(log_dir, *lines[1:])
    import_all(log_dir, database)
    shown = sql(database, SHOWN)
    assert [(seq, min(int(str(part)), 256), ts, role) for seq, part, ts, role, _, _ in shown] == [
        (0, 256, 99.0, "INFO"),
        (1, 0, 100.0, "system"),
        (1, 256, 102.0, "user"),
        (1, 256, 103.0, "assistant"),
        (1, 256, 104.0, "user"),
        (2, 0, 105.5, "user"),
        (2, 256, 105.5, "tool"),
        (3, 0, 110.0, "system"),
        (3, 256, 110.0, "WARN"),
        (3, 256, 111.0, "WARN"),
    ]
    assert len({(seq, part) for seq, part, *_ in shown}) == len(shown)
    assert sql(database, "SELECT count(*) FROM legacy_session_events") == [(len(rows),)]


def test_many_old_rows_cost_little(database: Path, log_dir: Path) -> None:
    """A session of 10,000 old rows meets as many lines in about the time that the lines take alone."""
    rows = [("s", 1e9 + place, "user", f"m{place}" if place % 2 else "same", None, None) for place in range(10_000)]
    sql(database, EVENTS, "INSERT INTO session_events VALUES (?, ?, ?, ?, ?, ?)", rows=rows)
    write(log_dir, *((1e9 + place, "user", f"m{place}") for place in range(10_000)))
    began = time.perf_counter()
    import_all(log_dir, database)
    assert time.perf_counter() - began < 5
    assert sql(database, "SELECT count(*) FROM session_events") == [(15_000,)]


def test_actions_starts_and_ends(database: Path, log_dir: Path) -> None:
    """The old rows stand beside the new ones, doubled starts and ends as they were, their times in ISO 8601."""
    actions = [(1, "s", "2026-01-31 09:00:00", "generate", "a script", '{"n":1}'), (2, "s", "when?", "run", "it", "")]
    log = [("s", event, summary, "2026-01-31T09:00:01.500000+00:00") for event, summary in (
        ("start", ""), ("start", ""), ("end", "done"), ("end", None),
    )]  # fmt: skip
    sql(database, ACTIONS, "INSERT INTO codex_actions VALUES (?, ?, ?, ?, ?, ?)", rows=actions)
    sql(database, LOG, "INSERT INTO codex_log VALUES (?, ?, ?, ?)", rows=log)
    (log_dir / "s.ndjson").write_text(
        '{"ts":"2026-02-01T00:00:00Z","type":"session_start","session_id":"s"}\n'
        '{"ts":"2026-02-01T00:00:01Z","type":"action","session_id":"s","action":"new","statement":"y"}\n'
    )
    import_all(log_dir, database)
    assert sql(database, "SELECT id, session_id, ts, action, statement, metadata FROM codex_actions WHERE id < 9") == [
        (1, "s", "2026-01-31T09:00:00.000Z", "generate", "a script", '{"n":1}'),
        (2, "s", "when?", "run", "it", ""),
    ]
    assert sql(database, "SELECT ts, action, statement FROM codex_actions WHERE id > 9") == [
        ("2026-02-01T00:00:01.000Z", "new", "y")
    ]
    ends = [("start", ""), ("start", ""), ("end", "done"), ("end", None)]
    assert sql(database, "SELECT event, summary, ts FROM codex_log ORDER BY ts, rowid") == [
        *((event, summary, "2026-01-31T09:00:01.500Z") for event, summary in ends),
        ("start", None, "2026-02-01T00:00:00.000Z"),
    ]
    assert sql(database, "SELECT * FROM session_ingest_watermark WHERE session_id <> 's'") == []


def test_log_left_behind_is_upgraded_too(database: Path, tmp_path: Path) -> None:
    """What the old program committed to its write-ahead log, and never moved into the file, is there."""
    with closing(sqlite3.connect(tmp_path / "open.db")) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.execute("PRAGMA wal_autocheckpoint = 0")
        old.execute(EVENTS)
        old.execute("INSERT INTO session_events VALUES ('s', 1, 'user', 'in the log', NULL, NULL)")
        old.commit()
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"open.db{suffix}", f"{database}{suffix}")
    assert database.stat().st_size < Path(f"{database}-wal").stat().st_size
    upgrade(database)
    assert [row[4] for row in sql(database, SHOWN)] == ["in the log"]


def old_database(path: Path) -> None:
    """One of each table, with a few hundred rows."""
    rows = [("s", 1e9 + place, "user", "m" * 50, None, None) for place in range(300)]
    sql(path, EVENTS, UNIQUE, MARKS, "INSERT INTO session_events VALUES (?, ?, ?, ?, ?, ?)", rows=rows)
    sql(path, "INSERT INTO session_ingest_watermark VALUES ('s', 300)")
    sql(path, ACTIONS, "INSERT INTO codex_actions VALUES (1, 's', '2026-01-31 09:00:00', 'a', 'b', '')")
    sql(path, LOG, "INSERT INTO codex_log VALUES ('s', 'start', '', '2026-01-31T09:00:00Z')")
    sql(path, "CREATE TABLE logs (ts REAL, session TEXT, kind TEXT, message TEXT)")
    sql(path, "INSERT INTO logs VALUES (1, 's', 'start', 'begin')")


def test_upgrade_happens_once(database: Path) -> None:
    """A second open changes nothing, and showing the old rows where they are shown doesn't either."""
    old_database(database)
    upgrade(database)
    once = everything(database)
    upgrade(database)
    assert everything(database) == once
    with closing(Store(str(database))) as store:
        legacy.show(store.connection)
    assert everything(database) == once


@pytest.mark.parametrize(
    "nth", [1, 2, 3, 5, 8, 13, 21, 34, 55, 75, 85, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 130))]
)
def test_killed_upgrade_leaves_old_or_new(database: Path, nth: int) -> None:
    """SIGKILL at the nth write of an upgrade leaves a sound database, whole in the old shape or in the new one."""
    old_database(database)
    before = everything(database)
    command = [sys.executable, "-c", "import sys; from codex.logging.store.sqlite import Store; Store(sys.argv[1])"]
    inject = ["strace", "-f", "-o", "/dev/null", "-P", str(database), "-P", f"{database}-wal", "-e", "trace=pwrite64"]
    inject += ["-e", f"inject=pwrite64:signal=KILL:when={nth}"]
    ended = subprocess.run([*inject, *command, str(database)], capture_output=True, timeout=60)
    assert ended.returncode == -9 or nth > 85, ended.stderr
    assert sql(database, "PRAGMA integrity_check") == [("ok",)]
    found = everything(database)
    if "legacy_session_events" not in found:
        assert found == before
        upgrade(database)
        found = everything(database)
    assert [row[:6] for row in found["legacy_session_events"]] == before["session_events"]
    assert found["logs"] == before["logs"]
    assert [len(found[name]) for name in ("session_events", "codex_actions", "codex_log")] == [300, 1, 1]


def test_tables_of_others_are_left_alone(database: Path) -> None:
    """Tables, views and triggers that aren't the forerunners' stay, and a view over session_events sees all rows."""
    old_database(database)
    sql(database, "CREATE TABLE notes (note TEXT)", "INSERT INTO notes VALUES ('mine')")
    sql(database, "CREATE VIEW by_role AS SELECT role, count(*) FROM session_events GROUP BY role")
    sql(database, "CREATE VIEW broken AS SELECT * FROM gone")
    upgrade(database)
    assert sql(database, "SELECT * FROM notes") == [("mine",)]
    assert sql(database, "SELECT * FROM by_role") == [("user", 300)]
    assert sql(database, "SELECT * FROM logs") == [(1.0, "s", "start", "begin")]


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE TABLE streams (x)",
        "CREATE TABLE hook_runs (x)",
        "CREATE TABLE session_events (x)",
        "CREATE TABLE codex_log (session_id TEXT, action TEXT)",
        "CREATE VIEW session_events AS SELECT 1 AS x",
        "CREATE TABLE legacy_codex_log (x)",
        "PRAGMA user_version = 3",
        "PRAGMA application_id = 7",
    ],
)
def test_other_programs_databases_are_refused(database: Path, foreign: str) -> None:
    """A table of ours that isn't ours, or another program's mark: a clear word, and the file stays as it was."""
    sql(database, ACTIONS, foreign)
    before = everything(database)
    with pytest.raises(DatabaseError, match=r"didn't make|nor a forerunner made|another program's") as refusal:
        upgrade(database)
    assert refusal.value.hint == "Choose another --db."
    assert everything(database) == before


def test_readers_show_the_same_before_and_after(database: Path) -> None:
    """A reader doesn't upgrade, and shows of an old database what it shows of the upgraded one."""
    rows = [("s", 1e9 + place, "user", f"m{place}", place + 1, '{"k":1}') for place in range(3)]
    sql(database, EVENTS, "INSERT INTO session_events VALUES (?, ?, ?, ?, ?, ?)", rows=rows)
    schema = sql(database, "SELECT * FROM sqlite_schema")
    before = [row._replace(part=0) for row in read_rows(str(database), Selection("s"))]
    assert sql(database, "SELECT * FROM sqlite_schema") == schema
    upgrade(database)
    assert list(read_rows(str(database), Selection("s"))) == before
    assert [row.message for row in before] == ["m0", "m1", "m2"]


def test_fresh_database_has_nothing_of_it(database: Path) -> None:
    """Only an upgraded file has the old rows' tables, triggers and parts of views."""
    upgrade(database)
    assert sql(database, "SELECT name FROM sqlite_schema WHERE sql LIKE '%legacy%' OR type = 'trigger'") == []


def test_later_step_keeps_the_old_rows(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later step that makes the view anew, with one column more, shows the old rows again."""
    old_database(database)
    upgrade(database)
    step = """
    DROP VIEW session_events;
    CREATE VIEW session_events AS
    SELECT 'x' AS added, s.session_id, e.message FROM streams AS s JOIN generations AS g ON g.stream = s.id
    JOIN events AS e ON e.generation = g.id;"""
    steps = [*connection.migrations(), step]
    monkeypatch.setattr(connection, "migrations", lambda: steps)
    upgrade(database)
    assert sql(database, "SELECT added, session_id, count(*) FROM session_events GROUP BY 1, 2") == [(None, "s", 300)]


def test_purge_takes_the_old_rows_along(database: Path, log_dir: Path) -> None:
    """What a purge removes of a session is removed from the old tables too; other sessions' rows stay."""
    old_database(database)
    sql(database, "INSERT INTO session_events VALUES ('kept', 1, 'user', 'stays', 1, NULL)")
    write(log_dir, (1.0, "user", "line"))
    import_all(log_dir, database)
    (log_dir / "s.ndjson").unlink()
    with closing(Store(str(database))) as store:
        wish = Wish(time.time() + 1, ["s"], sources=False, rows=True, dry_run=False)
        assert [purged.kept_because for purged in purge(store, wish)] == [None]
    assert sql(database, "SELECT session_id, message FROM session_events") == [("kept", "stays")]
    for name in ("session_events", "session_ingest_watermark", "codex_actions", "codex_log"):
        assert sql(database, f"SELECT count(*) FROM legacy_{name} WHERE session_id = 's'") == [(0,)]


def test_rebuild_shows_the_old_rows(database: Path, log_dir: Path) -> None:
    """A database built anew shows the same rows as the upgraded one."""
    old_database(database)
    write(log_dir, (1.0, "user", "line"))
    import_all(log_dir, database)
    before = sql(database, SHOWN)
    succeed(f"codex-ingestd rebuild --db '{database}'", log_dir)
    assert sql(database, SHOWN) == before
