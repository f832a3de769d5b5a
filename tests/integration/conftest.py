"""What the tests of the record share: an importer with small batches, and sessions to import."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.ingest.reader import Limits
from tests.importer import Importer, Recorded

SMALL = Limits(batch=4096, line=64 << 20)


@pytest.fixture
def importer(log_dir: Path, database: Path) -> Iterator[Importer]:
    """An importer that commits each 4 KiB."""
    with closing(Importer(log_dir, database, limits=SMALL)) as opened:
        yield opened


@pytest.fixture
def recorded(database: Path) -> Iterator[Recorded]:
    """The database as readers see it; at the end it has to verify."""
    found = Recorded(database)
    yield found
    assert found.findings() == []


def lines(first: int, last: int, size: int = 100) -> bytes:
    """The lines with these numbers, each of exactly `size` bytes."""
    return b"".join(_line(number, size) for number in range(first, last + 1))


def _line(number: int, size: int) -> bytes:
    bare = json.dumps({"ts": "2026-01-02T03:04:05Z", "role": "user", "n": number, "message": ""}).encode()
    return bare.replace(b'""', b'"%s"' % (b"%d " % number * size)[: size - len(bare) - 1]) + b"\n"
