"""A server, a database with the shared schema, and a record to forward, for every test here."""

from pathlib import Path

import pytest

from tests.forward.records import Recorded
from tests.postgres import one_node, server, sink

__all__ = ["one_node", "server", "sink"]


@pytest.fixture
def record(tmp_path: Path) -> Recorded:
    """An empty record."""
    return Recorded(tmp_path / "host")
