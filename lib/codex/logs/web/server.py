"""The process: one socket, uvicorn, datasette with our plugin, and the guard around them all.

This process opens the database by one SQLite library alone, the standard library's, which datasette uses; apsw carries
another one, and where two libraries of one process have the same file open, the one that closes it drops the other's
POSIX locks: the daemon could then checkpoint over pages that are being read. Nothing here may open or close the
database's file by itself either, for the same reason; therefore datasette's download is off.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sqlite3
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import click
import uvicorn
from datasette.app import Datasette
from datasette.plugins import DEFAULT_PLUGINS, pm

from codex.logging.errors import ConfigError, DatabaseError, DatabaseMissingError
from codex.logging.store.connection import translated
from codex.logging.store.private import refuse_special
from codex.logs.web import plugin, stream
from codex.logs.web.guard import Guard
from codex.logs.web.health import Health
from codex.logs.web.record import Record, connect

SQL_SECONDS = 2.0
_GOODBYE_SECONDS = 2
_SETTINGS = {
    "allow_download": False,
    "num_sql_threads": 6,
    "sql_time_limit_ms": int(SQL_SECONDS * 1000),
    "default_cache_ttl": 0,
    "max_returned_rows": 1000,
    "max_csv_mb": 100,
}


def serve(database: str, host: str, ports: Sequence[int], *, with_token: bool, open_browser: bool | None) -> int:
    """Serve until a signal, on the first of the ports that can be had; the exit code. Raises ConfigError for none."""
    _check(database)
    listening = _listen(host, ports)
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(32) if with_token else None
    pulse = stream.Pulse(database)
    app = Guard(
        application(database, pulse),
        port,
        token=token,
        exposed=not _is_own(host),
        foreign=f"/{plugin.RECORD}",
    )
    server = _Server(_configuration(app), pulse)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"?token={token}" if token else "")
    click.echo(f"{address}\nReading {database}; Ctrl-C ends it.")
    sys.stdout.flush()
    if sys.stdout.isatty() if open_browser is None else open_browser:
        webbrowser.open(address)
    try:
        with server.ended_by_signals():
            server.run(sockets=[listening])
    finally:
        pulse.close()
        listening.close()
    click.echo("ended", err=True)
    return 0


def application(database: str, pulse: stream.Pulse) -> Any:
    """Datasette over the one database, with our pages in front of its own; an ASGI application."""
    for other in list(pm.get_plugins()):
        if other.__name__ not in DEFAULT_PLUGINS:  # what else is installed may write, or load from other hosts
            pm.unregister(other)
    pm.register(plugin, "codex-logs")
    pm.get_plugin(
        "datasette.handle_exception"
    ).rich = None  # its tracebacks show every local: cookies, tokens, messages
    record = Datasette([], memory=False, settings=_SETTINGS, template_dir=plugin.TEMPLATES, metadata=plugin.METADATA)
    record.remove_database("_memory")
    record.add_database(Record(record, database), name=plugin.RECORD)
    record.codex_pulse = pulse
    record.codex_health = Health(database)
    return record.app()


def _configuration(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # its lines hold addresses, and an address may hold the token
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )


class _Server(uvicorn.Server):
    """Ends the streams first, which would last for as long as their pages are open."""

    def __init__(self, configuration: uvicorn.Config, pulse: stream.Pulse) -> None:
        super().__init__(configuration)
        self._pulse = pulse

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """Signals end it well from now on, also while it starts."""
        former = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not uvicorn's way, which raises them once more at its end."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._pulse.end()
        super().handle_exit(signal.SIGINT, frame)


def _check(database: str) -> None:
    """Raises DatabaseError or DatabaseMissingError when there is nothing of ours to show."""
    try:
        with translated(database):
            refuse_special(database)
        with closing(connect(database)) as connection:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = 'sessions'"
            found = connection.execute(query).fetchone()
    except sqlite3.Error as error:
        raise DatabaseError(
            f"{database}: {error}", hint="Give this user the right to read it and to write its folder, or name another."
        ) from error
    if found is None:
        raise DatabaseMissingError(
            f"{database} holds no sessions of ours", hint="Run `codex-import-ndjson --all`, or `codex-ingestd run`."
        )


def _listen(host: str, ports: Sequence[int]) -> socket.socket:
    port, *others = ports
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(128)  # whoever asks from now on waits until the pages are there
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if others:
            return _listen(host, others)
        raise ConfigError(
            f"{host}:{port} can't be had: {error.strerror or error}", hint="Choose another --port; 0 takes a free one."
        ) from error
    return listening


def _is_own(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "::1"}
