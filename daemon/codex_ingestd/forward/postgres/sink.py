"""The sink PostgreSQL: a batch is one transaction of its ledger, its watermarks, and its rows by COPY.

The watermarks are moved first, and only from where the batch begins: what was committed can't come twice, however the
connection ends. Where rows are there already all the same, as after a watermark that somebody set back, the batch goes
again by a staging table that passes over them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from codex.logging.address import Address
from codex_ingestd.forward.errors import SinkError, StaleSinkError
from codex_ingestd.forward.identity import Host
from codex_ingestd.forward.pace import Batches
from codex_ingestd.forward.patience import Patience
from codex_ingestd.forward.postgres.schema import migrate, steps, version
from codex_ingestd.forward.sink import Batch, Row, Watermark

_COLUMNS = (
    'session_id, host_id, generation, "offset", part, at, seq, length, ts, role, kind, message, meta, tool, model,'
    " call_id, parent, inherited"
)
_TYPES = (
    "text uuid int8 int8 int2 float8 int8 int8 float8 text text text text text text text text int2".split()  # noqa: SIM905
)
_REJECT_COLUMNS = 'session_id, host_id, generation, "offset", seq, length, reason, detail'
_REJECT_TYPES = "text uuid int8 int8 int8 int8 text text".split()  # noqa: SIM905
_ARRIVE = "SELECT codex_sink.arrive(%s, %s, %s, %s, %s, %s)"
_WATERMARKS = "SELECT * FROM codex_sink.watermarks(%s)"
_ADVANCE = "SELECT * FROM codex_sink.advance(%s, %s)"
_PARTITION = "SELECT codex_sink.make_partition(%s)"
_INDEX = "SELECT codex_sink.index_words(%s)"
_INDEX_EVENTS = 2000  # some 0.2 s of the server's work
_MONTH_SECONDS = 30 * 86400.0  # no month is shorter by so much that one between two ends would be missed
_STALE = "CX001"
_KEEPALIVE = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4, "connect_timeout": 10}


class _Table(NamedTuple):
    """Where rows are copied to."""

    name: str
    columns: str
    types: Sequence[str]


EVENTS = _Table("codex_sink.events", _COLUMNS, _TYPES)
_REJECTS = _Table("codex_sink.ingest_rejects", _REJECT_COLUMNS, _REJECT_TYPES)


class PostgresSink:
    """See sink.Sink. An answer that takes longer than `seconds` ends the connection."""

    batches = Batches()

    def __init__(self, address: Address, host: Host, seconds: float) -> None:
        self.name = address.name
        self._address = address
        self._host = host
        self._seconds = seconds
        self._connection: psycopg.Connection[Any] | None = None
        self._numbers: dict[int, int] = {}
        self._months: set[float] = set()

    def open(self) -> None:
        """Connect anew; the schema is made where the role may make it."""
        self.close()
        with self._told("connecting"):
            parameters = {**_KEEPALIVE, **_parameters(self._address), "application_name": "codex-ingestd"}
            self._connection = psycopg.connect(**parameters, autocommit=True)
            with self._patience():
                self._bring_up_to_date(self._connection)
                host = self._host
                facts = (host.id, host.machine, host.name, host.user, host.database, host.version)
                self._connection.execute(_ARRIVE, tuple(map(_sound, facts)))

    @staticmethod
    def _bring_up_to_date(connection: psycopg.Connection[Any]) -> None:
        """Make the schema what this program knows, where the role may; an older one serves as well, a newer one too."""
        former = version(connection)
        if former < len(steps()):
            try:
                migrate(connection)
            except psycopg.errors.InsufficientPrivilege:
                if not former:
                    raise

    def watermarks(self) -> Iterable[Watermark]:
        """What it has of this host."""
        self._numbers.clear()
        with self._told("reading its watermarks"), self._patience() as connection:
            rows = connection.execute(_WATERMARKS, (self._host.id,)).fetchall()
        for local, number, began, event, reject, offset, chain, ledger in rows:
            self._numbers[local] = number
            yield Watermark(local, began, event, reject, offset, chain or b"", ledger)

    def unfinished(self) -> tuple[tuple[Watermark, Watermark], ...]:
        """There is nothing: a transaction is there or not."""
        return ()

    def send(self, batch: Batch) -> None:
        """Take a batch."""
        with self._told("sending"), self._patience() as connection:
            self._make_partitions(connection, batch)
            try:
                self._send(connection, batch, self._copy)
            except psycopg.errors.CharacterNotInRepertoire:
                self._send(connection, batch, self._merge, clean=True)
            except psycopg.errors.UniqueViolation:
                self._send(connection, batch, self._merge)

    def tend(self) -> bool:
        """Index some words."""
        with self._told("indexing"), self._patience() as connection:
            row = connection.execute(_INDEX, (_INDEX_EVENTS,)).fetchone()
        return bool(row and row[0] >= _INDEX_EVENTS)

    def close(self) -> None:
        """Let go of the connection; a server that doesn't answer is not waited for."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _send(
        self,
        connection: psycopg.Connection[Any],
        batch: Batch,
        put: Callable[[psycopg.Connection[Any], _Table, Iterable[Row]], None],
        *,
        clean: bool = False,
    ) -> None:
        """One transaction, with rows put where they belong by `put`; `clean` of what the engine can't hold."""
        with connection.transaction():
            moved = connection.execute(_ADVANCE, (self._host.id, _ledger(batch))).fetchall()
            numbers = dict(moved)
            if batch.events:
                put(connection, EVENTS, self._events(batch, numbers, clean))
            if any(part.rejects for part in batch.parts):
                put(connection, _REJECTS, self._rejects(batch, numbers))
        self._numbers.update(numbers)

    def _events(self, batch: Batch, numbers: dict[int, int], clean: bool) -> Iterator[Row]:
        host = self._host.id
        for part in batch.parts:
            head = (_sound(part.stream.session_id), host, numbers[part.after.generation])
            for row in part.events:
                yield (*head, *(map(_sound, row[1:]) if clean else row[1:]))

    def _rejects(self, batch: Batch, numbers: dict[int, int]) -> Iterator[Row]:
        for part in batch.parts:
            head = (_sound(part.stream.session_id), self._host.id, numbers[part.after.generation])
            for row in part.rejects:
                yield (*head, *map(_sound, row[1:]))

    @staticmethod
    def _copy(connection: psycopg.Connection[Any], table: _Table, rows: Iterable[Row]) -> None:
        query = f"COPY {table.name} ({table.columns}) FROM STDIN (FORMAT BINARY)"
        with connection.cursor() as cursor, cursor.copy(query.encode()) as copy:
            copy.set_types(table.types)
            write = copy.write_row
            for row in rows:
                write(row)

    def _merge(self, connection: psycopg.Connection[Any], table: _Table, rows: Iterable[Row]) -> None:
        """Put what isn't there yet."""
        staging = table._replace(name="pg_temp.staging")
        definition = ", ".join(
            f"{name} {kind}" for name, kind in zip(table.columns.split(","), table.types, strict=True)
        )
        connection.execute(f"CREATE TEMP TABLE staging ({definition}) ON COMMIT DROP".encode())
        self._copy(connection, staging, rows)
        connection.execute(
            f"INSERT INTO {table.name} ({table.columns}) SELECT * FROM staging ON CONFLICT DO NOTHING".encode()  # noqa: S608
        )
        connection.execute("DROP TABLE pg_temp.staging")

    def _make_partitions(self, connection: psycopg.Connection[Any], batch: Batch) -> None:
        """See that there is one for each month of the batch's events, apart from its transaction."""
        months = {row[3] // _MONTH_SECONDS for part in batch.parts for row in part.events} - self._months
        for month in filter(math.isfinite, months):
            for at in (month * _MONTH_SECONDS, (month + 1) * _MONTH_SECONDS - 1):
                connection.execute(_PARTITION, (at,))
        self._months |= months

    @contextmanager
    def _patience(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection; it is cut where the block takes longer than it may, for a dead network never tells."""
        connection = self._connection
        if connection is None or connection.closed:
            raise SinkError(f"{self.name}: not connected")
        with Patience(connection.fileno(), self._seconds) as patience:
            try:
                yield connection
            except psycopg.OperationalError as error:
                if patience.is_over:
                    raise SinkError(f"{self.name}: no answer for {self._seconds:.0f} s") from error
                raise

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """psycopg's errors as SinkError, with what to do next."""
        try:
            yield
        except psycopg.Error as error:
            if error.sqlstate == _STALE:
                raise StaleSinkError(f"{self.name}: another forwarder of this host went on first") from error
            raise SinkError(
                f"{self.name}: {doing}: {self._address.without_secrets(_first_line(error))}",
                hint=_hint(error),
                passes=(error.sqlstate or "08")[:2] not in _LASTING,
            ) from error


# Classes of errors that stay until somebody does something: user and password, names, rights, data.
_LASTING = ("22", "23", "28", "3D", "3F", "42")


def _first_line(error: psycopg.Error) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


_HINTS = {
    "28": "Look at user and password: in the URL given by the environment or a file, or in ~/.pgpass.",
    "3D": "Create that database: `createdb NAME`.",
    "42501": "Let an administrator run `codex-ingestd forward --to URL --check` once, which makes the schema; and"
    " `GRANT codex_writer TO` this role.",
    "42883": "The schema there is older than this program: let an administrator run `codex-ingestd forward --check`.",
    "53": "The server is short of disk, memory or connections; it is tried again.",
    "25006": "That server takes no writes: name the primary one.",
}


def _hint(error: psycopg.Error) -> str:
    state = error.sqlstate or ""
    found = next((hint for prefix, hint in _HINTS.items() if state.startswith(prefix)), "")
    return found or (
        "Is the server up, and may this host reach it? What is to be sent waits in the local database."
        if not state
        else ""
    )


def _parameters(address: Address) -> dict[str, Any]:
    """What the URL gives libpq. Raises SinkError, without a word of what stands in it."""
    try:
        return conninfo_to_dict(address.url)
    except psycopg.Error:
        raise SinkError(
            f"{address.name}: its URL can't be read", hint="Percent-encode what is special.", passes=False
        ) from None


def _ledger(batch: Batch) -> str:
    """All of a batch but its rows, as JSON that PostgreSQL takes."""
    streams = {part.stream.local: part.stream for part in batch.parts}
    generations = []
    for part in sorted(batch.parts, key=lambda part: part.after.generation):
        before, after = part.before, part.after
        marks = {
            "from_event": before.event,
            "from_reject": before.reject,
            "event": after.event,
            "reject": after.reject,
            "sent_offset": after.offset,
            "sent_chain": after.chain.hex(),
            "ledger": after.ledger,
        }
        generations.append(_plain(part.generation) | marks)
    stones = [part.tombstone for part in batch.parts if part.tombstone is not None]
    summaries = [part.summary for part in batch.parts if part.summary is not None]
    return json.dumps(
        {
            "streams": [_plain(streams[local]) for local in sorted(streams)],
            "generations": generations,
            "summaries": [_plain(row) for row in summaries],
            "usage": [_plain(row) for part in batch.parts for row in part.usage],
            "tombstones": [_plain(row) for row in stones],
            "redacted_spans": [_plain(row) for part in batch.parts for row in part.spans],
        }
    )


def _plain(row: Any) -> dict[str, Any]:
    return {name: _for_json(value) for name, value in row._asdict().items()}


def _for_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _sound(value)


def _sound(value: Any) -> Any:
    """A text as PostgreSQL can hold it, which knows no NUL: with the sign for it instead."""
    return value.replace("\0", "␀") if isinstance(value, str) else value
