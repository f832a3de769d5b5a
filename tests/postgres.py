"""A real PostgreSQL server for the tests: made in a folder of its own, killed and started again at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from codex_ingestd.forward.postgres.schema import migrate
from tests.daemon import wait_for

# What a killed process has written lies with the system: without fsync only a power failure loses it.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
}
_USER = "postgres"
_START_SECONDS = 60.0
CITUS = os.environ.get("CODEX_TEST_CITUS_URL", "")
_numbers = count(1)


def _binaries() -> str | None:
    """The folder of the newest server's programs; Debian's is not on the path."""
    found = shutil.which("initdb")
    if found is not None:
        return os.path.dirname(found)
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(folders, key=lambda path: int(path.parts[4]), default=None)
    return None if newest is None else str(newest.parent)


class Server:
    """A server on a port of its own, whose superuser `postgres` needs no password."""

    def __init__(self, folder: Path, binaries: str, under: Sequence[str] = ()) -> None:
        self._folder = folder
        self._under = under
        self._binaries = binaries
        self.port = _free_port()
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
        options = ["--auth=trust", f"--username={_USER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(self._command("initdb", "-D", self._data, *options), check=True, capture_output=True)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _command(self, program: str, *arguments: str) -> list[str]:
        """A program of the server's; it refuses to be root."""
        drop = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if os.geteuid() == 0 else []
        return [*self._under, *drop, os.path.join(self._binaries, program), *arguments]

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until it answers."""
        options = {"port": str(self.port), "unix_socket_directories": str(self._folder)} | _SETTINGS | (settings or {})
        arguments = [f"-c{name}={value}" for name, value in options.items()]
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command("postgres", "-D", self._data, *arguments), stdout=output, stderr=output, cwd="/"
                )
            while self._process.poll() is None:  # one that finds its killed forerunner's processes ends at once
                with suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=5):
                    return
                assert time.monotonic() < deadline, self.log.read_text("utf-8")
                time.sleep(0.01)
            assert time.monotonic() < deadline, self.log.read_text("utf-8")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, as a crash: whatever it was at is recovered at the next start."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut it down; who is connected is thrown out."""
        self._end(signal.SIGINT)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_START_SECONDS)
            self._process = None

    def url(self, database: str = "postgres", user: str = _USER) -> str:
        """Where one of its databases is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """A new, empty database: its URL."""
        name = f"record_{next(_numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def asking_passwords(self, role: str) -> Iterator[None]:
        """Within the block that role needs its password."""
        rules = Path(self._data, "pg_hba.conf")
        former = rules.read_text("ascii")
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{former}", "ascii")
        self._reread()
        try:
            yield
        finally:
            rules.write_text(former, "ascii")
            self._reread()

    def _reread(self) -> None:
        former = rows(self.url(), "SELECT pg_conf_load_time()")
        rows(self.url(), "SELECT pg_reload_conf()")
        wait_for(lambda: rows(self.url(), "SELECT pg_conf_load_time()") != former, what="the rules to be read")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(
    settings: Mapping[str, str] | None = None, under: Sequence[str] = (), parent: str | None = None
) -> Iterator[Server]:
    """A server of its own, run by the command `under`, gone with the block; on macOS skipped where there is none."""
    binaries = _binaries()
    if binaries is None and sys.platform == "darwin":
        pytest.skip("no PostgreSQL server here")
    assert binaries is not None, "install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="codex-pg-", dir=parent or "/tmp"))  # short: it holds a socket
    server = Server(folder, binaries, under)
    try:
        server.start(settings)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests of a process; each test has a database of its own in it."""
    with running() as started:
        yield started


@pytest.fixture(params=["postgresql", *(["citus"] if CITUS else [])])
def sink(request: pytest.FixtureRequest) -> str:
    """The URL of a database with the shared schema, and nothing in it; where there is a Citus, there as well."""
    url: str = citus() if request.param == "citus" else request.getfixturevalue("one_node")
    return url


@pytest.fixture
def one_node(server: Server) -> str:
    """The same, of `server` alone."""
    return shared(server)


def shared(server: Server) -> str:
    """A new database with the shared schema: its URL."""
    url = server.create()
    with psycopg.connect(url, autocommit=True) as connection:
        migrate(connection)
    return url


def citus() -> str:
    """CODEX_TEST_CITUS_URL: an empty database of a coordinator, that tests may have for themselves, one at a time."""
    with psycopg.connect(CITUS, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS codex CASCADE")
        connection.execute("DROP SCHEMA IF EXISTS codex_sink CASCADE")
        connection.execute("CREATE EXTENSION IF NOT EXISTS citus")
        migrate(connection)
    return CITUS


def user_with(url: str, role: str) -> str:
    """A user who has nothing but that role: its name."""
    name = f"only_{role}"
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            connection.execute(f"CREATE ROLE {name} LOGIN IN ROLE {role}".encode())
    return name


def rows(url: str, query: str, *values: object) -> list[TupleRow]:
    """What a query gives there."""
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), values or None).fetchall()
