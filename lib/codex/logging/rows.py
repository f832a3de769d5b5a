"""The rows of a database as readers show them: of our views, of the forerunners' tables, of any table like them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

import apsw

from codex.logging.errors import DatabaseMissingError
from codex.logging.events import instant, iso_time
from codex.logging.plain import one_line
from codex.logging.store.connection import has_relation, open_reader, translated

Keep = Callable[[str | None, str | None, str | None, str | None], bool]

_SELECT = """
SELECT {session_id} AS session_id, {seq} AS seq, {ts} AS ts, {role} AS role, {message} AS message, {meta} AS meta,
       {part} AS part, {level} AS level
FROM {relation}"""
_ROWS = """
CREATE TEMP TABLE shown AS
SELECT session_id, seq, ts, role, message, meta, part FROM ({source})
WHERE (:role IS NULL OR role = :role) AND (:after IS NULL OR ts >= :after) AND (:before IS NULL OR ts <= :before)
  AND (:keep = 0 OR kept(role, level, message, meta))
ORDER BY {order} LIMIT :limit OFFSET :offset"""
_SHOWN = "SELECT * FROM shown ORDER BY rowid"
_SHOWN_REVERSED = "SELECT * FROM shown ORDER BY rowid DESC"
_BY_LINE = "seq {0}, part {0}"
_BY_TIME = "ts {0}, session_id {0}, seq {0}, part {0}"
_COLUMNS = {
    "session_id": ("session_id", "session", "sid", "context_id", "conversation_id"),
    "ts": ("ts", "timestamp", "time", "created_at", "logged_at", "event_ts", "event_time", "datetime", "date"),
    "message": ("message", "msg", "text", "detail", "content", "body", "value", "statement", "summary"),
    "role": ("role", "kind", "type", "speaker", "event", "action", "level", "lvl", "severity", "log_level"),
    "level": ("level", "lvl", "severity", "log_level"),
    "meta": ("meta", "metadata"),
    "seq": ("seq", "id"),
    "part": ("part",),
}
_NEEDED = ("session_id", "ts", "message")


class Row(NamedTuple):
    """One row as a reader shows it; `ts` is epoch seconds, `meta` JSON text or None."""

    session_id: str | None
    seq: int | None
    ts: float | None
    role: str | None
    message: str | None
    meta: str | None
    part: int | None

    def as_dict(self, *, show_meta: bool) -> dict[str, object]:
        """For JSON; the meta as JSON where it is some."""
        row: dict[str, object] = {
            "session_id": self.session_id,
            "seq": self.seq,
            "ts": self.ts,
            "time": iso_time(self.ts),
            "role": self.role,
            "message": self.message,
        }
        return row | {"meta": meta_value(self.meta)} if show_meta else row

    def as_text(self, *, show_meta: bool) -> str:
        """One line, or more where the message has more; a name in it has none."""
        meta = f"  {self.meta}" if show_meta and self.meta not in (None, "{}") else ""
        return f"{iso_time(self.ts)} [{one_line(str(self.session_id))}] {one_line(str(self.role))}: {self.text}{meta}"

    @property
    def text(self) -> str:
        """The message, empty where there is none."""
        return "" if self.message is None else str(self.message)


class Selection(NamedTuple):
    """Which rows, in which order. Times are epoch seconds; `tail` overrides limit, order and offset.

    `keep` decides by role, level, message and meta, each None where the row has none.
    """

    session_id: str | None = None
    role: str | None = None
    after: float | None = None
    before: float | None = None
    descending: bool = False
    limit: int | None = None
    offset: int = 0
    tail: int | None = None
    keep: Keep | None = None


class _Source(NamedTuple):
    """A SELECT of rows; `by_line` where line numbers order one session's (its clock may have been set back)."""

    select: str
    by_line: bool


def read_rows(path: str, selection: Selection, table: str | None = None) -> Iterator[Row]:
    """The selected rows of a database as it is, ours or one of its forerunners'.

    Raises DatabaseMissingError when there is no such file or no table to read, DatabaseError when it can't be read.
    """
    with closing(open_reader(path)) as connection, translated(path):
        yield from select_rows(connection, path, selection, table)


def select_rows(
    connection: apsw.Connection, path: str, selection: Selection, table: str | None = None
) -> Iterator[Row]:
    """The selected rows: of one table or view, else of `session_events` and `logs`.

    They are put aside first: whoever takes them slowly holds up no checkpoint. Raises DatabaseMissingError.
    """
    connection.create_scalar_function("instant", instant, 1, deterministic=True)  # type: ignore[arg-type]
    keep = selection.keep or _keep_all
    connection.create_scalar_function("kept", keep, 4, deterministic=True)  # type: ignore[arg-type]
    source = _source(connection, path, selection.session_id, table)
    descending = selection.descending if selection.tail is None else True
    order = (_BY_LINE if source.by_line else _BY_TIME).format("DESC" if descending else "ASC")
    limit = selection.limit if selection.tail is None else selection.tail
    query = _ROWS.format(source=source.select, order=order)
    connection.execute("DROP TABLE IF EXISTS temp.shown")
    connection.execute(
        query,
        {
            "session": selection.session_id,
            "role": selection.role,
            "after": selection.after,
            "before": selection.before,
            "keep": selection.keep is not None,
            "limit": -1 if limit is None else limit,
            "offset": 0 if selection.tail is not None else selection.offset,
        },
    )
    for row in connection.execute(_SHOWN if selection.tail is None else _SHOWN_REVERSED):
        yield Row(*map(_shown, row))  # type: ignore[arg-type]


def _keep_all(role: str | None, level: str | None, message: str | None, meta: str | None) -> bool:
    return True


def _source(connection: apsw.Connection, path: str, session_id: str | None, table: str | None) -> _Source:
    names = ["session_events", "logs"] if table is None else [table]
    found = [source for name in names if (source := _select_of(connection, name, session_id)) is not None]
    if not found:
        wanted = "neither a table session_events nor a table logs" if table is None else f"no table {table} to read"
        raise DatabaseMissingError(
            f"{path} has {wanted}",
            hint="Run `codex-import-ndjson --all`, or name another database with --db."
            if table is None
            else f"A table to read has columns for session, time and message: {', '.join(readable(connection))}.",
        )
    if len(found) > 1 and found[0].by_line and _is_empty(connection, found[1].select, session_id):
        found = found[:1]
    by_line = session_id is not None and len(found) == 1 and found[0].by_line
    return _Source(" UNION ALL ".join(source.select for source in found), by_line)


def readable(connection: apsw.Connection) -> list[str]:
    """The names of the tables and views that have the columns a reader needs."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name")
    return [str(name) for (name,) in names.fetchall() if _select_of(connection, str(name), None) is not None]


def _select_of(connection: apsw.Connection, name: str, session_id: str | None) -> _Source | None:
    """The SELECT of one table or view; None when it isn't there, or lacks a column that a row needs."""
    if not has_relation(connection, name):
        return None
    relation = _quoted(name)
    columns = {str(row[1]).lower() for row in connection.execute(f"PRAGMA table_info({relation})")}
    chosen = {
        field: next((_quoted(column) for column in candidates if column in columns), None)
        for field, candidates in _COLUMNS.items()
    }
    if any(chosen[field] is None for field in _NEEDED):
        return None
    ours = name == "session_events" and "generation" in columns
    if not ours:
        chosen["ts"] = f"instant({chosen['ts']})"
        chosen["seq"] = chosen["seq"] or ("rowid" if _has_rowid(connection, name) else None)
    values = {field: column or "NULL" for field, column in chosen.items()}
    select = _SELECT.format(relation=relation, **values)
    if session_id is not None:
        select += f" WHERE {chosen['session_id']} = :session"
    return _Source(select, ours)


def _has_rowid(connection: apsw.Connection, name: str) -> bool:
    row = connection.execute("SELECT type, wr FROM pragma_table_list(?) WHERE schema = 'main'", (name,)).fetchone()
    return row is not None and tuple(row) == ("table", 0)


def _is_empty(connection: apsw.Connection, select: str, session_id: str | None) -> bool:
    return connection.execute(f"SELECT 1 FROM ({select}) LIMIT 1", {"session": session_id}).fetchone() is None  # noqa: S608


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _shown(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def meta_value(meta: str | None) -> object:
    """The meta as JSON where it is some, else as it is."""
    try:
        return json.loads(meta) if meta else None
    except (ValueError, RecursionError):
        return meta
