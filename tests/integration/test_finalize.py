"""The copy and the staging against a database that others write, and calls that fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import DatabaseError
from codex.logging.finalize import COPY_NAME, snapshot
from codex.logging.staging import _still
from codex.logging.store.connection import open_reader, open_writer, scalar
from codex.logging.store.sqlite import Store
from tests.commands import shell
from tests.daemon import wait_for

SNAPSHOT = "from codex.logging.finalize import snapshot; snapshot({!r}, {!r})"


def put(connection: apsw.Connection, count: int) -> None:
    """So many commits more."""
    for _ in range(count):
        connection.execute("INSERT INTO meta VALUES (hex(randomblob(8)), zeroblob(1000))")


def count(path: Path) -> int:
    """The rows that `put` made, in a database that passes SQLite's own check."""
    with closing(open_reader(str(path))) as connection:
        assert scalar(connection, "PRAGMA integrity_check") == "ok"
        return int(scalar(connection, "SELECT count(*) FROM meta"))


def checksum(path: Path) -> str:
    """Of the file, by another process: to open and close it here would drop SQLite's locks on it."""
    return subprocess.run(["sha256sum", str(path)], capture_output=True, check=True, text=True).stdout


def test_rows_that_are_only_in_the_log_are_copied(store: Store, database: Path, tmp_path: Path) -> None:
    """What was committed and never checkpointed is in the copy; what is not committed isn't."""
    store.connection.wal_autocheckpoint(0)
    put(store.connection, 100)
    store.connection.execute("BEGIN")
    put(store.connection, 1)
    snapshot(str(database), str(tmp_path / COPY_NAME))
    store.connection.execute("ROLLBACK")
    assert count(tmp_path / COPY_NAME) == 100


def test_older_snapshot_never_replaces_a_newer_one(store: Store, database: Path, tmp_path: Path) -> None:
    """Whoever's call returns finds in the copy all that was committed before the call, with four at it at once."""
    copy, stop = tmp_path / COPY_NAME, threading.Event()

    def finalize_again_and_again() -> int:
        rounds = 0
        with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)) as reader:
            while not stop.is_set():
                committed = scalar(reader, "SELECT count(*) FROM meta")
                snapshot(str(database), str(copy))
                assert count(copy) >= committed
                rounds += 1
        return rounds

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(finalize_again_and_again) for _ in range(4)]
        put(store.connection, 1500)
        stop.set()
        assert min(future.result() for future in futures) > 0


def test_killed_finalizer_leaves_the_former_copy_and_nothing_in_the_way(store: Store, tmp_path: Path) -> None:
    """SIGKILL while the copy is written: the former one is whole, and the next call removes what was left."""
    copy, part = tmp_path / COPY_NAME, tmp_path / f"{COPY_NAME}.part"
    put(store.connection, 10)
    snapshot(store.path, str(copy))
    store.connection.execute("INSERT INTO meta VALUES ('large', zeroblob(300000000))")
    with subprocess.Popen([sys.executable, "-c", SNAPSHOT.format(store.path, str(copy))]) as finalizer:
        wait_for(lambda: part.exists() and part.stat().st_size > 1_000_000, what="a part of the copy")
        finalizer.kill()
    assert part.exists()
    assert count(copy) == 10
    store.connection.execute("DELETE FROM meta WHERE key = 'large'")
    snapshot(store.path, str(copy))
    assert count(copy) == 10
    assert [path.name for path in tmp_path.glob(f"{COPY_NAME}*")] == [COPY_NAME, f"{COPY_NAME}.lock"]


def test_full_disk_leaves_the_former_copy(store: Store, tmp_path: Path) -> None:
    """A copy that finds no room is an error; the former one stays, and no part does."""
    copy = tmp_path / COPY_NAME
    put(store.connection, 10)
    snapshot(store.path, str(copy))
    put(store.connection, 1000)
    store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    result = shell(f'ulimit -f 500; python -c "{SNAPSHOT}"'.format(store.path, str(copy)), tmp_path)
    assert "DatabaseError" in result.stderr
    assert count(copy) == 10
    assert not (tmp_path / f"{COPY_NAME}.part").exists()


def test_folder_without_rights_is_an_error(store: Store) -> None:
    """A copy that can't be made raises DatabaseError, with what to do."""
    with pytest.raises(DatabaseError, match="codex_session_logs"):
        snapshot(store.path, f"/proc/self/{COPY_NAME}")


def test_database_is_still_while_git_reads_it(store: Store, database: Path) -> None:
    """Within `_still` the file alone is the whole database: commits go on, no checkpoint changes it until it ends."""
    store.connection.wal_autocheckpoint(0)
    put(store.connection, 100)
    with _still(str(database)) as is_still:
        assert is_still
        before = checksum(database)
        put(store.connection, 100)
        store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert checksum(database) == before
    store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    assert checksum(database) != before


def test_reader_of_the_log_prevents_stillness(store: Store, database: Path) -> None:
    """While an older reader keeps rows in the log, the file alone isn't the database, and that is said within 5 s."""
    put(store.connection, 1)
    with closing(open_reader(str(database))) as reader:
        reader.execute("BEGIN")
        scalar(reader, "SELECT count(*) FROM meta")
        put(store.connection, 1)
        with _still(str(database)) as is_still:
            assert not is_still


def test_second_connection_keeps_the_first_ones_locks(store: Store, database: Path) -> None:
    """A process that opens its database twice still has its lock, without which others delete its log under it."""

    def locks() -> str:
        inode = f":{database.stat().st_ino} "
        return "".join(line for line in Path("/proc/locks").read_text("utf-8").splitlines() if inode in line)

    put(store.connection, 1)
    assert "READ" in locks()
    with closing(open_writer(str(database))):
        assert "READ" in locks()
