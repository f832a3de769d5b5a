"""The same schema spread over several nodes: `CODEX_TEST_CITUS_URL=postgresql://… pytest -n 0 tests/forward`."""

from __future__ import annotations

import pytest

from tests.forward.records import Recorded
from tests.postgres import CITUS, citus, rows

pytestmark = pytest.mark.skipif(not CITUS, reason="CODEX_TEST_CITUS_URL names no coordinator")


def test_events_are_spread_by_session_and_the_ledger_is_on_each_node(record: Recorded) -> None:
    """And what goes there comes to be there."""
    url = citus()
    kinds = rows(url, "SELECT table_name::text, citus_table_type, distribution_column FROM citus_tables")
    found = {name.rpartition(".")[2]: (kind, column) for name, kind, column in kinds}
    assert found["events"] == ("distributed", "session_id")
    assert found["words"] == ("distributed", "session_id")
    assert found["generations"][0] == "reference"
    for number in range(20):
        record.write(f"s{number}", 0, 50)
    assert record.forward(url).returncode == 0
    assert record.shared_rows(url) == record.rows()
    assert "0 events" in record.forward(url).stdout


def test_a_query_over_all_sessions_runs_on_each_node(record: Recorded) -> None:
    """Its plan has a task for each shard."""
    url = citus()
    record.write("s", 0, 50)
    record.forward(url)
    plan = "\n".join(
        str(row[0]) for row in rows(url, "EXPLAIN SELECT kind, count(*) FROM codex_sink.events GROUP BY 1")
    )
    assert "Citus Adaptive" in plan
    assert "Task Count: 1\n" not in plan
