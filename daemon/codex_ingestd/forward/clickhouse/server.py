"""A ClickHouse server over HTTP, or the engine itself in this process, with a folder: asked, and inserted into."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error
from clickhouse_connect.driver.insert import InsertContext

from codex_ingestd.forward.address import Address
from codex_ingestd.forward.errors import SinkError
from codex_ingestd.forward.sink import Row

# One block for each month: it is there whole or not at all. Rows that wait in a server's memory aren't there.
_SETTINGS = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "max_partitions_per_insert_block": 0,
    "max_insert_block_size": 1 << 20,
    "min_insert_block_size_rows": 1 << 20,
    "min_insert_block_size_bytes": 1 << 28,
}
_CONNECT_SECONDS = 10
_DENIED, _NO_DATABASE, _READ_ONLY, _TOO_MANY_PARTS = 497, 81, 242, 252
_WRONG_USER = (192, 193, 194, 516)
_NO_SETTING = 115
_LASTING = (_DENIED, _NO_DATABASE, _NO_SETTING, *_WRONG_USER)
_HINTS = {
    _DENIED: "Grant what daemon/codex_ingestd/forward/README.md says to this user, or let one who may make tables run"
    " `codex-ingestd forward --check` once.",
    _NO_DATABASE: "Create that database: CREATE DATABASE NAME.",
    _READ_ONLY: "That replica has lost its keeper; it is tried again.",
    _TOO_MANY_PARTS: "The server merges more slowly than it gets; it is tried again.",
    **dict.fromkeys(_WRONG_USER, "Look at user and password: in the URL given by the environment or a file."),
}


class Server:
    """The connection. An answer that takes longer than `seconds` ends it."""

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._client: Client | None = None
        self._types: dict[str, Any] = {}

    def open(self) -> None:
        """Connect anew."""
        self.close()
        with self.told("connecting"):
            self._client = _connected(self._address, self._seconds)

    def close(self) -> None:
        """Let go of the connection."""
        self._types.clear()
        if self._client is not None:
            with suppress(ClickHouseError):
                self._client.close()
            self._client = None

    @property
    def client(self) -> Client:
        """clickhouse-connect's own, within `told`."""
        if self._client is None:
            raise SinkError(f"{self._address.name}: not connected")
        return self._client

    def rows(self, query: str, **values: object) -> Sequence[Any]:
        """What a query gives."""
        return self.client.query(query, parameters=values).result_rows

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Row], label: str = "") -> None:
        """Put rows there, if there are any; those of a label once."""
        self.insert_columns(table, names, list(zip(*rows, strict=True)), label)

    def insert_columns(self, table: str, names: Sequence[str], columns: Sequence[Sequence[Any]], label: str) -> None:
        """The same by columns. They go as one block: of several each may be there without the others."""
        if not columns or not columns[0]:
            return
        if table not in self._types:
            self._types[table] = self.client.create_insert_context(table, names).column_types
        settings = {"insert_deduplication_token": label} if label else None
        block = InsertContext(
            table, names, self._types[table], columns, True, settings=settings, block_size=len(columns[0])
        )
        self.client.insert(context=block)

    @contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """clickhouse-connect's errors as SinkError, with what to do next."""
        try:
            yield
        except ClickHouseError as error:
            code = error.code if isinstance(error, Error) else None
            raise SinkError(
                f"{self._address.name}: {doing}: {self._address.without_secrets(_first_line(error))}",
                hint=_HINTS.get(
                    code or 0,
                    "Is the server up, and may this host reach it? What is to be sent waits in the local database.",
                ),
                passes=code not in _LASTING,
            ) from error


def _connected(address: Address, seconds: float) -> Client:
    parts = urlsplit(address.url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if parts.scheme == "chdb":
        return clickhouse_connect.get_client(
            interface="chdb", generic_args={"path": unquote(parts.path), **options}, settings=dict(_SETTINGS)
        )
    return clickhouse_connect.get_client(
        interface="https" if parts.scheme == "clickhouses" else "http",
        host=parts.hostname or "localhost",
        port=parts.port or 0,
        username=unquote(parts.username or "") or os.environ.get("CLICKHOUSE_USER", "default"),
        password=unquote(parts.password or "") or os.environ.get("CLICKHOUSE_PASSWORD", ""),
        database=unquote(parts.path.strip("/")) or "default",
        settings=dict(_SETTINGS),
        generic_args=options,
        connect_timeout=_CONNECT_SECONDS,
        send_receive_timeout=max(1, round(seconds)),
        autogenerate_session_id=False,
        client_name="codex-ingestd",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
