"""A ClickHouse server over HTTP, or the engine itself in this process, with a folder: asked, and inserted into."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError
from clickhouse_connect.driver.insert import InsertContext

from codex.logging.address import Address
from codex_ingestd.forward.clickhouse import verdict
from codex_ingestd.forward.errors import SinkError
from codex_ingestd.forward.sink import Row

# One block for each month: it is there whole or not at all. Rows that wait in a server's memory aren't there.
_SETTINGS = {
    "async_insert": 0,
    "wait_for_async_insert": 1,
    "insert_deduplicate": 1,
    "max_partitions_per_insert_block": 0,
    "max_insert_block_size": 1 << 20,
    "min_insert_block_size_rows": 1 << 20,
    "min_insert_block_size_bytes": 1 << 28,
}
_CONNECT_SECONDS = 10
# Where the server knows them, they stand above those.
_LATER_SETTINGS = {
    "deduplicate_insert": "enable",
    "max_insert_block_size_bytes": "0",
    "use_strict_insert_block_limits": "0",
}

logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # what it has to say comes as an error, too


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
            try:
                self._client = _connected(self._address, self._seconds)
            except (TypeError, ValueError, AttributeError, OSError) as error:
                raise ProgrammingError(f"{type(error).__name__}: {error}") from error
            for name in _LATER_SETTINGS.keys() & self._client.server_settings.keys():
                self._client.set_client_setting(name, _LATER_SETTINGS[name])

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
            raise SinkError(
                f"{self._address.name}: {doing}: {self._address.without_secrets(_first_line(error))}",
                hint=verdict.hint(error),
                passes=verdict.passes(error),
            ) from error


def _connected(address: Address, seconds: float) -> Client:
    parts = urlsplit(address.url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    for name in options.keys() & {*_SETTINGS, *_LATER_SETTINGS}:
        raise ProgrammingError(f"{name} can't be set: by what it is each row is there once")
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
    """What it says; of a connection that failed why it did, instead of all that was asked."""
    reason = getattr(error.__cause__, "reason", None) or error
    return next(iter(str(reason).strip().splitlines()), type(error).__name__)
