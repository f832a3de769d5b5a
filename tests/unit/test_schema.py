"""The numbered steps and the end state that people read are one schema."""

from __future__ import annotations

import re
from importlib import resources

import apsw

from codex.logging.store.connection import migrations


def test_steps_lead_to_the_end_state() -> None:
    """Each object that the steps make stands in schema.sql in the same words, and nothing else does."""
    by_steps, by_end_state = apsw.Connection(":memory:"), apsw.Connection(":memory:")
    for step in migrations():
        by_steps.execute(step)
    end_state = resources.files("codex.logging.store") / "schema" / "schema.sql"
    by_end_state.execute(end_state.read_text(encoding="utf-8"))
    assert _objects(by_steps) == _objects(by_end_state)


def _objects(connection: apsw.Connection) -> set[tuple[str, str]]:
    rows = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_schema")
    return {(name, re.sub(r"\s*([,()])\s*|\s+", r"\1 ", sql)) for name, sql in rows}
