"""A server, a database with the shared schema, and a record to forward, for every test here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clickhouse import Server, engine, serving
from tests.forward.records import Recorded
from tests.postgres import one_node, server, sink

__all__ = ["one_node", "server", "sink"]


@pytest.fixture
def record(tmp_path: Path) -> Recorded:
    """An empty record."""
    return Recorded(tmp_path / "host")


@pytest.fixture
def clickhouse(tmp_path: Path) -> str:
    """The URL of an empty database of ClickHouse's engine, in this process."""
    return engine(tmp_path / "clickhouse")


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Server]:
    """The engine with an empty database behind HTTP, in a process of its own."""
    engine(tmp_path / "clickhouse")
    with serving(tmp_path / "clickhouse") as server:
        yield server
