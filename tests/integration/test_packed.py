"""Logs that their agent has compressed: what an importer takes of them, and what it may spare itself."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from codex.logging.ingest import packed
from codex.logging.ingest.sources import Location
from codex_ingestd.health.status import read_status
from tests.importer import Importer, Recorded
from tests.integration.conftest import SMALL, lines


@pytest.fixture
def start(log_dir: Path, database: Path) -> Iterator[Callable[[], Importer]]:
    """Starts an importer that commits each 4 KiB, and stops the one before."""
    running: list[Importer] = []

    def start() -> Importer:
        while running:
            running.pop().close()
        running.append(Importer(log_dir, database, limits=SMALL))
        return running[-1]

    yield start
    while running:
        running.pop().close()


@pytest.fixture
def log(log_dir: Path) -> Path:
    """The live file of session `s`, of three batches."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 100))
    return path


def pack(log: Path) -> Path:
    """Compress a log in place of the plain one."""
    target = log.with_name(f"{log.name}.zst")
    target.write_bytes(zstandard.compress(log.read_bytes()))
    log.unlink()
    return target


def test_an_importer_killed_within_a_packed_log_goes_on(
    start: Callable[[], Importer], recorded: Recorded, log: Path
) -> None:
    """How much of it was taken doesn't show from its size on the disk."""
    pack(log)
    importer = start()
    importer.engine.ingest(Location(importer.root, log.name, 0))
    assert 0 < len(recorded.rows()) < 100
    start().sweep()
    assert len(recorded.rows()) == 100


def test_a_packed_log_is_not_taken_for_whole_once_it_is_known(
    start: Callable[[], Importer], recorded: Recorded, log: Path
) -> None:
    """Killed between the note that the log is compressed now and the next rows, with the plain file's time stamp."""
    importer = start()
    importer.engine.ingest(Location(importer.root, log.name, 0))
    stamp = log.stat().st_mtime_ns
    target = pack(log)
    os.utime(target, ns=(stamp, stamp))

    def die(*arguments: object) -> None:
        raise InterruptedError

    importer.store.commit = die  # type: ignore[assignment, method-assign]
    with pytest.raises(InterruptedError):
        importer.sweep()
    start().sweep()
    assert len(recorded.rows()) == 100


def test_a_packed_log_is_decompressed_once(
    start: Callable[[], Importer], recorded: Recorded, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wholly taken, as plain or as compressed, isn't opened again by the processes that come."""
    start().sweep()
    pack(log)
    start().sweep()
    monkeypatch.setattr(packed.Unpacked, "of", None)
    assert start().sweep() == 0


def test_a_packed_log_is_unpacked_on_from_batch_to_batch(
    start: Callable[[], Importer], recorded: Recorded, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each batch begins with a look at the file's first bytes: else a long one takes time without end."""
    begun: list[None] = []
    restart = packed.Unpacked._restart

    def counted(unpacked: packed.Unpacked) -> None:
        begun.append(None)
        restart(unpacked)

    monkeypatch.setattr(packed.Unpacked, "_restart", counted)
    noise = random.Random(1)
    log.write_text("".join(f'{{"message": "{noise.randbytes(2000).hex()}"}}\n' for _ in range(100)))
    pack(log)
    start().sweep()
    assert len(recorded.rows()) == 100
    assert len(begun) <= 4


def test_a_packed_log_has_no_lag(start: Callable[[], Importer], recorded: Recorded, log: Path, database: Path) -> None:
    """Though a short one is longer when it is compressed."""
    log.write_bytes(b"{}\n")
    start().sweep()
    pack(log)
    start().sweep()
    (stream,) = read_status(str(database), [str(log.parent)]).streams
    assert (stream.offset, stream.size, stream.lag) == (3, 3, 0)


@pytest.mark.parametrize("looks", [True, False], ids=["who looks", "another one"])
@pytest.mark.parametrize("running", [True, False])
def test_a_packed_log_is_back_once_the_plain_one_in_its_place_is_gone(
    start: Callable[[], Importer], recorded: Recorded, log: Path, database: Path, running: bool, looks: bool
) -> None:
    """Though the compressed file has not changed meanwhile, whoever saw that there was another one."""
    pack(log)
    importer = start()
    importer.sweep()
    importer = importer if running else start()
    log.write_bytes(lines(101, 101))
    with closing(Importer(log.parent, database)) as other:
        (importer if looks else other).sweep()
    log.unlink()
    importer.sweep()
    assert [life.how for life in recorded.lives()] == [None, "deleted"]
