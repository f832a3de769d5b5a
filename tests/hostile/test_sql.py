"""A database file that somebody else made; what a hostile query may do is in acceptance/test_sql.py."""

from __future__ import annotations

import random
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import CodexLoggingError
from codex.logging.rows import Selection, read_rows
from codex.logging.store.connection import open_reader, open_writer
from codex.logging.targets import targets
from codex.logging.verify import check
from tests.commands import shell
from tests.importer import Importer

SCHEMA = "UPDATE sqlite_schema SET sql = 'CREATE TABLE x (y)' WHERE name = 'meta'"


@pytest.fixture
def filled(log_dir: Path, database: Path) -> Path:
    """A database of one session."""
    (log_dir / "s.ndjson").write_bytes(b'{"role":"user","message":"some words"}\n' * 200)
    with closing(Importer(log_dir, database)) as importer:
        importer.take()
    return database


@pytest.mark.parametrize("opened", [open_reader, open_writer])
def test_a_crafted_view_calls_no_function_of_ours(filled: Path, opened: object) -> None:
    """What the file's own schema says runs nothing that has an effect outside of it."""
    with closing(apsw.Connection(str(filled))) as connection:
        connection.execute("DROP VIEW session_events; CREATE VIEW session_events AS SELECT touch('x') AS message")
    called: list[object] = []
    with closing(opened(str(filled))) as connection:  # type: ignore[operator]
        connection.create_scalar_function("touch", called.append)
        with pytest.raises(apsw.SQLError, match="unsafe use of touch"):
            list(connection.execute("SELECT message FROM session_events"))
    assert called == []


def test_a_crafted_trigger_changes_no_schema_and_no_hidden_table(filled: Path) -> None:
    """A writer can't be made to rewrite the schema, or what the search index keeps for itself."""
    with closing(open_writer(str(filled))) as connection:
        hidden = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%\\_data' ESCAPE '\\'")
        ]
        connection.execute("PRAGMA writable_schema = on")
        for query in (SCHEMA, *(f"DELETE FROM {name}" for name in hidden)):
            with pytest.raises(apsw.SQLError, match="may not be modified"):
                connection.execute(query)
        assert hidden
        assert connection.pragma("cell_size_check")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_database_is_told_of(filled: Path, seed: int) -> None:
    """Bytes that are others than were written, anywhere: rows, or an error of ours; the process goes on."""
    with closing(apsw.Connection(str(filled))) as connection:
        connection.pragma("journal_mode", "delete")
    whole = filled.read_bytes()
    chance = random.Random(seed)
    for _ in range(10):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 20, 400))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        filled.write_bytes(data)
        with suppress(CodexLoggingError, apsw.Error):
            list(read_rows(str(filled), Selection("s")))
        with suppress(CodexLoggingError, apsw.Error), closing(open_reader(str(filled))) as connection:
            for target in targets(connection):
                list(check(connection, target, deep=True))
        with suppress(CodexLoggingError, apsw.Error), closing(open_writer(str(filled))):
            pass


def test_a_command_on_a_damaged_database_says_so(filled: Path) -> None:
    """One line and what to do, no traceback."""
    with closing(apsw.Connection(str(filled))) as connection:
        connection.pragma("journal_mode", "delete")
    data = bytearray(filled.read_bytes())
    data[100 : len(data)] = b"\xa5" * (len(data) - 100)
    filled.write_bytes(data)
    for command in ("codex-logs sessions", "codex-logs sql 'SELECT * FROM events'", "codex-ingestd verify"):
        done = shell(f"{command} --db {filled}", filled.parent)
        assert done.returncode in (1, 2), done
        assert "hint: " in done.stderr, done
        assert "Traceback" not in done.stderr
