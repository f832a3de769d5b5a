"""Rebuild: the same record again, from whatever is still sound; and at no moment less than there was."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import DatabaseError
from codex.logging.ingest.reader import Limits
from codex.logging.rebuild import begin, rebuild
from codex.logging.store.connection import open_reader, scalar
from codex.logging.store.merge import merge
from codex.logging.targets import Finding, targets
from codex.logging.verify import check
from tests.commands import shell, succeed
from tests.daemon import Daemon
from tests.importer import Importer
from tests.integration.conftest import lines
from tests.record import everything

LIMITS = Limits(batch=500, line=1000)


@pytest.fixture
def eventful(log_dir: Path, database: Path) -> Iterator[Importer]:
    """An importer with small limits, whose two sessions have gone through all that a log can."""
    with closing(Importer(log_dir, database, limits=LIMITS)) as importer:
        live(importer, log_dir / "s.ndjson")
        live(importer, log_dir / "t.ndjson")
        yield importer


def live(importer: Importer, path: Path) -> None:
    """Glue, break and overstretch lines, take open ones, rotate, write late, truncate, rewrite, restore and remove."""

    def write(data: bytes, number: int = 0) -> None:
        with open(f"{path}.{number}" if number else path, "ab") as log:
            log.write(data)
        importer.take(path.name + (f".{number}" if number else ""))

    write(b'\xef\xbb\xbf{"a":1}\r\n{"b":2}{"c":3}\n\n \nno json\n[1]\n\0\0{"d":4}\n\xff\n')
    write(lines(9, 30) + b'{"long":"' + b"x" * 3000 + b'"}\n' + lines(32, 40))
    write(b'{"open":1}')
    path.rename(f"{path}.1")
    write(lines(42, 60))
    write(b'{"glued":2}\n' + lines(61, 63), 1)
    write(lines(64, 70))
    path.write_bytes(lines(101, 120))
    importer.take(path.name)
    path.write_bytes(lines(101, 119) + lines(999, 999))
    importer.take(path.name)
    write(lines(121, 123))
    shutil.copy(path, f"{path}.copy")
    os.replace(f"{path}.copy", path)
    write(lines(124, 125) + b'{"tail":1}  ')
    path.rename(f"{path}.2")
    write(lines(126, 140))
    path.unlink()
    importer.take(path.name)
    write(lines(141, 142) + b'{"half":')


def rebuilt(importer: Importer) -> dict[str, list[tuple[object, ...]]]:
    """What a database has that is built anew from this one."""
    old = importer.store.connection
    with closing(begin(old, f"{importer.store.path}.new")) as new:
        steps = rebuild(old, new, LIMITS)
        assert [step for step in steps if isinstance(step, Finding)] == []
        found = (step for target in targets(new.connection) for step in check(new.connection, target, limits=LIMITS))
        assert [step for step in found if isinstance(step, Finding) and step.kind != "source"] == []
        return everything(new.connection)


def remove_sources(importer: Importer) -> None:
    """Every file goes."""
    shutil.rmtree(importer.root)


def edit_sources(importer: Importer) -> None:
    """A byte in each file is another one, unseen."""
    for path in Path(importer.root).iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def spoil_segments(importer: Importer) -> None:
    """The recorded bytes of what still has its source are no more."""
    connection = importer.store.connection
    for target in targets(connection):
        if target.source() is not None:
            connection.execute("UPDATE segments SET bytes = zeroblob(9) WHERE generation = ?", (target.generation.id,))


def spoil_rows(importer: Importer) -> None:
    """The rows say something else, or nothing."""
    importer.store.connection.execute("UPDATE events SET message = 'nothing'; DELETE FROM ingest_rejects")


def merge_all(importer: Importer) -> None:
    """The segments are few."""
    connection = importer.store.connection
    for target in targets(connection):
        while merge(connection, target.generation.id):
            pass


@pytest.mark.parametrize("what", [None, merge_all, remove_sources, edit_sources, spoil_segments, spoil_rows])
def test_it_is_the_same_record(eventful: Importer, what: Callable[[Importer], None] | None) -> None:
    """From sources, from segments, or from what is left of both: each event, reject, number and chain."""
    before = everything(eventful.store.connection)
    assert (len(before["events"]), len(before["rejects"]), len(before["generations"])) > (200, 10, 10)
    if what is not None:
        what(eventful)
    assert rebuilt(eventful) == before


def test_what_is_sound_nowhere_is_named(eventful: Importer) -> None:
    """Neither source nor segments: a finding for the generation, and the others are built."""
    edit_sources(eventful)
    connection = eventful.store.connection
    target = next(target for target in targets(connection) if target.source() is not None)
    connection.execute("DELETE FROM segments WHERE generation = ?", (target.generation.id,))
    with closing(begin(connection, f"{eventful.store.path}.new")) as new:
        found = [step for step in rebuild(connection, new, LIMITS) if isinstance(step, Finding)]
        assert [(step.kind, step.generation, step.end) for step in found] == [
            ("lost", target.generation.id, target.length)
        ]
        assert scalar(new.connection, "SELECT count(DISTINCT generation) FROM segments") == len(targets(connection)) - 1


def test_an_interrupted_one_goes_on(eventful: Importer) -> None:
    """What was built is not built again; the result is the same."""
    old, path = eventful.store.connection, f"{eventful.store.path}.new"
    with closing(begin(old, path)) as new:
        steps = rebuild(old, new, LIMITS)
        taken = sum(step for step in [next(steps) for _ in range(30)] if isinstance(step, int))
        steps.close()
    with closing(begin(old, path)) as new:
        rest = [step for step in rebuild(old, new, LIMITS) if isinstance(step, int)]
        assert taken + sum(rest) == sum(target.length for target in targets(old))
        assert everything(new.connection) == everything(old)


def test_one_of_another_ledger_begins_anew(eventful: Importer, log_dir: Path) -> None:
    """When the old database has changed since, what was built of it is dropped."""
    old, path = eventful.store.connection, f"{eventful.store.path}.new"
    with closing(begin(old, path)) as new:
        steps = rebuild(old, new, LIMITS)
        _ = [next(steps) for _ in range(30)]
        steps.close()
    (log_dir / "u.ndjson").write_bytes(lines(1, 9))
    eventful.take("u.ndjson")
    with closing(begin(old, path)) as new:
        assert scalar(new.connection, "SELECT count(*) FROM segments") == 0
        assert [step for step in rebuild(old, new, LIMITS) if isinstance(step, Finding)] == []
        assert everything(new.connection) == everything(old)


def test_another_database_is_not_overwritten(eventful: Importer, tmp_path: Path, log_dir: Path) -> None:
    """A name that a database has already is refused; one that a rebuild left there unfinished isn't."""
    other = tmp_path / "other.db"
    with closing(Importer(log_dir, other)) as importer:
        importer.take("t.ndjson")
        before = everything(importer.store.connection)
    with pytest.raises(DatabaseError, match="is a database already"):
        begin(eventful.store.connection, str(other))
    with closing(open_reader(str(other))) as connection:
        assert everything(connection) == before


# -- the command


@pytest.fixture
def session(importer: Importer, log_dir: Path) -> Importer:
    """A closed database with one session of 100 lines."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 100))
    importer.take()
    importer.close()
    return importer


def held(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that is in the database under this path."""
    with closing(open_reader(str(database))) as connection:
        return everything(connection)


def test_the_database_is_swapped(session: Importer, database: Path, log_dir: Path, tmp_path: Path) -> None:
    """With its owner and mode; the former one stays beside it; and the next import goes on."""
    database.chmod(0o640)
    before = held(database)
    said = succeed(f"codex-ingestd rebuild --db {database}", tmp_path)
    kept = Path(f"{database}.before-rebuild")
    assert str(kept) in said
    assert (held(database), held(kept)) == (before, before)
    assert database.stat().st_mode & 0o777 == 0o640
    assert database.stat().st_ino != kept.stat().st_ino
    assert not Path(f"{database}.rebuild").exists()
    with (log_dir / "s.ndjson").open("ab") as log:
        log.write(lines(101, 102))
    succeed(f"codex-import-ndjson --all --log-dir {log_dir} --db {database}", tmp_path)
    assert len(held(database)["events"]) == 102
    succeed(f"codex-ingestd verify --deep --db {database}", tmp_path)


def test_only_a_new_file(session: Importer, database: Path, tmp_path: Path) -> None:
    """With --new nothing is swapped."""
    inode = database.stat().st_ino
    new = tmp_path / "new.db"
    succeed(f"codex-ingestd rebuild --db {database} --new {new}", tmp_path)
    assert held(new) == held(database)
    assert database.stat().st_ino == inode
    again = shell(f"codex-ingestd rebuild --db {database} --new {new}", tmp_path)
    assert (again.returncode, "is a database already" in again.stderr) == (1, True)


def test_a_running_daemon_is_not_disturbed(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """Exit code 3, with the daemon's pid."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 9))
    daemon.start()
    daemon.wait_for_rows(9)
    result = shell(f"codex-ingestd rebuild --db {daemon.database}", tmp_path)
    assert daemon.process is not None
    assert (result.returncode, str(daemon.process.pid) in result.stderr) == (3, True)


def test_no_database_is_made_of_nothing(tmp_path: Path) -> None:
    """Exit code 2, and no file."""
    assert shell("codex-ingestd rebuild --db no.db", tmp_path).returncode == 2
    assert not (tmp_path / "no.db").exists()


def test_what_a_killed_daemon_left_in_its_log_is_there(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """A write-ahead log beside the old file is part of it, and doesn't stay to be part of the new one."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 9))
    daemon.start()
    daemon.wait_for_rows(9)
    daemon.kill()
    assert Path(f"{daemon.database}-wal").stat().st_size > 0
    (log_dir / "s.ndjson").unlink()
    succeed(f"codex-ingestd rebuild --db {daemon.database}", tmp_path)
    assert len(daemon.rows()) == 9
    assert len(held(Path(f"{daemon.database}.before-rebuild"))["events"]) == 9
    succeed(f"codex-ingestd verify --deep --db {daemon.database}", tmp_path)


def test_a_damaged_file_is_mended(importer: Importer, database: Path, log_dir: Path, tmp_path: Path) -> None:
    """Pages of events are gone: SQLite can't read them, the record is whole again all the same."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 2000))
    importer.take()
    before = everything(importer.store.connection)
    _spoil_pages(importer, "events")
    (log_dir / "s.ndjson").unlink()
    assert shell(f"codex-ingestd verify --db {database}", tmp_path).returncode == 1
    succeed(f"codex-ingestd rebuild --db {database}", tmp_path)
    assert held(database)["events"] == before["events"]
    succeed(f"codex-ingestd verify --deep --db {database}", tmp_path)


def test_a_damaged_ledger_is_told_of(importer: Importer, database: Path, log_dir: Path, tmp_path: Path) -> None:
    """Without it nothing can be rebuilt: exit code 1, and what to do instead."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 20))
    importer.take()
    _spoil_pages(importer, "generations")
    result = shell(f"codex-ingestd rebuild --db {database}", tmp_path)
    assert (result.returncode, "move it away" in result.stderr) == (1, True)
    assert not Path(f"{database}.before-rebuild").exists()


def _spoil_pages(importer: Importer, table: str) -> None:
    """Overwrite every leaf page of a table, in the closed file."""
    connection = importer.store.connection
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    pages = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)).fetchall()
    importer.close()
    with open(importer.store.path, "r+b") as file:
        for (page,) in pages:
            file.seek((int(page) - 1) * 16384)
            file.write(b"\xff" * 16384)


def test_nothing_is_swapped_for_less(session: Importer, database: Path, log_dir: Path, tmp_path: Path) -> None:
    """Where bytes are sound nowhere: exit code 1, and the old file stays what it is."""
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("DELETE FROM segments WHERE start_offset = 4000")
    (log_dir / "s.ndjson").unlink()
    inode = database.stat().st_ino
    result = shell(f"codex-ingestd rebuild --db {database}", tmp_path)
    assert (result.returncode, "no sound bytes" in result.stderr) == (1, True)
    assert database.stat().st_ino == inode


def test_what_others_keep_in_the_file_stays(session: Importer, database: Path, tmp_path: Path) -> None:
    """Tables with their indexes, triggers and views; names that need quotes, and columns that are computed."""
    script = """
    CREATE TABLE logs (ts REAL, session TEXT, kind TEXT, message TEXT);
    CREATE INDEX logs_by_session ON logs (session);
    INSERT INTO logs VALUES (1.5, 's', 'x', 'hello'), (2.5, 't', 'y', NULL);
    CREATE TABLE "odd ""name" (id TEXT PRIMARY KEY, a BLOB, b INTEGER GENERATED ALWAYS AS (length(a))) WITHOUT ROWID;
    INSERT INTO "odd ""name" (id, a) VALUES ('1', x'00ff');
    CREATE VIEW recent AS SELECT message FROM logs WHERE ts > 2;
    CREATE TABLE counted (n INTEGER);
    CREATE TRIGGER counting AFTER INSERT ON logs BEGIN INSERT INTO counted VALUES (NEW.ts); END;
    """
    queries = ["SELECT * FROM logs", 'SELECT * FROM "odd ""name"', "SELECT * FROM recent", "SELECT * FROM counted"]
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    with closing(sqlite3.connect(database)) as user:
        user.executescript(script)
        before = [user.execute(query).fetchall() for query in (*queries, schema)]
    succeed(f"codex-ingestd rebuild --db {database}", tmp_path)
    with closing(sqlite3.connect(database)) as user:
        assert [user.execute(query).fetchall() for query in (*queries, schema)] == before


def test_a_virtual_table_of_others_stops_nothing(session: Importer, database: Path, tmp_path: Path) -> None:
    """A search index that somebody else made can't be copied row by row: it is left out."""
    with closing(sqlite3.connect(database)) as user:
        user.execute("CREATE VIRTUAL TABLE mine USING fts5(text)")
        user.execute("INSERT INTO mine VALUES ('hello')")
        user.commit()
    before = held(database)
    succeed(f"codex-ingestd rebuild --db {database}", tmp_path)
    assert held(database) == before


def test_a_reader_of_the_old_file_goes_on(session: Importer, database: Path, tmp_path: Path) -> None:
    """It reads what it opened; who opens the path from then on reads the new one."""
    before = held(database)
    with closing(open_reader(str(database))) as connection:
        count = connection.execute("SELECT seq FROM events")
        assert next(count) == (1,)
        succeed(f"codex-ingestd rebuild --db {database}", tmp_path)
        assert [row[0] for row in count] == list(range(2, 101))
    assert held(database) == before


KILLS = [("pwrite64", number) for number in (1, 7, 40)] + [("unlink,link,rename", number) for number in range(1, 16)]
FIRST_KILLS = {("pwrite64", 40), ("unlink,link,rename", 11), ("unlink,link,rename", 14), ("unlink,link,rename", 15)}


@pytest.mark.parametrize(
    ("call", "number"), [kill if kill in FIRST_KILLS else pytest.param(*kill, marks=pytest.mark.long) for kill in KILLS]
)
def test_a_kill_at_any_moment_loses_nothing(
    session: Importer, database: Path, log_dir: Path, tmp_path: Path, call: str, number: int
) -> None:
    """SIGKILL at the n-th call that changes files: the path always is a whole database, and another rebuild ends."""
    (log_dir / "s.ndjson").unlink()
    before = held(database)
    command = f"codex-ingestd rebuild --db {database}"
    inject = f"-e 'trace={call}' -e 'inject={call}:signal=SIGKILL:when={number}'"
    shell(f"strace -f -qq -o {tmp_path}/trace {inject} {command}", tmp_path)
    assert held(database) == before
    succeed(command, tmp_path)
    assert held(database) == before
    succeed(f"codex-ingestd verify --deep --db {database}", tmp_path)
