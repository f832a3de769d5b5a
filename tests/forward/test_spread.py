"""What a database spread over nodes takes: rules that the schema and the queries keep, held on a single node."""

from __future__ import annotations

import re
from contextlib import closing
from types import ModuleType

import psycopg
import pytest

from codex.logs.read import arriving, events, following, postgres, sessions, stats, tsearch, usage
from codex.logs.read.postgres import Postgres
from codex_ingestd.forward.postgres.schema import steps
from tests.forward.records import Recorded
from tests.postgres import Server, rows, shared

_SCHEMA = "\n".join(steps())
_DISTRIBUTED = set(re.findall(r"create_distributed_table\('codex_sink\.(\w+)', 'session_id'", _SCHEMA))
_EVERYWHERE = set(re.findall(r"'(\w+)'", re.findall(r"unnest\(ARRAY\[(.*?)\]\)", _SCHEMA, re.S)[0])) | set(
    re.findall(r"create_reference_table\('codex_sink\.(\w+)'\)", _SCHEMA)
)


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """A database with the schema, that nobody changes."""
    return shared(server)


def test_each_table_has_its_place(url: str) -> None:
    """Spread by session, or on each node; but for the list of steps, which stays where they are taken."""
    tables = rows(
        url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'codex_sink'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition",
    )
    assert {name for (name,) in tables} == _DISTRIBUTED | _EVERYWHERE | {"steps"}
    assert {"events", "ingest_rejects", "words"} == _DISTRIBUTED


def test_each_unique_key_of_a_spread_table_has_the_session(url: str) -> None:
    """No node knows the keys of another one."""
    keys = rows(
        url,
        "SELECT c.relname, array_agg(a.attname::text) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)"
        " WHERE i.indisunique AND c.relname = ANY(%s) GROUP BY c.relname, i.indexrelid",
        list(_DISTRIBUTED),
    )
    assert {name for name, _ in keys} == _DISTRIBUTED
    assert all("session_id" in columns for _, columns in keys)


def test_no_table_has_what_a_node_would_do_by_itself(url: str) -> None:
    """Triggers, references, numbers that count: those of one node know nothing of the others."""
    queries = (
        "SELECT tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal",
        "SELECT conname FROM pg_constraint AS t WHERE contype = 'f'",
        "SELECT attname FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid WHERE t.attidentity <> ''",
        "SELECT adbin FROM pg_attrdef AS t WHERE pg_get_expr(adbin, adrelid) LIKE '%nextval%'",
    )
    for query in queries:
        assert rows(url, query) == []


def test_what_asks_a_table_is_no_sql_function(url: str) -> None:
    """Its values aren't known when a query over several nodes is planned."""
    found = rows(
        url,
        "SELECT proname FROM pg_proc WHERE prosrc LIKE '%codex_sink.%'"
        " AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')",
    )
    assert found == []


def test_each_part_of_a_query_has_a_column(url: str) -> None:
    """A part that is asked first, and sent to the nodes, needs one."""
    of_reading: list[ModuleType] = [arriving, events, following, postgres, sessions, stats, tsearch, usage]
    texts = [str(value) for module in of_reading for value in vars(module).values() if isinstance(value, str | dict)]
    views = [str(text) for (text,) in rows(url, "SELECT definition FROM pg_views WHERE schemaname = 'codex'")]
    functions = [
        str(text)
        for (text,) in rows(url, "SELECT prosrc FROM pg_proc WHERE pronamespace::regnamespace::text LIKE 'codex%'")
    ]
    for text in (*texts, *views, *functions):
        assert not re.search(r"SELECT\s+FROM", text)


def test_what_joins_spread_rows_is_equal_in_their_session() -> None:
    """They are on one node then."""
    joins = re.findall(r"(?:FROM|JOIN) words AS w JOIN events AS e ON [^\n]*", str(vars(tsearch)))
    assert joins
    assert all("e.home = w.home" in join for join in joins)


def test_each_node_is_told_what_the_views_ask_for(
    server: Server, record: Recorded, environment: pytest.MonkeyPatch
) -> None:
    """In each transaction anew: a node's session knows nothing of this one."""
    url = shared(server)
    record.write("s", 0, 3)
    assert record.forward(url).returncode == 0
    environment.setattr(postgres, "_IS_SPREAD", "SELECT true")
    (host,) = rows(url, "SELECT host FROM codex.hosts")[0]
    with closing(Postgres(url, str(host))) as connection:
        _forget(connection)
        assert connection.execute("SELECT current_setting('codex.host') <> ''").fetchone() == (True,)
        with connection:
            assert connection.execute("SELECT current_setting('codex.host') <> ''").fetchone() == (True,)
            assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
        assert connection.execute("SELECT count(*) FROM session_events").fetchone() == (3,)


def _forget(connection: Postgres) -> None:
    """As a node that was told nothing."""
    other: psycopg.Connection[tuple[object, ...]] = connection._connection
    other.execute("RESET codex.host")
