"""The first import into a database that isn't there yet: made beside its place, and moved there when it is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.errors import DatabaseError
from codex.logging.import_ndjson import import_all
from codex.logging.store.connection import scalar
from codex.logging.store.fresh import filled
from codex.logging.store.sqlite import Store
from tests.importer import Recorded

_KILLED = """
import os, signal, sys
from codex.logging.store.fresh import filled
def fill(store):
    store.note("mine", "1")
    os.kill(os.getpid(), signal.SIGKILL)
filled(sys.argv[1], fill)
"""


@pytest.fixture
def logged(log_dir: Path) -> Path:
    """A session of two lines."""
    (log_dir / "s.ndjson").write_bytes(b'{"message":"one"}\n{"message":"two"}\n')
    return log_dir


def mark(store: Store) -> str | None:
    """What `note` has put there."""
    found: str | None = scalar(store.connection, "SELECT value FROM meta WHERE key = 'mine'")
    return found


def test_it_is_a_database_like_any_other(logged: Path, database: Path, recorded: Recorded) -> None:
    """With every row, a write-ahead log, for its owner alone; and nothing lies beside it."""
    assert import_all(logged, database) == {"s": 2}
    assert [row[2] for row in recorded.rows()] == ["one", "two"]
    assert not [name for name in os.listdir(database.parent) if "making" in name]
    assert database.stat().st_mode & 0o777 == 0o600
    with closing(Store(str(database))) as store:
        assert store.connection.pragma("journal_mode") == "wal"


def test_nobody_sees_it_before_it_is_whole(database: Path) -> None:
    """There is no database at its place while it is filled."""
    assert filled(str(database), lambda store: database.exists()) is False
    assert database.exists()


def test_what_a_killed_import_leaves_goes_with_the_next(logged: Path, database: Path) -> None:
    """A kill in its midst leaves a folder and no database; the next import removes the one and makes the other."""
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(database)], check=False)
    assert killed.returncode == -9
    assert not database.exists()
    assert any("making" in name for name in os.listdir(database.parent))
    assert import_all(logged, database) == {"s": 2}
    assert not [name for name in os.listdir(database.parent) if "making" in name]


def test_the_folder_of_one_that_lives_stays(database: Path) -> None:
    """An import beside another one doesn't take it for dead; the one that comes second to the place begins again."""
    calls = []

    def fill(store: Store) -> str | None:
        calls.append(mark(store))
        if len(calls) == 1:
            filled(str(database), lambda other: other.note("mine", "first"))
            assert os.path.exists(store.path)
        return mark(store)

    assert filled(str(database), fill) == "first"
    assert calls == [None, "first"]
    assert [name for name in os.listdir(database.parent) if "making" in name] == []


def test_an_interrupted_one_keeps_what_it_has(database: Path) -> None:
    """Ctrl-C in its midst: what was committed is there, and the import goes on behind it the next time."""

    def fill(store: Store) -> None:
        store.note("mine", "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled(str(database), fill)
    with closing(Store(str(database))) as store:
        assert mark(store) == "1"


def test_one_that_failed_leaves_nothing(database: Path) -> None:
    """What SQLite could not write is not trusted."""

    def fill(store: Store) -> None:
        store.note("mine", "1")
        raise DatabaseError("the disk is full")

    with pytest.raises(DatabaseError):
        filled(str(database), fill)
    assert not [name for name in os.listdir(database.parent) if "db" in name]
