"""SEEDS.md line by line: which test holds each of them, and those that no other file has.

Commands run as processes and functions in interpreters of their own. The number in a test's name is the section's and
the line's there, as in LINES.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance import test_actions, test_query_logs
from tests.commands import ROOT, program, python, shell, succeed

SHARED = ROOT.parent / "shared"
SURFACE = SHARED / "SEEDS.md"
SESSIONS = Path(".codex") / "sessions"
# How a line of the surface begins, and the test that drives it, of this folder where no other is named.
LINES = {
    "1.1": ("codex-import-ndjson", "test_seeds::test_1_1_import"),
    "1.2": ("python -m codex.logging.query_logs", "test_query_logs::test_filters_and_order"),
    "1.3": ("python -m codex.logging.viewer", "test_readers::test_1_viewer"),
    "1.4": ("python -m codex.logging.export", "test_readers::test_1_export"),
    "1.5": ("python -m codex.logging.session_query", "test_readers::test_1_session_query"),
    "1.6": ("python -m codex.logging.conversation_logger", "test_readers::test_1_conversation_logger"),
    "1.7": ("purge of old sessions", "test_purge_sessions::test_old_sessions_go"),
    "1.8": ("a sourceable shell helper", "test_shell_helper::test_hostile_text_makes_the_round_trip"),
    "1.9": ("the example: record", "test_readers::test_1_the_example"),
    "1.10": ("- `--tail N`", "test_readers::test_1_tail_overrides_limit_order_and_offset"),
    "1.11": ("- Exit codes of the readers", "test_readers::test_1_exit_codes"),
    "1.12": ("- Dates (", "test_query_logs::test_filters_and_order"),
    "1.13": (
        "- `python -m codex.logging.query_logs` also",
        "test_query_logs::test_quick_start_runs_before_and_after_ours",
    ),
    "2.1": ("append_ndjson,", "test_actions::test_2_append_ndjson_and_session_id"),
    "2.2": ("get_session_id,", "test_actions::test_2_append_ndjson_and_session_id"),
    "2.3": ("session,", "test_seeds::test_2_3_session"),
    "2.4": ("SessionLogger, log_event", "test_seeds::test_2_4_messages"),
    "2.5": ("start_session, end_session", "test_actions::test_2_conversation_logger_starts_and_ends_a_session"),
    "2.6": ("init_codex_log_db, record", "test_actions::test_2_session_by_the_other_names"),
    "2.7": ("log_codex_start, log_codex_end", "test_actions::test_2_session_by_the_other_names"),
    "2.8": ("initialize_session, log_action", "test_actions::test_2_session_by_functions"),
    "2.9": ("CodexSessionLogger,", "test_actions::test_2_codex_session_logger"),
    "2.10": ("import_session, import_all", "test_seeds::test_2_10_import_functions"),
    "2.11": ("- `metadata` may be", "test_actions::test_2_metadata"),
    "2.12": ("- An exception inside", "test_actions::test_2_exception_is_recorded_and_goes_on"),
    "2.13": ("- Logging never breaks", "test_actions::test_2_logging_failure_masks_nothing"),
    "2.14": ("- All of these write", "test_readers::test_2_a_read_right_after_a_write_sees_it"),
    "3.1": ("| CODEX_SESSION_ID |", "test_seeds::test_3_1_session_id_ties_processes_together"),
    "3.2": ("| SESSION_ID_SOURCE |", "test_actions::test_2_append_ndjson_and_session_id"),
    "3.3": ("| CODEX_SESSION_LOG_DIR |", "test_seeds::test_3_3_log_folder"),
    "3.4": ("| CODEX_LOG_DB_PATH", "test_seeds::test_3_4_database"),
    "3.5": ("| GH_COPILOT_WORKSPACE |", "test_seeds::test_3_4_database"),
    "3.6": ("| GH_COPILOT_BACKUP_ROOT |", "test_finalize::test_no_workspace_overwrites_the_backup_of_another"),
    "3.7": ("| NDJSON_MAX_BYTES |", "test_seeds::test_3_7_rotation"),
    "3.8": ("| TEST_MODE |", "test_actions::test_2_test_mode_writes_nothing"),
    "3.9": ("| ALLOW_AUTOLFS |", "test_finalize::test_lfs_is_set_up_only_where_it_is_allowed"),
    "3.10": ("| CODEX_LOG_FILE_MODE |", "test_seeds::test_3_10_mode_of_files"),
    "3.11": ("Database path:", "test_finalize::test_working_directory_may_change_meanwhile"),
    "4.1": ("`<SESSION_ID>.ndjson`", "test_seeds::test_4_records"),
    "4.2": ('{"ts","type":"session_start"', "test_seeds::test_4_records"),
    "4.3": ('{"ts","type":"session_end"', "test_seeds::test_4_records"),
    "4.4": ('{"ts","type":"message"', "test_seeds::test_4_records"),
    "4.5": ('{"ts","type":"action"', "test_seeds::test_4_records"),
    "4.6": ("anything else", "test_actions::test_2_append_ndjson_and_session_id"),
    "4.7": ("`.meta` beside it", "test_seeds::test_4_7_hostile_session_ids"),
    "5.1": ("session_events(", "test_readers::test_5_session_events"),
    "5.2": ("unique by", "test_readers::test_5_session_events"),
    "5.3": ("role: the record's", "test_readers::test_5_session_events"),
    "5.4": ("session_ingest_watermark(", "test_readers::test_5_session_events"),
    "5.5": ("codex_actions(", "test_actions::test_5_codex_actions_and_codex_log"),
    "5.6": ("codex_log(", "test_actions::test_5_codex_actions_and_codex_log"),
    "5.7": ("logs(", "test_readers::test_1_logs_table_is_read_by_every_reader"),
    "5.8": ("They may be tables", "test_seeds::test_5_8_upgrade_on_first_use"),
    "6.1": ("`finalize_codex_log_db()", "test_finalize::test_copy_and_blobs_are_whole_beside_a_daemon_that_writes"),
    "7.1": ("1. Messages went", "test_seeds::test_7_1_import_overwrites_no_message"),
    "7.2": ("2. Watermark read", "test_seeds::test_7_2_importers_and_writers_do_not_race"),
    "7.3": ("3. Truncated", "test_seeds::test_7_3_truncated_rotated_and_replaced_files"),
    "7.4": ("4. A torn line", "test_seeds::test_7_4_bad_lines_and_bad_sessions"),
    "7.5": ("5. `append_ndjson` rewrote", "test_seeds::test_7_5_appends_leave_what_is_there"),
    "7.6": ("6. Finalize copied", "test_seeds::test_7_6_finalize_copies_what_is_only_in_the_log"),
    "7.7": ("7. A successful", "test_seeds::test_7_7_end_tells_how_it_ended"),
    "7.8": ("8. Purge deleted", "test_purge_sessions::test_what_was_not_ingested_stays"),
}
NO_CONTENT = re.compile(r"#|```|\||from codex|\)|$")


def records(folder: Path, session_id: str) -> list[dict[str, object]]:
    """A session's records."""
    return [json.loads(line) for line in (folder / SESSIONS / f"{session_id}.ndjson").read_text("utf-8").splitlines()]


def rows(folder: Path, query: str, database: str = ".codex/session_logs.db") -> list[tuple[object, ...]]:
    """Rows by the standard library's sqlite3."""
    with closing(sqlite3.connect(folder / database)) as connection:
        return connection.execute(query).fetchall()


def messages(folder: Path, session_id: str = "s") -> list[tuple[object, ...]]:
    """(seq, message) of a session, once everything is imported."""
    succeed("codex-import-ndjson --all", folder)
    return rows(folder, f"SELECT seq, message FROM session_events WHERE session_id = '{session_id}' ORDER BY seq, part")


def write(path: Path, *texts: str, mode: str = "a") -> None:
    """Append messages to a log, or with mode `w` begin it with them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as log:
        log.writelines(json.dumps({"role": "user", "message": text}) + "\n" for text in texts)


def content(lines: Iterable[str]) -> dict[str, str]:
    """The lines of the surface that say something, by their number; a table's variables are among them."""
    section, number, found = "", 0, {}
    for line in lines:
        text = line.strip()
        if heading := re.match(r"## (\d)\.", text):
            section, number = heading[1], 0
        elif section and (re.match(r"\| [A-Z]", text) or NO_CONTENT.match(text) is None):
            number += 1
            found[f"{section}.{number}"] = text
    return found


@pytest.mark.skipif(not SURFACE.exists(), reason="the surface is not here")
def test_each_line_of_the_surface_is_known() -> None:
    """No line was added, changed its place or went, without a test for it here."""
    found = content(SURFACE.read_text("utf-8").splitlines())
    assert list(found) == list(LINES)
    assert [number for number, text in found.items() if not text.startswith(LINES[number][0])] == []


@pytest.mark.parametrize("number", LINES)
def test_line_has_its_test(number: str) -> None:
    """The test that is named is there."""
    file, name = LINES[number][1].split("::")
    assert f"\ndef {name}(" in (ROOT / "tests" / "acceptance" / f"{file}.py").read_text("utf-8")


@pytest.mark.parametrize("command", ["codex-import-ndjson", "python -m codex.logging.import_ndjson"])
def test_1_1_import(tmp_path: Path, command: str) -> None:
    """One session or all, from a folder and into a database that are named, each line once."""
    for name in ("a", "b"):
        write(tmp_path / "logs" / f"{name}.ndjson", name)
    place = "--log-dir logs --db made.db"
    query = "SELECT session_id, seq, message FROM session_events ORDER BY 1"
    assert "1 file, 1 new row" in succeed(f"{command} --session a {place}", tmp_path)
    assert rows(tmp_path, query, "made.db") == [("a", 1, "a")]
    assert "2 files, 1 new row" in succeed(f"{command} --all {place}", tmp_path)
    assert rows(tmp_path, query, "made.db") == [("a", 1, "a"), ("b", 1, "b")]


def test_2_3_session(tmp_path: Path) -> None:
    """A start with cwd and argv, an end with exit code and duration, in the session that the environment names."""
    text = "from codex.logging import session\nwith session() as me: print(me.session_id)"
    assert python(text, tmp_path, {"CODEX_SESSION_ID": "s"}) == "s\n"
    start, end = records(tmp_path, "s")
    assert (start["type"], start["cwd"], start["argv"]) == ("session_start", str(tmp_path), ["-c"])
    assert (end["type"], end["exit_code"], end["duration_s"]) == ("session_end", 0, 0)


def test_2_4_messages(tmp_path: Path) -> None:
    """Three ways to write a message, one way to read them."""
    text = """
    from codex.logging import SessionLogger, fetch_messages, log_event, log_message
    with SessionLogger("s") as logger:
        logger.log("user", "one")
        log_event("s", "assistant", "two")
        log_message("s", "tool", "three")
    print([(row["role"], row["message"]) for row in fetch_messages("s")][1:-1])
    """
    assert python(text, tmp_path) == "[('user', 'one'), ('assistant', 'two'), ('tool', 'three')]\n"


def test_2_10_import_functions(tmp_path: Path) -> None:
    """The counts of new rows: of one session, and of each."""
    for name in ("a", "b"):
        write(tmp_path / SESSIONS / f"{name}.ndjson", name)
    text = "from codex.logging import import_all, import_session; print(import_session('a'), import_all())"
    assert python(text, tmp_path) == "1 {'a': 0, 'b': 1}\n"


def test_3_1_session_id_ties_processes_together(tmp_path: Path) -> None:
    """What several programs write under one id is one session; the one that makes the id hands it to its children."""
    text = """
    import os, subprocess, sys
    from codex.logging import get_session_id, log_event
    log_event(get_session_id(), "user", "by the parent")
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, __file__, "child"], check=True)
        print(os.environ["CODEX_SESSION_ID"])
    """
    (tmp_path / "agent.py").write_text(textwrap.dedent(text))
    session_id = succeed("python agent.py", tmp_path).strip()
    succeed("python agent.py again", tmp_path, {"CODEX_SESSION_ID": session_id})
    assert [record["session_id"] for record in records(tmp_path, session_id)] == [session_id] * 3


def test_3_3_log_folder(tmp_path: Path) -> None:
    """Writers, importer, daemon and readers all mean the folder that CODEX_SESSION_LOG_DIR names."""
    env = {"CODEX_SESSION_LOG_DIR": "deep/logs"}
    python("from codex.logging import log_event; log_event('s', 'user', 'here')", tmp_path, env)
    assert "user: here" in succeed("codex-logs --session-id s", tmp_path, env)
    assert "1 new row" in succeed("codex-import-ndjson --session s", tmp_path, env)
    write(tmp_path / "deep" / "logs" / "s.ndjson", "more")
    assert "1 new row" in succeed("codex-ingestd once", tmp_path, env)
    assert not (tmp_path / SESSIONS).exists()


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({"CODEX_LOG_DB_PATH": "a.db", "CODEX_DB_PATH": "b.db", "GH_COPILOT_WORKSPACE": "w"}, "a.db"),
        ({"CODEX_DB_PATH": "b.db", "GH_COPILOT_WORKSPACE": "w"}, "b.db"),
        ({"GH_COPILOT_WORKSPACE": "w"}, "w/databases/codex_log.db"),
        ({}, ".codex/session_logs.db"),
        ({"CODEX_LOG_DB_PATH": "all.ndjson", "CODEX_DB_PATH": "b.db"}, "b.db"),
    ],
)
@pytest.mark.parametrize("maker", ["codex-import-ndjson --all", "codex-ingestd once", "codex-ingestd finalize"])
def test_3_4_database(tmp_path: Path, env: dict[str, str], place: str, maker: str) -> None:
    """Importer, daemon and finalize make the database in the same place, and the copy beside it."""
    write(tmp_path / SESSIONS / "s.ndjson", "here")
    succeed(maker, tmp_path, env)
    made = {place, str(Path(place).parent / "codex_session_logs.db")} if "finalize" in maker else {place}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")} == made
    assert rows(tmp_path, "SELECT message FROM session_events", place) == [("here",)]


def test_3_7_rotation(tmp_path: Path) -> None:
    """A log that has reached NDJSON_MAX_BYTES becomes `.1`, and the numbers of the lines go on."""
    text = """
    from codex.logging import log_event
    for number in range(5):
        log_event("s", "user", str(number))
    """
    python(text, tmp_path, {"NDJSON_MAX_BYTES": "150"})
    assert {path.name for path in (tmp_path / SESSIONS).iterdir()} == {"s.ndjson", "s.ndjson.1", "s.ndjson.2"}
    assert messages(tmp_path) == [(number + 1, str(number)) for number in range(5)]


@pytest.mark.parametrize(("env", "mode"), [({}, 0o600), ({"CODEX_LOG_FILE_MODE": "0640"}, 0o640)])
def test_3_10_mode_of_files(tmp_path: Path, env: dict[str, str], mode: int) -> None:
    """New log files have the mode that is asked for, 0600 where none is, whatever the umask."""
    text = "from codex.logging import log_codex_start; log_codex_start('s')"
    succeed(f"umask 0; {program(text)}", tmp_path, env)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / SESSIONS).iterdir()] == [mode] * 2


def test_4_records(tmp_path: Path) -> None:
    """Each kind of record has its keys in their order; lines are compact UTF-8; times end in Z."""
    text = """
    from codex.logging import CodexSessionLogger, log_event
    with CodexSessionLogger("s") as logger:
        log_event("s", "user", "é € 😀")
        logger.log("make", "half\\nand half", metadata=["x"])
        logger.log("make", "no more")
    """
    python(text, tmp_path)
    lines = (tmp_path / SESSIONS / "s.ndjson").read_text("utf-8").splitlines()
    assert [list(json.loads(line)) for line in lines] == [
        ["ts", "type", "session_id", "cwd", "argv"],
        ["ts", "type", "session_id", "role", "message"],
        ["ts", "type", "session_id", "action", "statement", "metadata"],
        ["ts", "type", "session_id", "action", "statement"],
        ["ts", "type", "session_id", "exit_code", "duration_s", "summary"],
    ]
    for line in lines:
        assert line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"))
        assert re.match(r'{"ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z",', line)
    assert "é € 😀" in lines[1]
    start = json.loads(lines[0])["ts"]
    assert (tmp_path / SESSIONS / "s.meta").read_text() == f"{start} session_start s\n"


@pytest.mark.parametrize("session_id", ["../../x", "x" * 300, "-rf", "a/b", ".hidden"])
def test_4_7_hostile_session_ids(tmp_path: Path, session_id: str) -> None:
    """Each command that takes an id to name a file with says that it can't, by exit code 2; nothing is written."""
    (tmp_path / "here").mkdir()
    for command in (
        f"codex-import-ndjson --session={session_id}",
        f"python -m codex.logging.conversation_logger --event start --session-id={session_id}",
        f"CODEX_SESSION_ID={session_id} python -m codex.logging.conversation_logger --event end",
    ):
        result = shell(command, tmp_path / "here")
        assert (result.returncode, "can't name a log file" in result.stderr) == (2, True), command
        assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


OLD = """
PRAGMA journal_mode = WAL;
PRAGMA wal_autocheckpoint = 0;
CREATE TABLE session_events (ts REAL NOT NULL, session_id TEXT NOT NULL, role TEXT NOT NULL, message TEXT NOT NULL);
INSERT INTO session_events VALUES (1769850001, 's', 'user', 'only here'), (1769850000, 's', 'system', 'session_start');
CREATE TABLE session_ingest_watermark (session_id TEXT PRIMARY KEY, seq INTEGER);
INSERT INTO session_ingest_watermark VALUES ('s', 1);
CREATE TABLE codex_actions (id INTEGER PRIMARY KEY, session_id TEXT, ts TEXT, action TEXT, statement TEXT);
INSERT INTO codex_actions VALUES (7, 's', '2026-01-31T09:00:02+00:00', 'generate', 'a script');
CREATE TABLE codex_log (session_id TEXT, event TEXT, summary TEXT, ts TEXT);
INSERT INTO codex_log VALUES ('s', 'start', '', '2026-01-31 09:00:00'), ('s', 'start', '', '2026-01-31 09:00:00');
INSERT INTO codex_log VALUES ('s', 'end', 'done', '2026-01-31 09:00:03'), ('s', 'end', 'done', '2026-01-31 09:00:03');
CREATE TABLE logs (ts REAL, session TEXT, kind TEXT, message TEXT);
INSERT INTO logs VALUES (1769850004, 's', 'end', 'by hand');
"""


@pytest.mark.parametrize(
    "first", ["codex-import-ndjson --all", "codex-ingestd once", "codex-ingestd finalize", "codex-logs --session-id s"]
)
def test_5_8_upgrade_on_first_use(tmp_path: Path, first: str) -> None:
    """A database of the old system, its rows still in the log, is upgraded by whoever comes first; nothing is lost."""
    write(tmp_path / SESSIONS / "t.ndjson", "new")
    (tmp_path / SESSIONS / "s.ndjson").write_text('{"ts":"2026-01-31T09:00:00.4Z","type":"session_start"}\n')
    with closing(sqlite3.connect(tmp_path / "open.db")) as old:
        old.executescript(OLD)
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"open.db{suffix}", tmp_path / ".codex" / f"session_logs.db{suffix}")
    succeed(f"{first} && codex-import-ndjson --all && codex-import-ndjson --all", tmp_path)
    events = rows(tmp_path, "SELECT session_id, seq, role, message FROM session_events ORDER BY 1, seq, part")
    assert events == [
        ("s", 1, "system", "session_start"),
        ("s", 1, "user", "only here"),
        ("t", 1, "user", "new"),
    ]
    actions = rows(tmp_path, "SELECT id, ts, action, statement, metadata FROM codex_actions")
    assert actions == [(7, "2026-01-31T09:00:02.000Z", "generate", "a script", None)]
    ends = rows(tmp_path, "SELECT event, summary FROM codex_log WHERE summary IS NOT NULL ORDER BY ts")
    assert ends == [("start", ""), ("start", ""), ("end", "done"), ("end", "done")]
    assert rows(tmp_path, "SELECT message FROM logs") == [("by hand",)]
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_7_1_import_overwrites_no_message(tmp_path: Path) -> None:
    """Messages are in the NDJSON; an import leaves those alone that an old system had in SQLite only."""
    text = """
    from codex.logging import end_session, log_message, start_session
    start_session("s")
    log_message("s", "user", "new")
    end_session("s")
    """
    python(text, tmp_path)
    written = records(tmp_path, "s")
    assert [record.get("message") for record in written] == [None, "new", None]
    old = [("s", record["ts"], "user", f"old {seq}", seq) for seq, record in enumerate(written, 1)]
    with closing(sqlite3.connect(tmp_path / ".codex" / "session_logs.db")) as opened, opened:
        opened.execute("CREATE TABLE session_events (session_id, ts TEXT, role, message, seq INTEGER)")
        opened.executemany("INSERT INTO session_events VALUES (?, ?, ?, ?, ?)", old)
    found = [str(message) for _, message in messages(tmp_path)]
    assert sorted(found) == ["new", "old 1", "old 2", "old 3", "session_end", "session_start"]


RACER = """
import sys
from codex.logging import append_ndjson, import_session
for number in range(60):
    append_ndjson(".codex/sessions/s.ndjson", {"role": "user", "message": f"{sys.argv[1]} {number}"})
    import_session("s")
"""


def test_7_2_importers_and_writers_do_not_race(tmp_path: Path) -> None:
    """Four processes that write and import one session at once, over rotations: each line is one row, at its number."""
    env = {"NDJSON_MAX_BYTES": "1000"}
    command = " & ".join(f"{program(RACER)} {writer}" for writer in range(4))
    result = shell(f"{command} & wait", tmp_path, env, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    found = messages(tmp_path)
    logs = sorted(
        (tmp_path / SESSIONS).glob("s.ndjson*"), key=lambda path: -int(path.suffix[1:].replace("ndjson", "0"))
    )
    written = [json.loads(line)["message"] for log in logs for line in log.read_text().splitlines()]
    assert len(logs) > 2
    assert found == list(enumerate(written, 1))
    assert len(set(written)) == len(written) == 240


def test_7_2_importer_and_writer_take_one_lock(tmp_path: Path) -> None:
    """A writer has the file's lock to itself when it writes; an importer has its share of it when it reads."""
    log = tmp_path / SESSIONS / "s.ndjson"
    trace = f"strace -f -qq -o calls -e trace=flock,write,pread64 -P '{log}'"
    writer = program("from codex.logging import log_event; log_event('s', 'user', 'x')")
    write(log, "w")
    for command, lock, use in ((writer, "LOCK_EX", "write"), ("codex-import-ndjson --all", "LOCK_SH", "pread64")):
        succeed(f"{trace} {command}", tmp_path)
        calls = re.findall(r" (flock|write|pread64)\(\d+, (LOCK_\w+)?", (tmp_path / "calls").read_text())
        assert calls[0] == ("flock", lock)
        assert (use, "") in calls
        assert ("flock", "LOCK_UN") not in calls[: calls.index((use, ""))]


def test_7_3_truncated_rotated_and_replaced_files(tmp_path: Path) -> None:
    """What stands in a file is imported, whatever the number of its lines and whatever stood there before."""
    log = tmp_path / SESSIONS / "s.ndjson"
    write(log.with_name("s.ndjson.1"), "never seen")
    write(log, "a", "b", "c")
    expected = ["never seen", "a", "b", "c"]
    assert [message for _, message in messages(tmp_path)] == expected
    write(log, "short", mode="w")
    assert [message for _, message in messages(tmp_path)] == [*expected, "short"]
    log.rename(log.with_name("s.ndjson.2"))
    log.with_name("s.ndjson.1").rename(log.with_name("s.ndjson.3"))
    log.with_name("s.ndjson.2").rename(log.with_name("s.ndjson.1"))
    write(log, "d")
    assert [message for _, message in messages(tmp_path)] == [*expected, "short", "d"]
    log.unlink()
    write(log, "e", "f", "g")
    assert messages(tmp_path) == list(enumerate([*expected, "short", "d", "e", "f", "g"], 1))


def test_7_4_bad_lines_and_bad_sessions(tmp_path: Path) -> None:
    """A torn, blank or odd line is told of and stops nothing; nor does a session; any offset is a time."""
    log = tmp_path / "logs" / "s.ndjson"
    write(log, "first")
    with log.open("ab") as file:
        file.write(b'{"message":"to\n\n[1]\n7\n\xff\n{"ts":"2026-01-31T04:00:00-05:00","message":"offset"}\n')
    (tmp_path / "logs" / "bad.ndjson").symlink_to("/nowhere")
    write(tmp_path / "logs" / "z.ndjson", "last")
    result = shell("codex-import-ndjson --all --log-dir logs", tmp_path)
    assert (result.returncode, "bad.ndjson is a symbolic link" in result.stderr) == (0, True)
    assert rows(tmp_path, "SELECT session_id, seq, ts, message FROM session_events ORDER BY 1, 2") == [
        ("s", 1, None, "first"),
        ("s", 7, 1769850000.0, "offset"),
        ("z", 1, None, "last"),
    ]
    rejects = rows(tmp_path, "SELECT seq, reason FROM ingest_rejects ORDER BY 1")
    assert rejects == [(2, "json"), (3, "blank"), (4, "object"), (5, "object"), (6, "encoding")]


def test_7_5_appends_leave_what_is_there(tmp_path: Path) -> None:
    """A record costs its own bytes: same inode, nothing before it written again; a torn tail fuses with nothing."""
    log = tmp_path / "a.ndjson"
    log.write_bytes(b'{"n":0}\n' * 100_000 + b'{"torn')
    inode, size = log.stat().st_ino, log.stat().st_size
    trace = f"strace -f -qq -o calls -e trace=write,pwrite64,writev,rename,ftruncate,truncate -P '{log}'"
    text = "from codex.logging import append_ndjson; [append_ndjson('a.ndjson', {'n': n}) for n in (1, 2)]"
    succeed(f"{trace} {program(text)}", tmp_path)
    assert re.findall(r" (\w+)\(.* = (\d+)", (tmp_path / "calls").read_text()) == [("write", "9"), ("write", "8")]
    assert (log.stat().st_ino, log.stat().st_size) == (inode, size + 17)
    assert log.read_bytes().endswith(b'{"n":0}\n{"torn\n{"n":1}\n{"n":2}\n')


def test_7_6_finalize_copies_what_is_only_in_the_log(tmp_path: Path) -> None:
    """Rows that no checkpoint has moved are in the copy; there is no repository, and the folder changes meanwhile."""
    text = """
    import os
    from contextlib import closing
    from codex.logging import finalize_codex_log_db, import_all, init_db, log_codex_end, log_codex_start
    from codex.logging.store.sqlite import Store
    log_codex_start("s")
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    log_codex_end("s", "done")
    with closing(Store(str(init_db()))) as holder:
        import_all()
        assert os.path.getsize(f"{holder.path}-wal") > 50_000
        print(finalize_codex_log_db())
    """
    result = shell(program(text), tmp_path)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/.codex/codex_session_logs.db\n"), result.stderr
    assert "not staged" in result.stderr
    copied = rows(tmp_path, "SELECT event, summary FROM codex_log ORDER BY ts", ".codex/codex_session_logs.db")
    assert copied == [("start", None), ("end", "done")]


@pytest.mark.parametrize("manager", ["session", "SessionLogger", "CodexSessionLogger"])
@pytest.mark.parametrize(
    ("ending", "code", "told"), [("sys.exit(0)", 0, 0), ("sys.exit(3)", 3, 3), ("1 / 0", 1, 1), ("pass", 0, 0)]
)
def test_7_7_end_tells_how_it_ended(tmp_path: Path, manager: str, ending: str, code: int, told: int) -> None:
    """The exit code in the record is the program's own."""
    text = f"import sys; from codex.logging import {manager}\nwith {manager}('s'): {ending}"
    if manager == "session":
        text = text.replace("('s')", "(session_id='s')")
    assert shell(program(text), tmp_path).returncode == code
    assert records(tmp_path, "s")[-1]["exit_code"] == told


def test_7_7_sigterm_leaves_an_end(tmp_path: Path) -> None:
    """A program that is terminated has its session_end, and still ends by the signal."""
    text = """
    import signal
    from codex.logging import session
    with session(session_id="s"):
        print("begun", flush=True)
        while True: signal.sigtimedwait([], 0.01)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], cwd=tmp_path, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        agent.stdout.readline()
        agent.terminate()
        assert agent.wait(20) == -15
    assert [(record["type"], record.get("exit_code")) for record in records(tmp_path, "s")] == [
        ("session_start", None),
        ("session_end", 143),
    ]


def document(title: str) -> str:
    """The seed document with this title."""
    found = [path.read_text("utf-8") for path in (SHARED / "seeds").glob("*.txt")]
    return next(text for text in found if text.lstrip("# ").startswith(title))


@pytest.mark.skipif(not (SHARED / "seeds").exists(), reason="the seed documents are not here")
@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs isn't installed")
def test_first_document_runs_verbatim(tmp_path: Path) -> None:
    """Its blocks, as they stand there, in a workspace with Git LFS as it says."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", document("Codex Logging"), re.DOTALL | re.MULTILINE)
    source = "\n".join(text for language, text in blocks if language == "python")
    assert source.split() == test_actions.CODEX_LOGGING.split()
    succeed("git init -q . && git lfs install --local", tmp_path)
    env = {"GH_COPILOT_WORKSPACE": str(tmp_path), "ALLOW_AUTOLFS": "1"}
    python(f"import codex.logging.aliases\nsession_id = 'doc'\n{source}", tmp_path, env)
    for language, text in blocks:
        if language == "bash":
            succeed(text, tmp_path)
    status = succeed("git lfs status", tmp_path)
    assert "databases/codex_log.db (LFS:" in status
    assert "databases/codex_session_logs.db (LFS:" in status


@pytest.mark.skipif(not (SHARED / "seeds").exists(), reason="the seed documents are not here")
def test_second_document_runs_verbatim(tmp_path: Path) -> None:
    """Its shell setup, its quick start (whose indentation the page has lost), and its query, in one shell."""
    lines = document("End-to-End Logging").splitlines()
    setup = [line for line in lines if line.startswith("export ")]
    begin, end = (
        next(i for i, line in enumerate(lines) if line.startswith(start)) for start in ("import os", "con.com")
    )
    quick_start = "\n".join(lines[begin : end + 1]).replace('\ncur.execute("INSERT', '\n    cur.execute("INSERT')
    assert quick_start == test_query_logs.QUICK_START.strip()
    (tmp_path / "quick_start.py").write_text(quick_start)
    query = next(line for line in lines if line.startswith("python -m"))
    shown = succeed("\n".join([*setup, "python quick_start.py", query]), tmp_path)
    texts = ["start: session begin", "message: processing step A", "message: processing step B", "end: session end"]
    assert [line.split("] ")[1] for line in shown.splitlines()] == texts
