"""The schema at ClickHouse: plain, and at replicas."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import clickhouse_connect
import pytest

from codex_ingestd.forward.clickhouse.schema import migrate, replicated, steps
from tests.clickhouse import rows, run
from tests.forward.records import Recorded


def test_the_replicated_engines_are_understood(clickhouse: str) -> None:
    """As far as an engine that replicates nothing can tell: it parses each statement."""
    with closing(clickhouse_connect.get_client(dsn=clickhouse)) as client:
        for place in ((), ("'/tables/{shard}/{table}'", "'{replica}'")):
            for statement in (part.removesuffix(";") for step in steps() for part in step):
                there = replicated(statement, place)
                assert ("ENGINE = " in statement) == ("ENGINE = Replicated" in there)
                assert client.query(f"EXPLAIN AST {there}").result_rows


class _Asked:
    """A server of which nothing is known but what a query about it gives; it remembers what it was told to make."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers
        self.told: list[str] = []

    def query(self, query: str) -> SimpleNamespace:
        """One value: of the answer whose name is in the query."""
        found = next((value for name, value in self._answers.items() if name in query), 0)
        return SimpleNamespace(result_rows=[(found,)])

    def command(self, statement: str) -> None:
        """It is done."""
        self.told.append(statement)

    def insert(self, *arguments: object, **options: object) -> None:
        """It is there."""


_PLACE = "('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')"


@pytest.mark.parametrize(
    ("answers", "tables", "own"),
    [({}, "", ""), ({"macros": 2}, "Replicated", ""), ({"databases": "Replicated"}, "Replicated", "Replicated")],
)
def test_a_replica_remembers_the_steps_that_were_taken_there(answers: dict[str, object], tables: str, own: str) -> None:
    """Where nobody copies definitions, each makes its tables itself, however many steps another one has taken."""
    server = _Asked(**answers)
    assert migrate(cast(Any, server)) == len(steps())
    place = _PLACE if "macros" in answers else ""
    assert any("sink_events (\n" in text and f"ENGINE = {tables}MergeTree{place}\n" in text for text in server.told)
    assert f"ENGINE = {own}ReplacingMergeTree ORDER BY number" in server.told[0]


def test_a_table_never_gathers_inserts(record: Recorded, clickhouse: str) -> None:
    """Whatever the server's own default is, and also where an earlier version made it."""
    record.forward(clickhouse)
    run(clickhouse, "ALTER TABLE sink_events MODIFY SETTING async_insert = 1", "TRUNCATE TABLE sink_steps")
    run(clickhouse, "INSERT INTO sink_steps (number) VALUES (2)")
    record.forward(clickhouse)
    assert "async_insert = 0" in rows(clickhouse, "SHOW CREATE TABLE sink_events")[0][0]
