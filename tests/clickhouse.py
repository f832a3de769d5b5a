"""ClickHouse's engine, where the extra `clickhouse-test` is installed: in this process, or in another behind HTTP.

A folder is its database. One process has a folder at a time, and a process one folder.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
import pytest

from codex.logging.store.connection import open_writer
from codex_ingestd.forward.address import parse
from codex_ingestd.forward.clickhouse.server import Server as Client
from codex_ingestd.forward.clickhouse.sink import ClickHouseSink
from codex_ingestd.forward.forwarder import Forwarder
from codex_ingestd.forward.identity import host
from codex_ingestd.forward.notes import Notes
from codex_ingestd.forward.pace import Rate
from codex_ingestd.forward.progress import Progress
from codex_ingestd.forward.spool import Spool
from tests.commands import ROOT
from tests.forward.records import Recorded

_SHARED = """
SELECT session_id, seq, part, "offset", length, ts, role, kind, message, meta, tool, model, call_id, parent, inherited
FROM sink_events
WHERE host_id = (SELECT host_id FROM sink_hosts WHERE database = {database:String} ORDER BY first_seen DESC LIMIT 1)
ORDER BY 1, 2, 3, 4"""
_DOUBLED = "SELECT count() - uniqExact(host_id, generation, offset, part) FROM sink_events"
_OPTIONS = {"query", "database", "client_protocol_version", "wait_end_of_query", "query_id", "session_id"}
_SESSION = ("insert_deduplication_token",)  # of one query


def engine(folder: Path) -> str:
    """The URL of an empty database; skips the test where there is no engine."""
    pytest.importorskip("chdb", reason="takes the extra clickhouse-test: pip install -e '.[test,clickhouse-test]'")
    return f"chdb://{folder}"


def rows(url: str, query: str, **values: object) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with closing(clickhouse_connect.get_client(dsn=url)) as client:
        return [tuple(row) for row in client.query(query, parameters=values).result_rows]


def shared_rows(record: Recorded, url: str) -> list[tuple[Any, ...]]:
    """Every event that the sink has of a database."""
    return rows(url, _SHARED, database=str(record.database))


def doubled(url: str) -> int:
    """How many rows of events are there once too often."""
    return int(rows(url, _DOUBLED)[0][0])


def run(url: str, *statements: str) -> None:
    """Change something, and wait until it is done."""
    with closing(clickhouse_connect.get_client(dsn=url)) as client:
        for statement in ("SET mutations_sync = 2", *statements):
            client.command(statement)


@contextmanager
def forwarding(
    database: str, url: str, server: Client, tell: Callable[[Progress], None] = lambda progress: None
) -> Iterator[Forwarder]:
    """A forwarder of a database in this process, by a connection of the caller's own."""
    with (
        closing(open_writer(database)) as writer,
        closing(Spool(database, url)) as spool,
        closing(ClickHouseSink(parse(url), host(writer, database), server)) as sink,
        closing(Forwarder(database, spool, sink, Notes(writer, database, url), Rate(None), tell)) as forwarder,
    ):
        yield forwarder


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """The engine of a folder behind HTTP, within the block."""
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Server:
    """The engine behind HTTP, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def create(self) -> str:
        """The URL of its database, which is empty as long as nobody wrote into the folder."""
        return f"clickhouse://127.0.0.1:{self.port}/default"

    def start(self) -> None:
        """Begin to answer; at the port of the first time."""
        command = [sys.executable, "-m", "tests.clickhouse", str(self.folder), str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL; what it was at is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _serve(folder: str, port: int) -> None:
    """Answer as ClickHouse does, one query at a time, as far as the client asks for it."""
    import chdb
    import lz4.frame

    connection = chdb.connect(folder)
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            values = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            body, query = self._body(), values.get("query", "")
            if self.headers.get("Content-Encoding") == "lz4":
                body = lz4.frame.open(io.BytesIO(body)).read()
            try:
                with lock:
                    status, answer = 200, _answer(connection, values, query, body)
            except Exception as error:
                status, answer = 500, str(error).encode()
            self._send(status, answer)

        do_GET = do_POST  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status != 200:
                code = content.partition(b"Code: ")[2].partition(b".")[0].decode()
                self.send_header("X-ClickHouse-Exception-Code", code or "1002")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Listener(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of a connection that was cut."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    server = Listener(("127.0.0.1", port), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def _answer(connection: Any, values: dict[str, str], query: str, body: bytes) -> bytes:
    for name in _SESSION:
        connection.query(f"SET {name} = ''")
    for name, value in values.items():
        if name not in _OPTIONS and not name.startswith("param_"):
            connection.query(f"SET {name} = '{value}'")
    if not query and body.startswith(b"INSERT"):
        head, _, body = body.partition(b"\n")
        query = head.decode()
    bound = {name.removeprefix("param_"): value for name, value in values.items() if name.startswith("param_")}
    if query.lstrip().upper().startswith("INSERT"):
        head, _, layout = query.strip().rpartition(" FORMAT ")
        with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR")) as file:
            file.write(body)
            file.flush()
            connection.query(f"{head} FROM INFILE '{file.name}' COMPRESSION 'none' FORMAT {layout}")
        return b""
    text = query or body.decode()
    return bytes(connection.query(text, "TabSeparated", params=bound).bytes())


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
