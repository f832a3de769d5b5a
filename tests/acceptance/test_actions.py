"""The names that write: SEEDS.md, section 2, and the tables of section 5 that they fill.

Each program runs in an interpreter of its own. The number in a test's name is the section's.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging import import_all
from codex.logging.store.sqlite import Store
from tests.commands import program, python, shell, succeed

NAMES = (
    "append_ndjson get_session_id session SessionLogger log_event log_message fetch_messages start_session end_session"
    " init_codex_log_db record_codex_action finalize_codex_log_db init_db log_codex_action log_codex_start"
    " log_codex_end initialize_session log_action finalize_session CodexSessionLogger import_session import_all"
)


def records(folder: Path, session_id: str) -> list[dict[str, object]]:
    """A session's records."""
    path = folder / ".codex" / "sessions" / f"{session_id}.ndjson"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(folder: Path, query: str) -> list[tuple[object, ...]]:
    """Rows by the standard library's sqlite3, once everything is imported."""
    succeed("codex-import-ndjson --all", folder)
    with closing(sqlite3.connect(folder / ".codex" / "session_logs.db")) as connection:
        return connection.execute(query).fetchall()


def test_2_every_name_is_there(tmp_path: Path) -> None:
    """The package offers each name, lists it, and has no others than these and `Appender`."""
    text = f"""
    import codex.logging
    names = {NAMES.split()!r}
    assert all(callable(getattr(codex.logging, name)) for name in names)
    print(*sorted(set(codex.logging.__all__) ^ set(names)))
    """
    assert python(text, tmp_path) == "Appender\n"


def test_2_importing_the_package_loads_no_database(tmp_path: Path) -> None:
    """Names that need SQLite, a terminal or git come with their first use; writing actions needs none of them."""
    text = """
    import sys
    from codex.logging import init_codex_log_db, record_codex_action
    init_codex_log_db()
    record_codex_action("a", "generate", "created script")
    print(sorted({"sqlite3", "apsw", "click", "rich", "watchdog", "subprocess"} & sys.modules.keys()))
    """
    assert python(text, tmp_path) == "[]\n"


def test_2_append_ndjson_and_session_id(tmp_path: Path) -> None:
    """append_ndjson returns nothing; the id is made once and kept in the environment, or is the custom one."""
    text = """
    import os
    from codex.logging import append_ndjson, get_session_id
    assert append_ndjson(".codex/action_log.ndjson", {"event": "demo", "ok": True}) is None
    made = get_session_id()
    assert made == get_session_id() == os.environ["CODEX_SESSION_ID"] and len(made) == 36
    del os.environ["CODEX_SESSION_ID"]
    os.environ["SESSION_ID_SOURCE"] = "mine"
    assert get_session_id() == os.environ["CODEX_SESSION_ID"] == "mine"
    """
    python(text, tmp_path)
    assert (tmp_path / ".codex" / "action_log.ndjson").read_text() == '{"event":"demo","ok":true}\n'


def test_2_roles_outside_the_set_are_refused(tmp_path: Path) -> None:
    """ValueError from each function that takes a role, and nothing is written."""
    text = """
    from codex.logging import SessionLogger, log_event, log_message
    from codex.logging.conversation_logger import log_message as say
    for role in ("boss", "", "User", "ERROR"):
        for write in (log_event, log_message, say):
            try:
                write("s", role, "x")
            except ValueError as error:
                assert "assistant" in str(error)
            else:
                raise SystemExit(f"{write} takes {role!r}")
    for role in ("system", "user", "assistant", "tool", "INFO", "WARN"):
        say("s", role, text=role)
    """
    python(text, tmp_path)
    assert [record["role"] for record in records(tmp_path, "s")] == [
        "system",
        "user",
        "assistant",
        "tool",
        "INFO",
        "WARN",
    ]


def test_2_conversation_logger_starts_and_ends_a_session(tmp_path: Path) -> None:
    """The module's three functions take the database path that the seed's take, and write NDJSON only."""
    text = """
    from codex.logging import conversation_logger as cl
    cl.start_session("c", db_path=".codex/session_logs.db")
    cl.log_message("c", "user", "hello", db_path=".codex/session_logs.db")
    cl.end_session("c", db_path=".codex/session_logs.db")
    """
    python(text, tmp_path)
    assert [record["type"] for record in records(tmp_path, "c")] == ["session_start", "message", "session_end"]
    assert not (tmp_path / ".codex" / "session_logs.db").exists()


@pytest.mark.parametrize(
    ("given", "kept", "column"),
    [
        ("{'foo': 1, 'z': ['é', None]}", {"foo": 1, "z": ["é", None]}, '{"foo":1,"z":["é",null]}'),
        ("[1, {'a': 2}]", [1, {"a": 2}], '[1,{"a":2}]'),
        ("'plain text'", "plain text", "plain text"),
        ("''", "", ""),
        ("{}", {}, "{}"),
    ],
)
def test_2_metadata(tmp_path: Path, given: str, kept: object, column: str) -> None:
    """A dict or list is JSON, a text is itself, None is nothing: in the record and in codex_actions."""
    text = f"""
    from codex.logging import record_codex_action
    record_codex_action("a", "generate", "created script", metadata={given})
    record_codex_action("a", "generate", "created script", metadata=None)
    """
    python(text, tmp_path)
    first, second = records(tmp_path, "a")
    assert (first["metadata"], "metadata" in second) == (kept, False)
    assert table(tmp_path, "SELECT metadata FROM codex_actions ORDER BY id") == [(column,), (None,)]


def test_2_session_by_functions(tmp_path: Path) -> None:
    """initialize_session, log_action and finalize_session write a whole session, and give the finalized copy's path."""
    text = """
    from codex.logging import finalize_session, initialize_session, log_action
    initialize_session("f")
    log_action("f", "generate", "created script")
    print(finalize_session("f", "session complete"))
    """
    assert python(text, tmp_path) == f"{tmp_path}/.codex/codex_session_logs.db\n"
    with closing(sqlite3.connect(tmp_path / ".codex" / "codex_session_logs.db")) as connection:
        assert connection.execute("SELECT event, summary FROM codex_log ORDER BY ts").fetchall() == [
            ("start", None),
            ("end", "session complete"),
        ]
        assert connection.execute("SELECT action, statement FROM codex_actions").fetchall() == [
            ("generate", "created script")
        ]


def test_2_session_by_the_other_names(tmp_path: Path) -> None:
    """init_db, log_codex_start, log_codex_action and log_codex_end do the same; init gives the database's place."""
    text = """
    from codex.logging import init_db, log_codex_action, log_codex_end, log_codex_start
    print(init_db(), init_db("other.db"), init_db("all.ndjson"))
    log_codex_start("g")
    log_codex_action("g", "generate", "created script", "note")
    log_codex_end("g", "done")
    log_codex_end("g")
    """
    places = (".codex/session_logs.db", "other.db", "all.ndjson")
    assert python(text, tmp_path).split() == [str(tmp_path / place) for place in places]
    kinds = [(record["type"], record.get("summary")) for record in records(tmp_path, "g")]
    assert kinds == [("session_start", None), ("action", None), ("session_end", "done"), ("session_end", None)]
    assert (tmp_path / ".codex" / "sessions" / "g.meta").exists()
    assert not list(tmp_path.rglob("*.db"))


def test_2_codex_session_logger(tmp_path: Path) -> None:
    """Start on enter; end with summary, exit code and duration on exit, and the database is finalized."""
    text = """
    from codex.logging import CodexSessionLogger
    with CodexSessionLogger("l", summary="all done") as logger:
        logger.log("generate", "created script", metadata={"foo": 1})
    with CodexSessionLogger("m"):
        raise SystemExit(0)
    """
    python(text, tmp_path)
    end = records(tmp_path, "l")[-1]
    assert (end["summary"], end["exit_code"], end["duration_s"]) == ("all done", 0, 0)
    assert (records(tmp_path, "m")[-1]["summary"], records(tmp_path, "m")[-1]["exit_code"]) == ("session complete", 0)
    assert (tmp_path / ".codex" / "codex_session_logs.db").exists()


def test_2_exception_is_recorded_and_goes_on(tmp_path: Path) -> None:
    """The summary is `error: …`, the end has type and message, and the caller's exception is what the caller gets."""
    text = """
    from codex.logging import CodexSessionLogger
    with CodexSessionLogger("x", summary="never") as logger:
        raise LookupError("no such thing")
    """
    result = shell(program(text), tmp_path)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, "LookupError: no such thing")
    end = records(tmp_path, "x")[-1]
    assert (end["summary"], end["exit_code"]) == ("error: no such thing", 1)
    assert (end["error_type"], end["error"]) == ("LookupError", "LookupError: no such thing")
    assert table(tmp_path, "SELECT summary FROM codex_log WHERE event = 'end'") == [("error: no such thing",)]


def test_2_logging_failure_masks_nothing(tmp_path: Path) -> None:
    """Without a place for log and copy, and with an end that can't be said, the caller's own exception comes out."""
    (tmp_path / ".codex").write_text("a file, where a folder would have to be")
    text = """
    from codex.logging import CodexSessionLogger, SessionLogger, init_codex_log_db, record_codex_action, session
    init_codex_log_db()
    record_codex_action("x", "still", "alive")
    for manager in (CodexSessionLogger("x"), SessionLogger("x"), session(session_id="x")):
        try:
            with manager:
                manager.session_id = "../no/place"
                raise LookupError("mine")
        except LookupError as error:
            print(error)
    """
    result = shell(program(text), tmp_path)
    assert (result.returncode, result.stdout) == (0, "mine\n" * 3)
    assert "not logged" in result.stderr


def test_2_deleted_log_folder_is_made_again(tmp_path: Path) -> None:
    """Writing goes on when somebody removes the folder in mid-session."""
    text = """
    import shutil
    from codex.logging import CodexSessionLogger
    with CodexSessionLogger("d") as logger:
        shutil.rmtree(".codex")
        logger.log("still", "here")
    """
    python(text, tmp_path)
    assert [record["type"] for record in records(tmp_path, "d")] == ["action", "session_end"]


def test_2_test_mode_writes_nothing(tmp_path: Path) -> None:
    """No NDJSON, no database, no copy, nothing in git: by every name."""
    succeed("git init -q .", tmp_path)
    text = """
    from codex.logging import *
    init_codex_log_db(); init_db(); initialize_session("t"); log_codex_start("t")
    record_codex_action("t", "a", "b"); log_codex_action("t", "a", "b"); log_action("t", "a", "b", {"c": 1})
    with CodexSessionLogger("t") as logger: logger.log("a", "b")
    with SessionLogger("t") as logger: logger.log("user", "b")
    with session(session_id="t"): log_event("t", "user", "x"); log_message("t", "user", "x")
    start_session("t"); end_session("t"); append_ndjson("x.ndjson", {}); log_codex_end("t", "s")
    finalize_session("t", "s"); finalize_codex_log_db(); assert fetch_messages("t") == []
    """
    python(text, tmp_path, {"TEST_MODE": "1"})
    say = "python -m codex.logging.conversation_logger --session-id t --event"
    succeed(f"{say} start && {say} message --message x && {say} end", tmp_path, {"TEST_MODE": "1"})
    assert [path.name for path in tmp_path.iterdir()] == [".git"]


def test_2_test_mode_imports_nothing(tmp_path: Path) -> None:
    """No database is made by import_all, import_session or the command."""
    text = "from codex.logging import *; log_event('t', 'user', 'x')"
    python(text, tmp_path)
    text = "from codex.logging import *; import_all(); import_session('t')"
    succeed(f"{program(text)} && codex-import-ndjson --all", tmp_path, {"TEST_MODE": "1"})
    assert not list(tmp_path.rglob("*.db"))


def test_2_finalized_copy_of_a_single_log_has_its_records(tmp_path: Path) -> None:
    """Where all sessions write to one log, that log is what is pending."""
    text = """
    from codex.logging import CodexSessionLogger
    with CodexSessionLogger("s") as logger:
        logger.log("generate", "created script")
    """
    python(text, tmp_path, {"CODEX_LOG_DB_PATH": "all.ndjson"})
    (copy,) = tmp_path.rglob("codex_session_logs.db")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM codex_actions").fetchone() == (1,)


CODEX_LOGGING = """
from utils.codex_log_db import (
    init_codex_log_db,
    record_codex_action,
    finalize_codex_log_db,
)

init_codex_log_db()
record_codex_action(session_id, "generate", "created script", metadata={"foo": 1})
finalize_codex_log_db()

from gh_copilot.automation.logging import append_ndjson
append_ndjson('.codex/action_log.ndjson', {'event': 'demo', 'ok': True})

from scripts.DEDICATED_CODEX_LOG_DATABASE_TASKS import (
    finalize_session,
    initialize_session,
    log_action,
)

initialize_session(session_id)
log_action(session_id, "generate", "created script")
finalize_session(session_id, "session complete")

from utils.codex_log_db import CodexSessionLogger

with CodexSessionLogger(session_id) as logger:
    logger.log("generate", "created script")

from utils.codex_log_db import finalize_codex_log_db

finalize_codex_log_db()
"""


def test_2_first_document_runs_verbatim(tmp_path: Path) -> None:
    """Its Python, behind the aliases, and its shell commands: in its workspace, with its files and its tables."""
    succeed("git init -q .", tmp_path)
    text = f"import codex.logging.aliases\nsession_id = 'doc'\n{CODEX_LOGGING}"
    env = {"GH_COPILOT_WORKSPACE": str(tmp_path)}
    python(text, tmp_path, env)
    assert (tmp_path / ".codex" / "action_log.ndjson").read_text() == '{"event":"demo","ok":true}\n'
    succeed("git add databases/codex_log.db\ngit add databases/codex_session_logs.db", tmp_path)
    staged = succeed("git diff --cached --name-only", tmp_path).split()
    assert staged == ["databases/codex_log.db", "databases/codex_session_logs.db"]
    for name in staged:
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            assert connection.execute("SELECT count(*) FROM codex_actions").fetchone() == (3,), name
            events = connection.execute("SELECT event, summary FROM codex_log ORDER BY ts").fetchall()
        assert events == [("start", None), ("end", "session complete")] * 2, name


def test_2_hostile_session_ids_are_refused(tmp_path: Path) -> None:
    """Each name that writes raises SessionIdError, a ValueError, before it writes."""
    text = """
    from codex.logging import *
    from codex.logging.errors import SessionIdError
    for sid in ("../../x", "a\\0b", "x" * 300, "-rf", "", ".hidden", "a/b"):
        for write in (log_codex_start, log_codex_end, initialize_session, finalize_session, CodexSessionLogger,
                      lambda sid: record_codex_action(sid, "a", "b"), lambda sid: log_action(sid, "a", "b")):
            try:
                write(sid)
            except SessionIdError as error:
                assert isinstance(error, ValueError) and error.hint
            else:
                raise SystemExit(f"{write} takes {sid!r}")
    """
    python(text, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_5_codex_actions_and_codex_log(tmp_path: Path) -> None:
    """Columns and types are the contract's; times are ISO 8601 in UTC; what isn't said is NULL."""
    sessions = tmp_path / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    (sessions / "v.ndjson").write_text(
        '{"ts":"2026-01-31T04:00:00.25-05:00","type":"session_start","session_id":"v"}\n'
        '{"ts":1769850001,"type":"action","action":"make","statement":"half \\ud800 a pair","metadata":{"n": 1e999}}\n'
        '{"type":"action","action":["odd"],"statement":7}{"type":"action"}\n'
        '{"ts":"2026-01-31T09:00:02Z","type":"session_end","exit_code":1,"error":"ValueError: boom"}\n'
        '{"ts":"2026-01-31T09:00:03Z","type":"message","role":"user","message":"session_end"}\n'
    )
    columns = "SELECT name FROM pragma_table_info('{}')"
    assert [name for (name,) in table(tmp_path, columns.format("codex_actions"))] == [
        "id",
        "session_id",
        "ts",
        "action",
        "statement",
        "metadata",
    ]
    assert [name for (name,) in table(tmp_path, columns.format("codex_log"))] == [
        "session_id",
        "event",
        "summary",
        "ts",
    ]
    actions = table(
        tmp_path, "SELECT typeof(id), session_id, ts, action, statement, metadata FROM codex_actions ORDER BY id"
    )
    assert actions == [
        ("integer", "v", "2026-01-31T09:00:01.000Z", "make", "half \ufffd a pair", '{"n":1e999}'),
        ("integer", "v", None, '["odd"]', "7", None),
        ("integer", "v", None, None, None, None),
    ]
    assert len(set(table(tmp_path, "SELECT id FROM codex_actions"))) == 3
    assert table(tmp_path, "SELECT * FROM codex_log ORDER BY ts") == [
        ("v", "start", None, "2026-01-31T09:00:00.250Z"),
        ("v", "end", "error: ValueError: boom", "2026-01-31T09:00:02.000Z"),
    ]


@pytest.mark.parametrize("meta", ["[" * 3000 + "]" * 3000, "{", ""])
def test_5_meta_that_is_no_json_to_sqlite_fails_no_query(store: Store, log_dir: Path, meta: str) -> None:
    """Meta nested deeper than SQLite goes, or damaged, hides what it says and nothing else."""
    (log_dir / "n.ndjson").write_text('{"type":"action","action":"odd"}\n{"type":"action","action":"plain"}\n')
    import_all(log_dir, store.path)
    store.connection.execute("UPDATE events SET meta = ? WHERE seq = 1", (meta,))
    rows = store.connection.execute("SELECT session_id, action FROM codex_actions ORDER BY id").fetchall()
    assert rows == [("n", None), ("n", "plain")]
