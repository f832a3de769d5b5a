"""Purge: only what is safe or wanted gone goes, and then it is gone; the record still verifies."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import zstandard

from codex.logging.errors import DatabaseError, StaleWatermarkError
from codex.logging.purge import Wish, purge
from codex.logging.store.connection import scalar
from codex.logging.store.merge import merge
from codex.logging.store.rows import Rows
from codex.logging.targets import Finding, targets
from codex.logging.verify import check
from tests.commands import shell, succeed
from tests.daemon import Daemon
from tests.importer import Importer

ALL = Wish(before=float("inf"), session_ids=(), sources=True, rows=True, dry_run=False)
SECRET = "the secret of "


def secret(name: str, count: int = 50) -> bytes:
    """Lines that tell, each of them, whose secret they are."""
    return b"".join(
        b'{"role":"user","message":"%s%s %d"}\n' % (SECRET.encode(), name.encode(), n) for n in range(count)
    )


def write(importer: Importer, name: str, data: bytes) -> Path:
    """A session's file, ingested."""
    path = Path(importer.root) / f"{name}.ndjson"
    with path.open("ab") as log:
        log.write(data)
    importer.take(path.name)
    return path


def fates(importer: Importer, wish: Wish = ALL) -> dict[str, str | None]:
    """Of each session, why it had to stay."""
    return {result.session_id: result.kept_because for result in purge(importer.store, wish)}


def findings(importer: Importer) -> list[Finding]:
    """What verify says."""
    connection = importer.store.connection
    steps = [step for target in targets(connection) for step in check(connection, target, deep=True)]
    return [step for step in steps if isinstance(step, Finding)]


def count(importer: Importer, table: str) -> int:
    """Rows of a table."""
    return int(scalar(importer.store.connection, f"SELECT count(*) FROM {table}"))


def test_tombstones_let_verify_close(importer: Importer) -> None:
    """Files and rows are gone, each generation's length and chain stay, and verify is clean."""
    path = write(importer, "s", secret("s") + b"no json\n")
    path.rename(f"{path}.1")
    write(importer, "s", secret("s later"))
    write(importer, "other", secret("other"))
    chains = [target.generation.chain for target in targets(importer.store.connection)]
    assert fates(importer, ALL._replace(session_ids=("s",))) == {"s": None}
    assert [name for name in os.listdir(importer.root) if not name.startswith(".")] == ["other.ndjson"]
    stones = importer.store.connection.execute("SELECT session_id, length, chain FROM tombstones").fetchall()
    assert stones == [("s", len(secret("s")) + 8, chains[0]), ("s", len(secret("s later")), chains[1])]
    assert (count(importer, "events"), count(importer, "ingest_rejects")) == (50, 0)
    assert findings(importer) == []


def test_leftovers_of_a_purged_generation_are_found(importer: Importer) -> None:
    """A row that comes back, or another length, doesn't go unseen."""
    write(importer, "s", secret("s"))
    connection = importer.store.connection
    columns = "id, end_offset, first_seq, lines, chain, bytes"
    connection.execute(f"CREATE TEMP TABLE kept AS SELECT {columns} FROM segments")
    fates(importer)
    connection.execute(f"INSERT INTO segments ({columns}) SELECT * FROM kept")
    assert [finding.kind for finding in findings(importer)] == ["tombstone"]
    connection.execute("DELETE FROM segments; UPDATE tombstones SET length = length - 1")
    assert [finding.kind for finding in findings(importer)] == ["tombstone"]


def grown(path: Path) -> None:
    """A line more, not yet ingested."""
    with path.open("ab") as log:
        log.write(secret("s", 1))


def edited(path: Path) -> None:
    """Another byte in the midst of it."""
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)


def rotated(path: Path) -> None:
    """A new file in its place, not yet seen."""
    path.rename(f"{path}.1")
    path.write_bytes(secret("s", 1))


STAY: dict[str, tuple[Callable[[Path], None], str]] = {
    "an open tail": (lambda path: path.write_bytes(path.read_bytes() + b'{"half'), "not wholly ingested"),
    "a line more": (grown, "not wholly ingested"),
    "an edit": (edited, "doesn't verify"),
    "a cut": (lambda path: os.truncate(path, 100), "not wholly ingested"),
    "a new file": (rotated, "not wholly ingested"),
}


@pytest.mark.parametrize("what", STAY)
def test_what_is_not_safe_stays(importer: Importer, what: str) -> None:
    """With a reason; the others go."""
    path = write(importer, "s", secret("s"))
    write(importer, "other", secret("other"))
    change, reason = STAY[what]
    change(path)
    left = path.read_bytes()
    told = fates(importer)
    assert (reason in str(told["s"]), told["other"]) == (True, None)
    assert path.read_bytes() == left
    assert count(importer, "events") == 50


def test_a_damaged_record_stays(importer: Importer) -> None:
    """The file of a session whose rows don't verify may be all that is left."""
    path = write(importer, "s", secret("s"))
    importer.store.connection.execute("DELETE FROM events WHERE seq = 7")
    assert "doesn't verify" in str(fates(importer, ALL._replace(rows=False))["s"])
    assert path.exists()


def test_what_a_reader_kept_goes_the_next_time(importer: Importer) -> None:
    """No rotated file is left alone, where nobody looks for one: the oldest goes first."""
    for text in ("older", "old", "new"):
        path = Path(importer.root) / "s.ndjson"
        for number in (1, 0):
            source = path.with_name(f"s.ndjson.{number}") if number else path
            if source.exists():
                source.rename(path.with_name(f"s.ndjson.{number + 1}"))
        write(importer, "s", secret(text))
    old = path.with_name("s.ndjson.2")
    with old.open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_SH)
        assert "can't be removed" in str(fates(importer)["s"])
    assert fates(importer) == {"s": None}
    assert list(path.parent.glob("s.ndjson*")) == []


def test_what_is_being_written_stays(importer: Importer) -> None:
    """A file whose lock is held, or that was written after it was looked at."""
    path = write(importer, "s", secret("s"))
    with path.open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_SH)
        assert "can't be removed" in str(fates(importer)["s"])
    assert path.exists()
    assert count(importer, "events") == 50


def test_young_sessions_stay(importer: Importer) -> None:
    """By their last commit, and by their file's time."""
    path = write(importer, "s", secret("s"))
    committed = float(scalar(importer.store.connection, "SELECT committed_at FROM generations"))
    assert fates(importer, ALL._replace(before=committed)) == {}
    os.utime(path, (committed + 50, committed + 50))
    importer.take()
    assert "written lately" in str(fates(importer, ALL._replace(before=committed + 10))["s"])


def test_halves(importer: Importer) -> None:
    """Files alone: rows stay and are restored from. Rows alone: only where no file is left to be ingested anew."""
    path = write(importer, "s", secret("s"))
    assert "its files are still there" in str(fates(importer, ALL._replace(sources=False))["s"])
    assert fates(importer, ALL._replace(rows=False)) == {"s": None}
    assert (path.exists(), count(importer, "events"), findings(importer)) == (False, 50, [])
    assert fates(importer, ALL._replace(rows=False)) == {}
    assert fates(importer, ALL._replace(sources=False)) == {"s": None}
    assert (count(importer, "events"), findings(importer)) == (0, [])


def packed(importer: Importer) -> Path:
    """Session s, ingested from a file that its agent has then compressed, and ingested from that."""
    path = write(importer, "s", secret("s"))
    target = path.with_name("s.ndjson.zst")
    target.write_bytes(zstandard.compress(path.read_bytes() + secret("s later")))
    path.unlink()
    assert "not wholly ingested" in str(fates(importer)["s"])
    return target


def test_a_packed_file_goes_like_any_other(importer: Importer, tmp_path: Path) -> None:
    """Where the agent has compressed it, what it holds counts, not its size on the disk."""
    path = packed(importer)
    succeed(f"codex-import-ndjson --all --log-dir {importer.root} --db {importer.store.path}", tmp_path)
    assert (count(importer, "events"), fates(importer), path.exists()) == (100, {"s": None}, False)
    assert (count(importer, "events"), findings(importer)) == (0, [])


def test_a_packed_file_goes_beside_who_has_read_it(importer: Importer) -> None:
    """An importer, as a daemon has one, lets a file's lock go once it has read."""
    path = packed(importer)
    importer.sweep()
    assert (count(importer, "events"), fates(importer), path.exists()) == (100, {"s": None}, False)


def test_a_dry_run_changes_nothing(importer: Importer) -> None:
    """It tells what would go and what would stay."""
    path = write(importer, "s", secret("s"))
    edited(write(importer, "other", secret("other")))
    before = Path(importer.store.path).stat().st_mtime_ns
    told = fates(importer, ALL._replace(dry_run=True))
    assert (told["s"], "doesn't verify" in str(told["other"])) == (None, True)
    assert (path.exists(), count(importer, "events")) == (True, 100)
    assert Path(importer.store.path).stat().st_mtime_ns == before


def test_nothing_of_it_is_left_in_any_file(importer: Importer) -> None:
    """No text, no compressed bytes: not in free pages, not in gaps of others' pages, not in the log."""
    for number in range(300):  # two live sessions by turns: pages are split, and rows move between them
        write(importer, "s", secret(f"s {number}", 1))
        write(importer, "other", secret(f"other {number}", 1))
        if number % 100 == 99:
            importer.store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    for generation in (1, 2):
        while merge(importer.store.connection, generation):
            pass
    for number in range(300, 310):
        write(importer, "s", secret(f"s {number}", 1))
    frames = [row[0] for row in importer.store.connection.execute("SELECT bytes FROM segments WHERE generation = 1")]
    assert _holding(importer, SECRET.encode() + b"s ")
    assert fates(importer, ALL._replace(session_ids=("s",))) == {"s": None}
    assert _holding(importer, SECRET.encode() + b"s ") == []
    assert [_holding(importer, bytes(frame[10:60])) for frame in frames] == [[]] * len(frames)
    assert _holding(importer, SECRET.encode() + b"other ")
    assert findings(importer) == []


def _holding(importer: Importer, text: bytes) -> list[str]:
    """The database's files that hold these bytes."""
    database = Path(importer.store.path)
    return [path.name for path in database.parent.glob(f"{database.name}*") if text in path.read_bytes()]


def test_a_log_that_can_not_be_emptied_is_told_of(importer: Importer, environment: pytest.MonkeyPatch) -> None:
    """A reader holds it: the rows are gone, an error says that the file isn't clear; the next purge clears it."""
    write(importer, "s", secret("s"))
    environment.setattr("codex.logging.wiping._TRUNCATE_SECONDS", 0.0)
    importer.store.connection.set_busy_timeout(50)
    with closing(apsw.Connection(importer.store.path)) as reader:
        held = reader.execute("SELECT * FROM events")
        next(held)
        results = purge(importer.store, ALL)
        assert next(results).kept_because is None
        with pytest.raises(DatabaseError) as raised:
            next(results)
        assert "do it again" in raised.value.hint
        assert _holding(importer, SECRET.encode())
    assert fates(importer) == {}
    assert _holding(importer, SECRET.encode()) == []


def test_a_file_that_comes_back_is_ingested_anew(importer: Importer) -> None:
    """A purge isn't a ban: restored from a backup, it is a new life, with new numbers."""
    path = write(importer, "s", secret("s"))
    fates(importer)
    importer.take()
    path.write_bytes(secret("s"))
    assert importer.take() == 50
    seqs = importer.store.connection.execute("SELECT seq FROM session_events ORDER BY seq").fetchall()
    assert seqs == [(number,) for number in range(51, 101)]
    assert findings(importer) == []


@pytest.mark.parametrize("again", ["s again", "s"])
def test_an_importer_that_knew_the_session_goes_on(importer: Importer, log_dir: Path, again: str) -> None:
    """Another process purges: whoever remembers the old life neither revives it nor stumbles over it."""
    path = write(importer, "s", secret("s"))
    os.link(path, log_dir / "same-inode")
    with closing(Importer(log_dir, Path(importer.store.path))) as other:
        assert fates(other) == {"s": None}
    os.rename(log_dir / "same-inode", path)
    path.write_bytes(secret(again))
    write(importer, "s", secret("s once more"))
    write(importer, "s", secret("s for the third time"))
    assert count(importer, "events") == 150
    assert findings(importer) == []


def test_a_purged_life_takes_no_rows(importer: Importer) -> None:
    """A batch that was read before the purge is refused after it."""
    write(importer, "s", secret("s"))
    stream = importer.store.stream(importer.root, "s.ndjson")
    assert stream is not None
    (generation,) = stream.generations
    after = generation.cursor._replace(offset=generation.cursor.offset + 3, seq=51, lines=51)
    fates(importer)
    rows = Rows(generation.id << 40, [b"{}\n"], generation.cursor, after, [], [], [])
    with pytest.raises(StaleWatermarkError):
        importer.store.commit(stream, generation._replace(cursor=after), rows, None)
    assert findings(importer) == []


def test_what_is_written_while_it_is_verified_stays(importer: Importer, environment: pytest.MonkeyPatch) -> None:
    """The file is looked at once more, under its lock, before it goes."""
    path = write(importer, "s", secret("s"))

    def slow(*arguments: Any, **options: Any) -> Iterator[int | Finding]:
        grown(path)
        return check(*arguments, **options)

    environment.setattr("codex.logging.purge.check", slow)
    assert "changed meanwhile" in str(fates(importer)["s"])
    assert path.read_bytes() == secret("s") + secret("s", 1)
    assert count(importer, "events") == 50


def test_beside_a_running_daemon(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """It revives nothing that was purged, and goes on with the session when that is written again."""
    for name in ("s", "t"):
        (log_dir / f"{name}.ndjson").write_bytes(secret(name))
    daemon.start()
    daemon.wait_for_rows(100)
    result = shell(f"codex-ingestd purge --days 0 --rows --sources --json --db {daemon.database}", tmp_path)
    assert {fate["session_id"]: fate["kept_because"] for fate in json.loads(result.stdout)} == {"s": None, "t": None}
    assert result.returncode == 0, result.stderr
    assert daemon.rows() == []
    for name in ("s", "t"):
        (log_dir / f"{name}.ndjson").write_bytes(secret(f"{name} again", 60))
    assert len(daemon.wait_for_rows(120)) == 120
    assert daemon.stop() == 0
    succeed(f"codex-ingestd verify --deep --db {daemon.database}", tmp_path)
    rows = daemon.rows()
    assert all("again" in row.message for row in rows)
    assert not [record for record in daemon.told("") if record["level"] == "error"]


def test_the_command(log_dir: Path, database: Path, tmp_path: Path) -> None:
    """Old sessions' files go by default; exit code 1 where something had to stay, 2 without a database."""
    command = f"codex-ingestd purge --days 1 --db {database}"
    assert shell(command, tmp_path).returncode == 2
    assert not database.exists()
    for name, tail in {"new": b"", "old": b"", "open": b'{"half'}.items():
        (log_dir / f"{name}.ndjson").write_bytes(secret(name) + tail)
        os.utime(log_dir / f"{name}.ndjson", (1, 1))
    succeed(f"codex-import-ndjson --all --log-dir {log_dir} --db {database}", tmp_path)
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("UPDATE generations SET committed_at = 1 WHERE stream > 1")
    assert shell(command, tmp_path, {"TEST_MODE": "1"}).returncode == 2
    assert (
        succeed(f"{command} --session old --dry-run", tmp_path) == "old: would go: 1 file\n1 session would go, 0 kept\n"
    )
    result = shell(command, tmp_path)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (1, "1 session gone, 1 kept")
    assert sorted(path.stem for path in log_dir.glob("*.ndjson")) == ["new", "open"]
    assert succeed(f"codex-ingestd restore old --db {database}", tmp_path) == secret("old").decode()
    assert succeed(f"{command} --session old --rows", tmp_path).endswith("1 session gone, 0 kept\n")
    result = shell(f"codex-ingestd restore old --db {database}", tmp_path)
    assert (result.returncode, result.stdout, "was purged" in result.stderr) == (1, "", True)
