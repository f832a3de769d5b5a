"""Which of ClickHouse's errors pass by themselves, and which stay until somebody does something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from codex_ingestd.forward.address import parse
from codex_ingestd.forward.clickhouse.server import Server
from codex_ingestd.forward.errors import SinkError
from tests.clickhouse import engine

_TABLE = "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a"
_FULL = "CREATE TABLE full (a Int64) ENGINE = MergeTree ORDER BY a SETTINGS parts_to_throw_insert = 1"
_STAYS = {
    "UNKNOWN_DATABASE": 81,
    "UNKNOWN_TABLE": 60,
    "NO_SUCH_COLUMN_IN_TABLE": 16,
    "UNKNOWN_IDENTIFIER": 47,
    "TYPE_MISMATCH": 53,
    "SYNTAX_ERROR": 62,
    "UNKNOWN_SETTING": 115,
    "SETTING_CONSTRAINT_VIOLATION": 452,
    "READONLY": 164,
    "WRONG_PASSWORD": 193,
    "IP_ADDRESS_NOT_ALLOWED": 195,
    "AUTHENTICATION_FAILED": 516,
    "DATABASE_ACCESS_DENIED": 291,
    "ACCESS_DENIED": 497,
}
_PASSES = {
    "TIMEOUT_EXCEEDED": 159,
    "QUOTA_EXCEEDED": 201,
    "TOO_MANY_SIMULTANEOUS_QUERIES": 202,
    "SOCKET_TIMEOUT": 209,
    "NETWORK_ERROR": 210,
    "NO_ZOOKEEPER": 225,
    "MEMORY_LIMIT_EXCEEDED": 241,
    "TABLE_IS_READ_ONLY": 242,
    "NOT_ENOUGH_SPACE": 243,
    "TOO_MANY_PARTS": 252,
    "TOO_FEW_LIVE_REPLICAS": 285,
    "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE": 286,
    "UNKNOWN_STATUS_OF_INSERT": 319,
    "QUERY_WAS_CANCELLED": 394,
    "KEEPER_EXCEPTION": 999,
    "STD_EXCEPTION": 1001,
    "one of a later version": 9999,
}


@contextmanager
def _answering(status: int, code: int, text: str) -> Iterator[str]:
    """The URL of a server that has one answer to all."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            if code:
                self.send_header("X-ClickHouse-Exception-Code", str(code))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"clickhouse://127.0.0.1:{server.server_port}/db"
        finally:
            server.shutdown()
            thread.join()


def _refused(url: str) -> SinkError:
    with closing(Server(parse(url), 5)) as server, pytest.raises(SinkError) as caught:
        server.open()
    return caught.value


@pytest.mark.parametrize("name", [*_STAYS, *_PASSES])
def test_a_code_tells_whether_to_try_again_helps(name: str) -> None:
    """Rights, names, types and settings stay; load, disk, network and replicas pass, and so may what nobody knows."""
    code = _STAYS.get(name) or _PASSES[name]
    with _answering(500, code, f"Code: {code}. DB::Exception: what it says. ({name})") as url:
        error = _refused(url)
    assert error.passes is (name in _PASSES)
    assert name in str(error)
    assert ("tried again" in error.hint) is (name in _PASSES)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_balancer_without_a_server_passes(status: int) -> None:
    """It has no code to tell."""
    with _answering(status, 0, "nobody is at home") as url:
        assert _refused(url).passes


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("clickhouse://127.0.0.1:port/db", "Port could not be cast"),
        ("clickhouse://127.0.0.1:9/db?compress=nothing", "Unsupported compression method"),
        ("clickhouse://127.0.0.1:9/db?query_limit=many", "query_limit"),
        ("clickhouse://127.0.0.1:9/db?interface=https", "interface"),
        ("clickhouse://127.0.0.1:9/db?insert_deduplicate=0", "insert_deduplicate can't be set"),
        ("clickhouse://127.0.0.1:9/db?deduplicate_insert=disable", "deduplicate_insert can't be set"),
        ("clickhouse://127.0.0.1:9/db?async_insert=1", "async_insert can't be set"),
    ],
)
def test_an_address_that_is_no_good_stays_so(url: str, says: str) -> None:
    """Also where it would undo that each row is there once."""
    error = _refused(url)
    assert says in str(error)
    assert not error.passes


def test_a_connection_that_fails_passes_and_says_why() -> None:
    """Without what was asked, which differs each time."""
    error = _refused("clickhouse://127.0.0.1:9/db")
    assert error.passes
    assert str(error).endswith("Connection refused")


@pytest.mark.parametrize(
    ("statement", "passes"),
    [
        ("INSERT INTO nothing VALUES (1)", False),
        ("INSERT INTO t (c) VALUES (1)", False),
        ("INSERT INTO nowhere.t VALUES (1)", False),
        ("SELECT c FROM t", False),
        ("SELECT 1 SETTINGS nothing = 1", False),
        ("SELECT groupArray(number) FROM numbers(10000000) SETTINGS max_memory_usage = 1000000", True),
        ("SELECT sleepEachRow(0.1) FROM numbers(30) SETTINGS max_execution_time = 0.2, max_block_size = 1", True),
        ("INSERT INTO full VALUES (1)", True),
    ],
)
def test_the_engine_s_own_errors_are_understood(tmp_path: Path, statement: str, passes: bool) -> None:
    """Those that it gives here."""
    url = engine(tmp_path / "clickhouse")
    with closing(Server(parse(url), 60)) as server:
        server.open()
        server.client.command(_TABLE)
        server.client.command(_FULL)
        server.client.command("SYSTEM STOP MERGES")
        server.client.command("INSERT INTO full VALUES (1)")
        with pytest.raises(SinkError) as caught, server.told("sending"):
            server.client.command(statement)
    assert caught.value.passes is passes, caught.value
