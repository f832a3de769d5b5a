"""Merging: far fewer segments, the same record; whenever it ends, and however."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.restore import restored
from codex.logging.store.connection import open_reader, scalar
from codex.logging.store.merge import LONG_REST_SECONDS, MERGED_BYTES, REST_SECONDS, merge, merge_next
from codex.logging.store.segments import compress
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import read_streams
from codex.logging.targets import targets
from codex.logging.verify import check
from tests.importer import Importer
from tests.integration.conftest import lines

_MERGER = """
import sys, time
from codex.logging.store.merge import merge_next
from codex.logging.store.sqlite import Store
store = Store(sys.argv[1])
while merge_next(store.connection, time.time() + 1000):
    pass
"""


def bare(choose: random.Random, number: int) -> bytes:
    """A line of our own writer's mean length, of text that compresses about as text does."""
    words = choose.choices(["the", "to", "error", "file", "tests", "why", "record"], k=choose.randint(30, 100))
    return f'{{"ts":"2026-01-02T03:04:05Z","role":"user","n":{number},"message":"{" ".join(words)}"}}\n'.encode()


def record(connection: apsw.Connection) -> tuple[bytes, list[bytes]]:
    """All that is restored, and the chains of the ledger."""
    generations = [generation for stream in read_streams(connection) for generation in stream.generations]
    return b"".join(restored(connection, generations)), [generation.chain for generation in generations]


def count(connection: apsw.Connection) -> int:
    """How many segments there are."""
    return int(scalar(connection, "SELECT count(*) FROM segments"))


def is_sound(connection: apsw.Connection) -> bool:
    """Whether verify finds nothing."""
    steps: Iterator[object] = (step for target in targets(connection) for step in check(connection, target, deep=True))
    return all(isinstance(step, int) for step in steps)


def rest(importer: Importer) -> float:
    """A time at which all that is recorded has rested for long."""
    return float(scalar(importer.store.connection, "SELECT max(committed_at) FROM generations")) + LONG_REST_SECONDS


@pytest.mark.parametrize("commits", [2000, pytest.param(20_000, marks=pytest.mark.long)])
def test_a_live_session_ends_as_small_as_a_backfill(importer: Importer, log_dir: Path, commits: int) -> None:
    """One commit a line, then merged: a segment for 256 KiB at most, within 10 % of one import's size."""
    choose = random.Random(1)
    written = [bare(choose, number) for number in range(commits)]
    with (log_dir / "s.ndjson").open("ab", buffering=0) as log:
        for line in written:
            log.write(line)
            importer.take(final=False)
    connection = importer.store.connection
    before = record(connection)
    assert (count(connection), before[0]) == (commits, b"".join(written))
    while merge_next(connection, rest(importer)):
        pass
    assert count(connection) <= max(1, len(before[0]) // (256 << 10))
    assert record(connection) == before
    assert is_sound(connection)
    with closing(Importer(log_dir, log_dir.parent / "backfill.db")) as backfill:
        backfill.take()
        assert size(importer) <= 1.1 * size(backfill)


def size(importer: Importer) -> int:
    """Bytes of the database file, once free pages are given back."""
    importer.store.connection.execute("PRAGMA incremental_vacuum").fetchall()
    importer.store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return Path(importer.store.path).stat().st_size


def test_only_what_rests_is_merged(importer: Importer, log_dir: Path) -> None:
    """Not before 10 s; and the large last segment not for a few bytes more, before a long rest."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 400))
    importer.take()
    connection = importer.store.connection
    committed = rest(importer) - LONG_REST_SECONDS
    assert (merge_next(connection, committed + REST_SECONDS - 1), count(connection)) == (False, 10)
    while merge_next(connection, committed + REST_SECONDS):
        pass
    assert count(connection) == 1
    path.write_bytes(lines(1, 401))
    importer.take()
    committed = rest(importer) - LONG_REST_SECONDS
    assert not merge_next(connection, committed + REST_SECONDS)
    while merge_next(connection, committed + LONG_REST_SECONDS):
        pass
    assert count(connection) == 1


def test_a_step_is_small(importer: Importer, log_dir: Path) -> None:
    """However many generations wait: each step takes a bounded number of them, or of segments."""
    for number in range(250):
        (log_dir / f"{number}.ndjson").write_bytes(lines(1, 1))
        importer.take(f"{number}.ndjson")
    connection = importer.store.connection
    steps = 0
    while merge_next(connection, rest(importer)):
        steps += 1
    assert steps == 3


def test_merged_segments_stay_within_bounds(importer: Importer, log_dir: Path) -> None:
    """None grows beyond a MiB, also where a line is longer; one that is larger all the same stays as it is."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 15_000) + lines(1, 1, 2 * MERGED_BYTES) + lines(1, 30))
    importer.take()
    connection = importer.store.connection
    while merge(connection, 1):
        pass
    query = "SELECT end_offset - start_offset FROM segments ORDER BY id"
    sizes = [row[0] for row in connection.execute(query)]
    assert (len(sizes), max(sizes)) == (5, MERGED_BYTES)
    _join(connection, sum(sizes[:2]), sum(sizes[:3]), path.read_bytes())
    connection.execute("UPDATE generations SET merged_offset = 0")
    while merge(connection, 1):
        pass
    assert [row[0] for row in connection.execute(query)] == [*sizes[:2], sizes[2] + sizes[3], sizes[4]]
    assert is_sound(connection)


def _join(connection: apsw.Connection, first: int, second: int, data: bytes) -> None:
    """Make one segment of the two that start there."""
    query = "SELECT end_offset, lines, chain FROM segments WHERE start_offset = ?"
    end, lines, chain = next(connection.execute(query, (second,)))
    connection.execute("DELETE FROM segments WHERE start_offset = ?", (second,))
    connection.execute(
        "UPDATE segments SET end_offset = ?, lines = lines + ?, chain = ?, bytes = ? WHERE start_offset = ?",
        (end, lines, chain, compress(data[first:end]), first),
    )


def test_a_damaged_segment_is_left_for_verify(importer: Importer, log_dir: Path) -> None:
    """Merging neither hides it nor stumbles over it time and again; what comes behind it is another time's work."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 400))
    importer.take()
    connection = importer.store.connection
    connection.execute("UPDATE segments SET bytes = zeroblob(40) WHERE start_offset = 4000")
    while merge_next(connection, rest(importer)):
        pass
    (finding,) = [step for step in check(connection, targets(connection)[0]) if not isinstance(step, int)]
    assert (finding.kind, finding.offset, finding.end) == ("segment", 4000, 8000)


def test_a_missing_segment_is_not_bridged(importer: Importer, log_dir: Path) -> None:
    """The neighbours of a hole don't become one."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 400))
    importer.take()
    connection = importer.store.connection
    connection.execute("DELETE FROM segments WHERE start_offset = 4000")
    while merge_next(connection, rest(importer)):
        pass
    (finding,) = [step for step in check(connection, targets(connection)[0]) if not isinstance(step, int)]
    assert (finding.kind, finding.offset, finding.end) == ("segment", 4000, 8000)


def test_numbers_that_jump_are_kept(importer: Importer, log_dir: Path) -> None:
    """Late lines of a rotated file have later numbers than the segment before: what is decoded anew has them too."""
    path, rotated = log_dir / "s.ndjson", log_dir / "s.ndjson.1"
    path.write_bytes(lines(1, 30) + b'{"open":1}')
    importer.take()
    path.rename(rotated)
    path.write_bytes(lines(32, 60))
    importer.take()
    with rotated.open("ab") as late:
        late.write(b'{"glued":2}\n' + lines(61, 70))
    importer.take("s.ndjson.1")
    connection = importer.store.connection
    assert is_sound(connection)
    for generation in (1, 2):
        while merge(connection, generation):
            pass
    assert count(connection) == 3
    assert is_sound(connection)


@pytest.mark.parametrize(
    "number",
    [number if number in {1, 2, 5, 20} else pytest.param(number, marks=pytest.mark.long) for number in range(1, 26)],
)
def test_a_kill_at_any_write_changes_nothing(importer: Importer, log_dir: Path, database: Path, number: int) -> None:
    """SIGKILL at the n-th write to the database's files: the record is as before, and merging goes on."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 4000))
    importer.take()
    before = record(importer.store.connection)
    importer.close()
    kill = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=pwrite64:signal=SIGKILL:when={number}"]
    killed = subprocess.run([*kill, sys.executable, "-c", _MERGER, str(database)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with closing(open_reader(str(database))) as connection:
        assert record(connection) == before
        assert is_sound(connection)
    with closing(Store(str(database))) as store:
        while merge(store.connection, 1):
            pass
        assert (count(store.connection), record(store.connection)) == (1, before)
