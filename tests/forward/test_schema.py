"""The shared schema: made once, whoever comes first; who may write can't change or read, who may read can't write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from codex_ingestd.forward.postgres.schema import migrate, steps, version
from tests.postgres import Server, rows, user_with


def _migrate(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        return migrate(connection)


def test_hosts_that_come_at_once_make_the_schema_once(server: Server) -> None:
    """Each step is taken by one of them, the others find it done."""
    url = server.create()
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(_migrate, [url] * 8))
    assert sum(taken) == len(steps())
    assert _migrate(url) == 0


def test_a_database_without_the_schema_has_version_0(server: Server) -> None:
    """To ask for it makes nothing."""
    with psycopg.connect(server.create()) as connection:
        assert version(connection) == 0


def test_the_writer_can_only_add(sink: str) -> None:
    """It may insert events, and neither read, change nor remove any."""
    row = "('s', gen_random_uuid(), 1, 0, 0, 0, 1, 1, NULL, 'user', 'message', '', NULL, NULL, NULL, NULL, NULL, NULL)"
    writer = user_with(sink, "codex_writer")
    with psycopg.connect(sink) as connection:
        connection.execute(f"SET ROLE {writer}".encode())
        connection.execute(f"INSERT INTO codex_sink.events VALUES {row}".encode())
        for forbidden in (
            b"SELECT * FROM codex_sink.events",
            b"UPDATE codex_sink.events SET message = ''",
            b"DELETE FROM codex_sink.events",
            b"SELECT * FROM codex_sink.generations",
            b"UPDATE codex_sink.generations SET sent_event = 0",
            b"DROP TABLE codex_sink.events",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(forbidden)


def test_the_reader_sees_nothing_but_the_views(one_node: str) -> None:
    """The tables behind them are closed to it."""
    with psycopg.connect(one_node) as connection:
        connection.execute("SET ROLE codex_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM codex_sink.events")


@pytest.mark.parametrize(
    ("at", "partition"),
    [
        (1_700_000_000.0, "events_2023_11"),
        (float("inf"), "events_elsewhen"),
        (float("nan"), "events_elsewhen"),
        (-1.0, "events_elsewhen"),
        (32_503_680_000.0, "events_elsewhen"),
    ],
)
def test_an_event_lies_in_the_partition_of_its_month(sink: str, at: float, partition: str) -> None:
    """What no sane clock tells gets none of its own."""
    with psycopg.connect(sink) as connection:
        connection.execute("SELECT codex_sink.make_partition(%s)", (at,))
        connection.execute(
            "INSERT INTO codex_sink.events VALUES"
            " ('s', gen_random_uuid(), 1, 0, 0, %s, 1, 1, NULL, 'user', 'message', '')",
            (at,),
        )
    assert rows(sink, f"SELECT count(*) FROM codex_sink.{partition}") == [(1,)]
