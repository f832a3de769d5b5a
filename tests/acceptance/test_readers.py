"""The readers under the forerunners' names: SEEDS.md, sections 1 (commands), 2 (reading) and 5 (tables).

The number in a test's name is the section's and the line's there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.events import instant
from codex.logging.rows import Selection, read_rows
from codex.logging.store.sqlite import Store
from tests.commands import UNPRIVILEGED, python, shell, succeed

RECORDS: list[dict[str, object]] = [
    {"ts": "2026-01-31T08:59:00Z", "type": "session_start", "cwd": "/w", "argv": ["x"]},
    {"ts": "2026-01-31T09:00:00Z", "type": "message", "role": "user", "message": "one: Straße"},
    {"ts": "2026-01-31T04:01:00-05:00", "type": "message", "role": "assistant", "message": "two\tand\nmore"},
    {"ts": 1769850120, "type": "message", "role": "WARN", "message": "three"},
    {"ts": "2026-01-31T09:03:00Z", "type": "message", "role": "tool", "message": "four", "level": "Error"},
    {"ts": "2026-01-31T09:04:00Z", "type": "action", "action": "generate", "statement": "a script"},
    {"ts": "2026-01-31T09:05:00Z", "type": "session_end", "exit_code": 0, "duration_s": 360},
]
MESSAGES = ["session_start", "one: Straße", "two\tand\nmore", "three", "four", "action", "session_end"]
READERS = {
    "query_logs": "--session-id s1 --format json",
    "viewer": "--session-id s1 --format json",
    "export": "s1",
    "session_query": "--session-id s1",
}


def lines(session_id: str, records: list[dict[str, object]]) -> str:
    """NDJSON of the records, each with its session's id."""
    return "".join(json.dumps({"session_id": session_id, **record}) + "\n" for record in records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two sessions' files, and no database."""
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    (sessions / "s1.ndjson").write_text(lines("s1", RECORDS))
    (sessions / "s2.ndjson").write_text(lines("s2", RECORDS[1:2]))
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under the folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shown(folder: Path, reader: str, flags: str, env: dict[str, str] | None = None) -> list[str]:
    """The messages that a reader with JSON shows."""
    rows = json.loads(succeed(f"python -m codex.logging.{reader} {flags}", folder, env))
    return [row["message"] for row in rows]


FLAGS = {
    "query_logs": "--db --session-id --role --after --before --format --limit --offset --order --tail --show-meta",
    "viewer": "--session-id --db --format --level --contains --since --until --limit --table",
    "export": "SESSION_ID --format --db",
    "session_query": "--session-id --last --db --desc",
    "conversation_logger": "--event --session-id --role --message --db-path",
    "import_ndjson": "--session --all --log-dir --db",
    "end_to_end": "",
}


@pytest.mark.parametrize("command", FLAGS)
def test_1_help(tmp_path: Path, command: str) -> None:
    """Each command says what it does, names every flag of the seed's, and shows an example; it does nothing else."""
    text = succeed(f"python -W error -m codex.logging.{command} --help", tmp_path)
    assert [flag for flag in FLAGS[command].split() if f"{flag} " not in text and f"{flag}\n" not in text] == []
    assert "Examples:" in text
    assert not list(tmp_path.iterdir())


def test_1_query_logs_has_each_flag(folder: Path) -> None:
    """Every flag of the seed is taken together, and --db names the database."""
    succeed("codex-import-ndjson --all --db here.db", folder)
    flags = "--role user --after 2026-01-01 --before 2027-01-01 --limit 9 --offset 0 --order desc --show-meta"
    assert shown(folder, "query_logs", f"--db here.db --session-id s1 --format json {flags}") == ["one: Straße"]
    assert shown(folder, "query_logs", f"--db here.db --format json --tail 1 --role user {flags}") == ["one: Straße"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", MESSAGES),
        ("--level warn", ["three"]),
        ("--level USER --level error", ["one: Straße", "four"]),
        ("--contains STRASSE", ["one: Straße"]),
        ("--contains O --level system", ["session_start", "action", "session_end"]),
        ("--since 2026-01-31T10:01:00+01:00 --until 1769850120", ["two\tand\nmore", "three"]),
        ("--limit 2", MESSAGES[:2]),
        ("--table codex_actions", ["a script"]),
        ("--table codex_log", [None, None]),
    ],
)
def test_1_viewer(folder: Path, flags: str, expected: list[str]) -> None:
    """Levels are roles or the meta's level; text is found in any case; times are instants; a table can be named."""
    assert shown(folder, "viewer", f"--session-id s1 --format json {flags}") == expected


def test_1_viewer_text_and_usage(folder: Path) -> None:
    """A row is time, level, message; the session is required; a table's name is a plain one."""
    text = succeed("python -m codex.logging.viewer --session-id s2", folder)
    assert text == "2026-01-31T09:00:00.000Z [user] one: Straße\n"
    assert shell("python -m codex.logging.viewer", folder).returncode == 2
    hostile = shell("python -m codex.logging.viewer --session-id s1 --table 'logs; DROP TABLE events'", folder)
    assert (hostile.returncode, "no table's name" in hostile.stderr) == (2, True)


def test_1_viewer_reads_any_table_like_a_log(folder: Path) -> None:
    """Columns of other names are found; texts, numbers and texts of numbers are all times."""
    with closing(sqlite3.connect(folder / "other.db")) as connection:
        connection.execute("CREATE TABLE tale (sid TEXT, timestamp, severity TEXT, msg TEXT, extra BLOB)")
        rows = [
            ("2026-01-31 09:00:00", "INFO", "a"),
            ("1769850120", "ERROR", "c"),
            ("2026-01-31T04:01:00-05:00", "ERROR", "b"),
        ]
        connection.executemany("INSERT INTO tale VALUES ('s', ?, ?, ?, x'ff')", rows)
        connection.commit()
    flags = "--db other.db --session-id s --table tale --format json"
    assert shown(folder, "viewer", flags) == ["a", "b", "c"]
    assert shown(folder, "viewer", f"{flags} --level error --since 2026-01-31T09:01:30Z") == ["c"]


def test_1_export(folder: Path) -> None:
    """JSON is the default and has the seed's keys; text is a line a row; the function gives the same."""
    rows = json.loads(succeed("python -m codex.logging.export s1", folder))
    assert [row["message"] for row in rows] == MESSAGES
    assert {"timestamp", "session_id", "role", "message"} <= rows[1].keys()
    assert (rows[1]["timestamp"], rows[1]["session_id"], rows[1]["role"]) == (1769850000.0, "s1", "user")
    text = succeed("python -m codex.logging.export s2 --format text", folder)
    assert text == "2026-01-31T09:00:00.000Z (user): one: Straße\n"
    code = "from codex.logging.export import export_session; print(export_session('s2', 'text'))"
    assert python(code, folder) == text


def test_1_session_query(folder: Path) -> None:
    """A row is a line of tab-separated columns; --last takes the latest; --desc shows them latest first."""
    table = succeed("python -m codex.logging.session_query --session-id s1", folder).splitlines()
    assert table[0].split("\t") == ["timestamp", "session_id", "role", "message"]
    assert table[3].split("\t") == ["2026-01-31T09:01:00.000Z", "s1", "assistant", r"two\tand\nmore"]
    assert len(table) == 1 + len(MESSAGES)
    last = succeed("python -m codex.logging.session_query --last 2", folder).splitlines()
    assert [line.split("\t")[3] for line in last[1:]] == ["action", "session_end"]
    both = succeed("python -m codex.logging.session_query --session-id s1 --last 2 --desc", folder).splitlines()
    assert [line.split("\t")[3] for line in both[1:]] == ["session_end", "action"]
    assert shell("python -m codex.logging.session_query", folder).returncode == 2
    assert shell("python -m codex.logging.session_query --session-id nobody", folder).returncode == 2


def test_1_conversation_logger(tmp_path: Path) -> None:
    """Start, message and end are appended to the session's file; a bad role or session id is refused, with 2."""
    say = "python -m codex.logging.conversation_logger"
    succeed(
        f"{say} --event start --session-id c && {say} --event message --session-id c --role user --message hi", tmp_path
    )
    succeed(f"{say} --event end", tmp_path, {"CODEX_SESSION_ID": "c"})
    records = [json.loads(line) for line in (tmp_path / ".codex" / "sessions" / "c.ndjson").read_text().splitlines()]
    assert [record["type"] for record in records] == ["session_start", "message", "session_end"]
    assert (records[1]["role"], records[1]["message"]) == ("user", "hi")
    for flags in ("--event message --role boss", "--event start --session-id ../x", "--event nap", ""):
        assert shell(f"{say} {flags}", tmp_path).returncode == 2, flags
    succeed(f"{say} --event message --session-id d --message there --db-path all.ndjson", tmp_path)
    assert json.loads((tmp_path / "all.ndjson").read_text())["role"] == "system"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["all.ndjson", "c.meta", "c.ndjson"]


def test_1_the_example(tmp_path: Path) -> None:
    """A short conversation is recorded and its transcript shown, with no daemon and no database."""
    transcript = succeed("python -m codex.logging.end_to_end", tmp_path).splitlines()
    assert [line.split("] ")[1] for line in transcript] == [
        "system: session_start",
        "user: hello",
        "assistant: hi there",
        "system: session_end",
    ]
    assert not list(tmp_path.rglob("*.db"))


def test_1_tail_overrides_limit_order_and_offset(folder: Path) -> None:
    """--tail N is the latest N rows in ascending order, whatever else is given."""
    flags = "--session-id s1 --format json --tail 2 --limit 1 --offset 1 --order desc"
    assert shown(folder, "query_logs", flags) == MESSAGES[-2:]


@pytest.mark.parametrize(
    "env",
    [
        {"CODEX_LOG_DB_PATH": "mine.db", "CODEX_DB_PATH": "not.db", "GH_COPILOT_WORKSPACE": "nor-this"},
        {"CODEX_DB_PATH": "mine.db", "GH_COPILOT_WORKSPACE": "nor-this"},
        {"GH_COPILOT_WORKSPACE": "."},
        {},
    ],
)
def test_1_db_defaults_to_the_resolved_path(folder: Path, env: dict[str, str]) -> None:
    """Without --db every reader reads the database that the environment names."""
    expected = env.get("CODEX_LOG_DB_PATH") or env.get("CODEX_DB_PATH")
    path = folder / (expected or ("databases/codex_log.db" if env else ".codex/session_logs.db"))
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE logs(ts REAL, session TEXT, kind TEXT, message TEXT)")
        connection.execute("INSERT INTO logs VALUES (1, 's1', 'user', 'only here')")
        connection.commit()
    for reader, flags in READERS.items():
        assert "only here" in succeed(f"python -m codex.logging.{reader} {flags}", folder, env), reader


@pytest.mark.parametrize("reader", READERS)
def test_1_exit_codes(folder: Path, reader: str) -> None:
    """No database, no table and a bad date are 2, each with a hint; no database is made by asking."""
    command = f"python -m codex.logging.{reader} {READERS[reader]}"
    with closing(sqlite3.connect(folder / "empty.db")) as connection:
        connection.execute("CREATE TABLE other (x)")
    for flags in ("--db nowhere.db", "--db empty.db", "--db nowhere.ndjson"):
        result = shell(f"{command} {flags}", folder)
        assert (result.returncode, "hint:" in result.stderr) == (2, True), flags
    dates = {"query_logs": ("--after", "--before"), "viewer": ("--since", "--until")}.get(reader, ())
    for date in dates:
        result = shell(f"{command} {date} 2026-13-01", folder)
        assert (result.returncode, "ISO 8601" in result.stderr) == (2, True), date
    assert not list(folder.glob("nowhere*"))
    (folder / "noise.db").write_bytes(b"no database " * 100)
    assert shell(f"{command} --db noise.db", folder).returncode == 1


def test_1_readers_log_nothing_and_make_no_database(folder: Path) -> None:
    """With a session going on around it, and with no database, a reader leaves the folder as it was."""
    before = tree(folder)
    for reader, flags in READERS.items():
        succeed(f"python -m codex.logging.{reader} {flags}", folder, {"CODEX_SESSION_ID": "s1"})
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-31T09:00:00Z", 1769850000.0),
        ("2026-01-31T04:00:00-05:00", 1769850000.0),
        (" 2026-01-31 10:00:00.5+01:00 ", 1769850000.5),
        ("2026-01-31", 1769817600.0),
        ("20260131", 1769817600.0),
        ("1769850000.25", 1769850000.25),
        ("1769850000000", 1769850000.0),
        ("0", 0.0),
        ("yesterday", None),
        ("2026-02-30", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_1_dates_are_instants(text: str | None, seconds: float | None) -> None:
    """ISO 8601 with any offset (UTC without), or epoch seconds; anything else is none."""
    assert instant(text) == seconds


def test_1_logs_table_is_read_by_every_reader(folder: Path) -> None:
    """Rows of a plain `logs` table stand beside ours."""
    succeed("codex-import-ndjson --all", folder)
    with closing(sqlite3.connect(folder / ".codex" / "session_logs.db")) as connection:
        connection.execute("CREATE TABLE logs(ts REAL, session TEXT, kind TEXT, message TEXT)")
        connection.execute("INSERT INTO logs VALUES (strftime('%s', '2026-01-31 09:00:30'), 's2', 'end', 'by hand')")
        connection.commit()
    expected = ["one: Straße", "by hand"]
    assert shown(folder, "query_logs", "--session-id s2 --format json") == expected
    assert shown(folder, "viewer", "--session-id s2 --format json") == expected
    assert shown(folder, "viewer", "--session-id s2 --format json --table logs") == expected[1:]
    assert shown(folder, "export", "s2") == expected
    assert "by hand" in succeed("python -m codex.logging.session_query --session-id s2", folder)


def test_2_fetch_messages(folder: Path) -> None:
    """A list of ts, role and message, in the order of the lines; nobody's session is empty, even with no database."""
    program = """
    import json
    from codex.logging import fetch_messages
    print(json.dumps([fetch_messages("s2"), fetch_messages("nobody"), fetch_messages("s2", "nowhere.ndjson")]))
    """
    one = {"ts": 1769850000.0, "role": "user", "message": "one: Straße"}
    assert json.loads(python(program, folder)) == [[one], [], []]
    assert not list(folder.rglob("*.db"))


@pytest.mark.parametrize("kept", ["database", "no database", "single log"])
def test_2_a_read_right_after_a_write_sees_it(tmp_path: Path, kept: str) -> None:
    """With no daemon: by the function and by every reader, whether there is a database or only NDJSON."""
    env = {"CODEX_LOG_DB_PATH": "all.ndjson"} if kept == "single log" else {}
    if kept == "database":
        (tmp_path / ".codex" / "sessions").mkdir(parents=True)
        succeed("codex-import-ndjson --all", tmp_path)
    program = """
    from codex.logging import fetch_messages, log_event
    log_event("other", "user", "not asked for")
    log_event("s1", "user", "first")
    assert [row["message"] for row in fetch_messages("s1")] == ["first"]
    log_event("s1", "assistant", "second", meta={"k": 1})
    assert [row["message"] for row in fetch_messages("s1")] == ["first", "second"]
    """
    python(program, tmp_path, env)
    for reader, flags in READERS.items():
        text = succeed(f"python -m codex.logging.{reader} {flags}", tmp_path, env)
        assert ("second" in text, "not asked for" in text) == (True, False), reader
    assert [path.name for path in tmp_path.rglob("*.db")] == (["session_logs.db"] if kept == "database" else [])


def test_3_single_log_tells_sessions_apart(tmp_path: Path) -> None:
    """Each record is of the session that it names, else of the file's; rotated files are read too; so are odd lines."""
    records = [
        {"session_id": "a", "role": "user", "message": "1"},
        {"session_id": "b", "role": "user", "message": "2"},
        {"role": "user", "message": "3"},
        {"session_id": ["no text"], "role": "user", "message": "4"},
        {"session_id": "a", "role": "user", "message": "5 \ud800"},
    ]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "all.ndjson.1").write_text(text[:100] + text[100:])
    (tmp_path / "all.ndjson").write_text('not json\n{"session_id":"a","type":"action","action":"x","statement":"6"}\n')
    log = "--db all.ndjson --format json"
    assert shown(tmp_path, "query_logs", f"{log} --session-id a") == ["1", "5 \ufffd", "action"]
    assert shown(tmp_path, "query_logs", f"{log} --session-id all") == ["3", "4"]
    assert shown(tmp_path, "viewer", f"{log} --session-id a --table codex_actions") == ["6"]
    assert succeed("codex-logs raw a 2 --db all.ndjson", tmp_path) == json.dumps(records[1]) + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.ndjson", "all.ndjson.1"]


def test_5_session_events(tmp_path: Path) -> None:
    """Role and message have their defaults, meta is all other keys; seq is the line's number, on across rotations."""
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    (sessions / "r.ndjson.1").write_text(
        '{"ts":"2026-01-31T09:00:00Z","role":"user","message":"m","k":[1]}\n{"type":"t"}\n'
    )
    (sessions / "r.ndjson").write_text("torn\n{}\n")
    succeed("codex-import-ndjson --all", tmp_path)
    query = "SELECT session_id, seq, ts, role, message, meta FROM session_events ORDER BY seq"
    with closing(sqlite3.connect(tmp_path / ".codex" / "session_logs.db")) as connection:
        assert connection.execute(query).fetchall() == [
            ("r", 1, 1769850000.0, "user", "m", '{"k":[1]}'),
            ("r", 2, None, "system", "t", '{"type":"t"}'),
            ("r", 4, None, "system", "", "{}"),
        ]
        assert connection.execute("SELECT session_id, seq FROM session_ingest_watermark").fetchall() == [("r", 4)]


def test_5_database_of_a_forerunner_is_read_as_it_is(tmp_path: Path) -> None:
    """One that is named by --db stays byte for byte what it was; rows without numbers stand in the order of time."""
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute(
            "CREATE TABLE session_events(ts REAL, session_id TEXT, role TEXT, message TEXT, seq INTEGER)"
        )
        connection.execute(
            "INSERT INTO session_events VALUES (2, 's', 'user', 'second', NULL), (1, 's', 'user', 'first', NULL)"
        )
        connection.commit()
    before = tree(tmp_path)
    for flags in ("--session-id s", ""):
        assert shown(tmp_path, "query_logs", f"--db old.db --format json {flags}") == ["first", "second"]
    assert tree(tmp_path) == before


def test_5_views_of_one_session_are_fast(database: Path, log_dir: Path) -> None:
    """No view scans events of other sessions when it is asked for one."""
    (log_dir / "s1.ndjson").write_text(lines("s1", RECORDS))
    succeed(f"codex-import-ndjson --all --log-dir '{log_dir}' --db '{database}'", log_dir)
    with closing(sqlite3.connect(database)) as connection:
        for view in ("session_events", "codex_actions", "codex_log"):
            plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE session_id = 's1'").fetchall()
            assert "SEARCH e USING INTEGER PRIMARY KEY" in str(plan)
            assert "SCAN" not in str(plan)


def test_reader_shows_what_is_there_when_it_may_not_import(folder: Path) -> None:
    """A database that this user can't write is read as it is, and the reader says what it left out."""
    succeed("codex-import-ndjson --all", folder)
    with (folder / ".codex" / "sessions" / "s2.ndjson").open("a") as log:
        log.write('{"role":"user","message":"too late"}\n')
    database = folder / ".codex" / "session_logs.db"
    for path in (database, database.parent):
        path.chmod(path.stat().st_mode & 0o555)
    result = shell(f"{UNPRIVILEGED} python -m codex.logging.query_logs --session-id s2", folder)
    assert (result.returncode, result.stdout.count("\n"), "not imported" in result.stderr) == (0, 1, True)


def test_test_mode_reads_and_writes_nothing(folder: Path) -> None:
    """With TEST_MODE=1 a reader shows what is imported, and imports nothing."""
    succeed("codex-import-ndjson --all", folder)
    with (folder / ".codex" / "sessions" / "s2.ndjson").open("a") as log:
        log.write('{"role":"user","message":"pending"}\n')
    before = tree(folder)
    assert shown(folder, "query_logs", "--session-id s2 --format json", {"TEST_MODE": "1"}) == ["one: Straße"]
    changed = {name for name, data in tree(folder).items() if data != before.get(name)}
    assert not changed - {".codex/session_logs.db-shm", ".codex/session_logs.db-wal"}


@pytest.mark.parametrize("way", ["a folder above", "a link"])
def test_files_that_a_daemon_watches_under_another_name_are_read_once(folder: Path, way: str) -> None:
    """The reader's import goes on where the daemon's stands, though that one watches from elsewhere."""
    (folder / "link").symlink_to(folder / ".codex" / "sessions")
    succeed(f"codex-ingestd once --watch {'link' if way == 'a link' else '.codex'}", folder)
    with (folder / ".codex" / "sessions" / "s2.ndjson").open("a") as log:
        log.write('{"role":"user","message":"new"}\n')
    assert shown(folder, "query_logs", "--session-id s2 --format json") == ["one: Straße", "new"]
    assert len(shown(folder, "query_logs", "--format json")) == len(MESSAGES) + 2


def test_importer_beside_a_daemon_that_watches_a_folder_above_adds_nothing(folder: Path) -> None:
    """One file is one stream, whatever folder it is looked at from."""
    succeed("codex-ingestd once --watch .codex && codex-import-ndjson --all", folder)
    assert len(list(read_rows(str(folder / ".codex" / "session_logs.db"), Selection()))) == len(MESSAGES) + 1


def test_session_in_a_folder_below_is_caught_up(folder: Path) -> None:
    """A session is found by its file's name wherever it lies under the log folder."""
    below = folder / ".codex" / "sessions" / "2026" / "01"
    below.mkdir(parents=True)
    succeed("codex-import-ndjson --all", folder)
    (below / "deep.ndjson").write_text('{"role":"user","message":"here"}\n')
    assert shown(folder, "query_logs", "--session-id deep --format json") == ["here"]


def test_readers_at_once_import_each_line_once(folder: Path) -> None:
    """Readers that come together upon the same pending lines all show them all, and leave each of them once."""
    succeed("codex-import-ndjson --all", folder)
    with (folder / ".codex" / "sessions" / "s2.ndjson").open("a") as log:
        log.writelines(
            json.dumps({"role": "user", "message": f"{number:04} {'x' * 500}"}) + "\n" for number in range(4000)
        )
    query = [sys.executable, "-m", "codex.logging.query_logs", "--session-id", "s2"]
    readers = [subprocess.Popen(query, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for reader in readers:
        output, errors = reader.communicate(timeout=60)
        assert (reader.returncode, output.count(b"\n"), errors) == (0, 4001, b"")
    assert len(list(read_rows(str(folder / ".codex" / "session_logs.db"), Selection("s2")))) == 4001


def test_slow_reader_holds_up_no_checkpoint(store: Store) -> None:
    """Whoever takes rows slowly leaves the write-ahead log free to be emptied."""
    store.connection.execute("CREATE TABLE logs(ts REAL, session TEXT, kind TEXT, message TEXT)")
    store.connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO logs SELECT i, 's', 'user', printf('%0500d', i) FROM n"
    )
    rows = read_rows(store.path, Selection("s"))
    assert next(rows).ts == 1
    store.note("k", "v")
    store.connection.set_busy_timeout(0)
    try:
        store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        pytest.fail("the reader is in the way")
    assert os.path.getsize(f"{store.path}-wal") == 0
    assert sum(1 for _ in rows) == 4999


def test_closed_pipe_is_no_error(folder: Path) -> None:
    """A reader whose output nobody takes to its end stops in silence."""
    big = {"role": "user", "message": "x" * 1_000_000}
    (folder / ".codex" / "sessions" / "big.ndjson").write_text(lines("big", [big]))
    for command in ("raw big 1", "--session-id big", "--session-id big --format json"):
        with subprocess.Popen(
            [sys.executable, "-m", "codex.logs.cli", *command.split()],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as reader:
            assert reader.stdout is not None
            assert reader.stderr is not None
            assert reader.stdout.read(10)
            reader.stdout.close()
            assert (reader.stderr.read(), reader.wait(30)) == (b"", 0), command


def test_db_of_the_group_is_its_commands_too(folder: Path) -> None:
    """`codex-logs --db X raw …` reads X."""
    succeed("codex-import-ndjson --all --db here.db", folder)
    (folder / ".codex" / "sessions" / "s2.ndjson").write_text("")
    assert succeed("codex-logs --db here.db raw s2 1", folder) == lines("s2", RECORDS[1:2])


def test_errors_lists_what_tells_of_trouble(tmp_path: Path) -> None:
    """Errors, failures and warnings of messages, statements and ends; not the lines that say there were none."""
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    records: list[dict[str, object]] = [
        {"role": "user", "message": "please terrorise the mirror"},
        {"role": "tool", "message": "collecting\nE   ValueError: no words\nmore"},
        {"role": "tool", "message": "12 passed, 0 failed, no errors"},
        {"role": "WARN", "message": "disk is nearly full"},
        {"type": "action", "action": "deploy", "statement": "the upload failed twice"},
        {"type": "action", "action": "deploy", "statement": "done"},
        {"type": "session_end", "exit_code": 1, "error": "KeyError: 'x'", "error_type": "KeyError"},
        {"type": "session_end", "exit_code": 0, "summary": "all is well"},
        {"type": "session_end", "exit_code": 3},
    ]
    (sessions / "e.ndjson").write_text(lines("e", records))
    found = json.loads(succeed("codex-logs errors --json", tmp_path))
    assert [(row["seq"], row["kind"]) for row in found] == [
        (2, "error"),
        (4, "warning"),
        (5, "failure"),
        (7, "error"),
        (9, "failure"),
    ]
    assert found[0]["line"] == "E   ValueError: no words"
    text = succeed("codex-logs errors --session-id e --tail 1", tmp_path)
    assert text == "- [e] 9 failure: session failed with exit code 3\n"


def test_readers_load_what_imports_only_where_something_is_pending(tmp_path: Path) -> None:
    """They start sooner where nothing is; what was appended, rotated or edited is pending, and shown."""
    log = tmp_path / ".codex" / "sessions" / "s.ndjson"
    log.parent.mkdir(parents=True)
    (log.parent / "t.ndjson").write_text('{"message":"other"}\n')
    log.write_text('{"message":"first"}\n')
    succeed("codex-import-ndjson --all", tmp_path)
    program = """
    import sys
    from codex.logging.messages import fetch_messages
    print(*(row["message"] for row in fetch_messages("s")), "codex.logging.ingest.engine" in sys.modules)
    """
    assert python(program, tmp_path) == "first False\n"
    with log.open("a") as file:
        file.write('{"message":"second"}\n')
    assert python(program, tmp_path) == "first second True\n"
    assert python(program, tmp_path) == "first second False\n"
    log.rename(log.with_name("s.ndjson.1"))
    log.write_text('{"message":"third"}\n')
    assert python(program, tmp_path) == "first second third True\n"
    log.write_text('{"message":"THIRD"}\n')
    assert python(program, tmp_path).endswith("THIRD True\n")
