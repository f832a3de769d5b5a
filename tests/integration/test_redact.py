"""Secrets that never come into the database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.store.connection import open_reader
from tests.importer import Importer, Recorded
from tests.planted import leaks, look_alikes, secrets, unpacked, write_log

PLANTED = secrets()
TOKEN = "ghp_" + "a1B2" * 9
LINE = json.dumps({"message": f"token is {TOKEN} ok"}).encode() + b"\n"
PLACEHOLDER = re.compile(r"\[REDACTED:([a-z-]+):([0-9a-f]{8})\]")


@pytest.fixture
def importer(log_dir: Path, database: Path) -> Iterator[Importer]:
    """One that takes secrets out."""
    with closing(Importer(log_dir, database, redact=True)) as opened:
        yield opened


def files(database: Path) -> bytes:
    """All that is in the database's files, with each of its segments unpacked."""
    return unpacked(database) + b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}-*"))


def count(database: Path, query: str) -> int:
    with closing(open_reader(str(database))) as connection:
        return int(str(connection.execute(query).fetchone()[0]))


def test_no_planted_secret_is_written(importer: Importer, log_dir: Path, database: Path) -> None:
    """Not to the file, its log, or a segment; the lines are all there, and what only looks like a secret is."""
    others = look_alikes()
    log = write_log(log_dir, [text for one in PLANTED for text in (one.text, "between")] + others)
    importer.take("a.ndjson")
    assert not leaks(PLANTED, files(database))
    assert Recorded(database).findings() == []
    rows, rejects = Recorded(database).rows("a"), Recorded(database).rejects("a")
    assert sorted({seq for seq, *_ in [*rows, *rejects]}) == list(range(1, 2 * len(PLANTED) + len(others) + 1))
    assert len(PLACEHOLDER.findall(" ".join(text for *_, text in rows))) >= len(PLANTED) // 2
    (life,) = Recorded(database).lives("a")
    assert len(life.bytes) == log.stat().st_size
    assert [len(line) for line in life.bytes.split(b"\n")] == [len(line) for line in log.read_bytes().split(b"\n")]
