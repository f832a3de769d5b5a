"""ClickHouse's engine in this process, where the extra `clickhouse-test` is installed; a folder is its database.

One process has a folder at a time, and a process one folder.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest


def engine(folder: Path) -> str:
    """The URL of an empty database; skips the test where there is no engine."""
    pytest.importorskip("chdb", reason="takes the extra clickhouse-test: pip install -e '.[test,clickhouse-test]'")
    return f"chdb://{folder}"


def rows(url: str, query: str, **values: object) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with closing(clickhouse_connect.get_client(dsn=url)) as client:
        return [tuple(row) for row in client.query(query, parameters=values).result_rows]


def run(url: str, statement: str) -> None:
    """Change something."""
    with closing(clickhouse_connect.get_client(dsn=url)) as client:
        client.command(statement, settings={"mutations_sync": 1})
