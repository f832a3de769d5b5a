"""`codex-logs sql`: any question is answered, and nothing but reading is possible."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.import_ndjson import import_all
from codex.logs.read.query import QueryError, Stopwatch, run_query
from tests.commands import shell

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
NATIVE = [
    {"ts": "2026-01-02T03:04:05Z", "role": "user", "message": "=1+1"},
    {"ts": "2026-01-02T03:04:06Z", "role": "assistant", "message": "a \x1b[31mred\x1b[0m word"},
    {"ts": "2026-01-02T03:04:07Z", "role": "user", "message": '\'-x, "quoted"\nand more'},
]


@pytest.fixture
def filled(log_dir: Path, database: Path) -> Path:
    """A database of one session, in no WAL any more: its bytes are the whole of it."""
    (log_dir / "s.ndjson").write_text("".join(f"{json.dumps(record)}\n" for record in NATIVE))
    import_all(log_dir, database)
    return database


def sql(database: Path, query: str, *options: str) -> tuple[int, str, str]:
    """Exit code, output and messages of the query, given by the environment to spare the quoting."""
    result = shell(f'codex-logs sql "$QUERY" --db {database} {" ".join(options)}', database.parent, {"QUERY": query})
    return result.returncode, result.stdout, result.stderr


def files(folder: Path) -> dict[str, str]:
    """Each file below the folder with its content's hash, but for the reader's own shared memory."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_a_query_is_answered_in_each_form(filled: Path) -> None:
    """The same rows as a table, JSON, JSON lines and CSV; a value comes back as it was."""
    query = "SELECT seq, message, 1.5 AS half, x'00ff' AS raw, NULL AS missing FROM session_events ORDER BY seq"
    rows = json.loads(sql(filled, query, "--json")[1])
    assert [row["message"] for row in rows] == [record["message"] for record in NATIVE]
    assert rows[0] | {"message": ""} == {
        "seq": 1,
        "message": "",
        "half": 1.5,
        "raw": {"$base64": True, "encoded": "AP8="},
        "missing": None,
    }
    assert [json.loads(line) for line in sql(filled, query, "--jsonl")[1].splitlines()] == rows
    table = sql(filled, query)[1].splitlines()
    assert table[0].split() == ["seq", "message", "half", "raw", "missing"]
    assert "\\x1b[31mred" in table[2]
    assert len(table) == 4


def test_no_cell_of_csv_is_a_formula(filled: Path) -> None:
    """What begins like one has an apostrophe before it; all else is as it was, line breaks too."""
    code, output, _ = sql(filled, "SELECT message, -1 AS number FROM session_events ORDER BY seq", "--csv")
    assert code == 0
    rows = list(csv.reader(io.StringIO(output, newline="")))
    messages = [record["message"] for record in NATIVE]
    assert rows == [
        ["message", "number"],
        *([text, "-1"] for text in (f"'{messages[0]}", messages[1], f"'{messages[2]}")),
    ]


def test_the_query_may_be_a_file_or_standard_input(filled: Path, tmp_path: Path) -> None:
    """A comment before and after it is no second query."""
    (tmp_path / "q.sql").write_text("-- how many\nSELECT count(*) AS n FROM session_events; -- done\n")
    for way in ("--file q.sql", "< q.sql", "- < q.sql", "--file - < q.sql"):
        result = shell(f"codex-logs sql --jsonl --db {filled} {way}", tmp_path)
        assert (result.returncode, result.stdout) == (0, '{"n": 3}\n'), way
    assert shell(f"codex-logs sql --db {filled} 'SELECT 1' --file q.sql", tmp_path).returncode == 2
    assert shell(f"codex-logs sql --db {filled} --file gone.sql", tmp_path).returncode == 2


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO meta VALUES ('x', 1)",
        "WITH one AS (SELECT 1) INSERT INTO meta SELECT 'x', 1 FROM one",
        "UPDATE events SET message = ''",
        "DELETE FROM events",
        "REPLACE INTO meta VALUES ('x', 1)",
        "DROP TABLE events",
        "ALTER TABLE events ADD COLUMN x",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE VIRTUAL TABLE x USING fts5(y)",
        "CREATE VIRTUAL TABLE temp.x USING fts5vocab(main, events, row)",
        "CREATE INDEX x ON events (ts)",
        "CREATE TRIGGER x AFTER INSERT ON meta BEGIN SELECT 1; END",
        "ATTACH 'made.db' AS made",
        "ATTACH ':memory:' AS made",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'made.db'",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "SAVEPOINT x",
        "PRAGMA user_version = 99",
        "PRAGMA user_version(99)",
        "PRAGMA journal_mode = delete",
        "PRAGMA writable_schema = on",
        "PRAGMA query_only = off",
        "PRAGMA wal_checkpoint(truncate)",
        "PRAGMA incremental_vacuum",
        "PRAGMA optimize",
        "PRAGMA temp_store_directory = '.'",
        "PRAGMA hard_heap_limit = 0",
        "SELECT load_extension('x')",
        "SELECT writefile('made.db', 'x')",
        "SELECT readfile('/etc/hostname')",
        "SELECT edit('x', 'touch made.db')",
        "SELECT fts3_tokenizer('simple', x'00')",
        "SELECT * FROM fsdir('.')",
        "SELECT 1; DELETE FROM events",
        "EXPLAIN DELETE FROM events",
        ".shell touch made.db",
        ".output made.db",
    ],
)
def test_nothing_but_reading_is_possible(
    filled: Path, query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even over a connection that may write it is refused, and no byte of any file is another one."""
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    with closing(apsw.Connection(str(filled))) as connection, pytest.raises(QueryError):
        list(run_query(connection, query, Stopwatch(10), 64 << 20).rows)
    assert files(tmp_path) == before


@pytest.mark.parametrize("query", ["DELETE FROM events", "ATTACH 'made.db' AS made", "VACUUM INTO 'made.db'"])
def test_a_refusal_is_told(filled: Path, query: str) -> None:
    """Exit code 2, what was refused, what to do instead; nothing is printed or made."""
    before = files(filled.parent)
    code, output, messages = sql(filled, query)
    assert (code, output) == (2, ""), messages
    assert messages.startswith("error: ")
    assert "hint: " in messages
    assert files(filled.parent) == before


def test_a_full_text_table_is_read_and_not_commanded(filled: Path) -> None:
    """A query may search one; the inserts that FTS5 takes for commands are refused."""
    with closing(apsw.Connection(str(filled))) as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(word); INSERT INTO words VALUES ('green tea')")
    found = sql(filled, "SELECT highlight(words, 0, '<', '>') AS hit FROM words WHERE words MATCH 'tea'", "--jsonl")
    assert found == (0, '{"hit": "green <tea>"}\n', "")
    for command in ("optimize", "rebuild", "delete-all"):
        assert sql(filled, f"INSERT INTO words(words) VALUES ('{command}')")[0] == 2


@pytest.mark.parametrize(
    "query",
    [
        f"{ENDLESS} count(*) FROM n",
        f"{ENDLESS} i FROM n WHERE i < 0",
        "SELECT count(*) FROM session_events AS a, " + ", ".join(f"events AS e{i}" for i in range(40)),
        # one call of one function, which SQLite itself can't interrupt
        "SELECT instr(zeroblob(100000000), CAST(zeroblob(50000000) || x'01' AS BLOB))",
    ],
)
def test_a_query_without_end_is_ended(filled: Path, query: str) -> None:
    """After its time it is stopped with a word and exit code 1."""
    code, output, messages = sql(filled, query, "--timeout 0.5", "--csv")
    assert (code, "longer than it may" in messages) == (1, True), messages
    assert len(output.splitlines()) <= 1


@pytest.mark.parametrize(
    "query",
    [
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(100000000)",
        "SELECT replace(hex(zeroblob(10000000)), '0', 'xxxxxxxxxxxx')",
        "SELECT printf('%.*c', 200000000, 'x')",
        f"{ENDLESS} group_concat(hex(randomblob(1000000))) FROM n",
        f"{ENDLESS} i, randomblob(10000) FROM n ORDER BY 2",
    ],
)
def test_a_query_that_swells_is_ended(filled: Path, query: str) -> None:
    """At its limit of memory it is stopped with a word and exit code 1; the process never grew beyond."""
    measured = f'(ulimit -v {(64 + 700) << 10}; codex-logs sql "$QUERY" --memory 64 --csv --db {filled} > out)'
    result = shell(measured, filled.parent, {"QUERY": query})
    assert (result.returncode, "more memory than the 64 MiB" in result.stderr) == (1, True), result.stderr
    assert os.path.getsize(filled.parent / "out") < 100


def test_a_table_of_long_texts_is_ended(filled: Path) -> None:
    """A table holds all its rows at once: they count as memory, too; as CSV they go on."""
    long = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9) SELECT printf('%.*c', 5000000, 'x') FROM n"
    code, output, messages = sql(filled, long, "--memory 64")
    assert (code, output, "the table needs more memory than the 64 MiB" in messages) == (1, "", True), messages
    assert sql(filled, long, "--memory 64 --csv | wc -c")[1].strip() > "45000000"


def test_a_mistake_is_shown_at_its_place(filled: Path) -> None:
    """The line with a mark below the word, after letters of several bytes as well."""
    code, _, messages = sql(filled, "SELECT 'é',\n  speaker FROM session_events")
    lines = messages.splitlines()
    assert (code, lines[0]) == (2, "error: no such column: speaker")
    assert lines[1].index("speaker") == lines[2].index("^")
    assert "--schema" in lines[3]
    assert "parameters" in sql(filled, "SELECT ?")[2]
    assert "there is no query" in sql(filled, " -- nothing")[2]


def test_rows_are_limited(filled: Path) -> None:
    """A table ends at the limit, and says that there is more; what is for machines is whole unless told otherwise."""
    query = "SELECT seq FROM session_events"
    code, output, messages = sql(filled, query, "--limit 2")
    assert (code, output.split(), "first 2 rows" in messages) == (0, ["seq", "1", "2"], True)
    assert sql(filled, query, "--limit 3")[2] == ""
    many = f"{ENDLESS} i FROM n LIMIT 1500"
    assert len(sql(filled, many)[1].splitlines()) == 1001
    assert len(sql(filled, many, "--csv")[1].splitlines()) == 1501


def test_a_reader_that_goes_ends_it(filled: Path) -> None:
    """Whoever takes the first rows only, as `head` does, ends the query without a word."""
    result = shell(
        f'codex-logs sql "$QUERY" --csv --db {filled} | head -2', filled.parent, {"QUERY": f"{ENDLESS} i FROM n"}
    )
    assert (result.stdout.split(), result.stderr) == (["i", "1"], "")


def test_the_schema_is_shown(filled: Path) -> None:
    """The tables that people ask, each with its columns; the one that they need most comes first."""
    shown = shell(f"codex-logs sql --schema --db {filled}", filled.parent).stdout
    assert shown.startswith("session_events (view): ")
    relations = json.loads(shell(f"codex-logs sql --schema --json --db {filled}", filled.parent).stdout)
    columns = {relation["name"]: [column["name"] for column in relation["columns"]] for relation in relations}
    assert columns["session_events"][:5] == ["session_id", "seq", "ts", "role", "message"]
    assert {"sessions", "session_usage", "ingest_rejects"} <= set(columns)


def test_a_log_without_a_database_is_asked_too(tmp_path: Path, log_dir: Path) -> None:
    """Where only files are, their rows are there, and still nothing can be written."""
    (log_dir / "s.ndjson").write_text(json.dumps(NATIVE[0]) + "\n")
    env = {"CODEX_SESSION_LOG_DIR": str(log_dir)}
    result = shell("codex-logs sql --jsonl 'SELECT message FROM session_events'", tmp_path, env)
    assert result.stdout == '{"message": "=1+1"}\n'
    assert shell("codex-logs sql 'DELETE FROM events'", tmp_path, env).returncode == 2
