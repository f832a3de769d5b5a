"""Databases that the forerunners made: upgraded in place, in the transaction that brings the schema up to date.

Their tables are renamed to `legacy_*`, with every row, column and index as it was, and the views that have taken their
names show those rows too. Only an upgraded file pays for that: in it each view is what the numbered steps made, with
the old rows added by `show`, and a step that makes a view anew gets them added again.

A session's NDJSON is the source of truth, so an old row of `session_events` is out of the view once a line of its
session says the same: same role, same message, and a time at most a second away (the forerunners' clocks read twice
for one event; a row without a time is the line of its number). What no line says was written to SQLite alone, and
stays in the view for ever. In a session of which no line has come it keeps its number, or gets one behind the
others where it had none; else it stands behind the last line that isn't later, under that line's `seq` and with a
`part` from 256 on, which no line has.

Actions, starts and ends never stood in the forerunners' NDJSON: all of their rows are shown, as they are. A session's
old watermark is shown until a stream of ours has one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.events import instant

# What each table must have to be a forerunner's, and what it may lack.
_COLUMNS: dict[str, tuple[set[str], dict[str, str]]] = {
    "session_events": ({"session_id", "message"}, {"seq": "INTEGER", "ts": "REAL", "role": "TEXT", "meta": "TEXT"}),
    "session_ingest_watermark": ({"session_id", "seq"}, {}),
    "codex_actions": (
        {"session_id", "action"},
        {"id": "INTEGER", "ts": "TEXT", "statement": "TEXT", "metadata": "TEXT"},
    ),
    "codex_log": ({"session_id", "event"}, {"ts": "TEXT", "summary": "TEXT"}),
}
NAMES = tuple(_COLUMNS)
# What is added: `ts` as epoch seconds; a number that is the row's alone in its session; whether a line is the same;
# the line it stands behind.
_ADDED = {
    "session_events": {
        "epoch": "REAL",
        "number": "INTEGER",
        "found": "INTEGER NOT NULL DEFAULT 0",
        "behind": "INTEGER NOT NULL DEFAULT 0",
    },
    "codex_actions": {"epoch": "REAL"},
    "codex_log": {"epoch": "REAL"},
}
_ISO = "coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', l.epoch, 'unixepoch'), l.ts)"
_IS_STREAMED = "EXISTS (SELECT 1 FROM streams WHERE session_id = l.session_id)"
# The old rows in the words of the views; columns that a view has besides are NULL.
_SHOWN: dict[str, tuple[dict[str, str], str]] = {
    "session_events": (
        {
            "session_id": "l.session_id",
            "seq": f"CASE WHEN {_IS_STREAMED} THEN l.behind ELSE l.number END",
            "ts": "l.epoch",
            "role": "coalesce(l.role, 'system')",
            "message": "coalesce(l.message, '')",
            "meta": "coalesce(l.meta, '{}')",
            "part": f"CASE WHEN {_IS_STREAMED} THEN 255 + l.number ELSE 0 END",
            "kind": "CASE WHEN l.message IN ('session_start', 'session_end') THEN l.message ELSE 'message' END",
        },
        "legacy_session_events AS l WHERE NOT l.found",
    ),
    "session_ingest_watermark": (
        {"session_id": "l.session_id", "seq": "l.seq"},
        f"legacy_session_ingest_watermark AS l WHERE NOT {_IS_STREAMED}",
    ),
    "codex_actions": (
        {
            "id": "coalesce(l.id, l.rowid)",
            "session_id": "l.session_id",
            "ts": _ISO,
            "action": "l.action",
            "statement": "l.statement",
            "metadata": "l.metadata",
        },
        "legacy_codex_actions AS l",
    ),
    "codex_log": (
        {"session_id": "l.session_id", "event": "l.event", "summary": "l.summary", "ts": _ISO},
        "legacy_codex_log AS l",
    ),
}
_NUMBER = """
UPDATE legacy_session_events SET number = seq WHERE rowid IN (
    SELECT min(rowid) FROM legacy_session_events WHERE typeof(seq) = 'integer' AND seq > 0 GROUP BY session_id, seq);
UPDATE legacy_session_events SET number = place.number
FROM (
    SELECT rowid AS id, max(coalesce(number, 0)) OVER session
                        + sum(number IS NULL) OVER (session ORDER BY rowid) AS number
    FROM legacy_session_events WINDOW session AS (PARTITION BY session_id)
) AS place
WHERE legacy_session_events.rowid = place.id AND legacy_session_events.number IS NULL"""

_AT_REST = """
SELECT l.session_id FROM (
    SELECT session_id, epoch FROM legacy_session_events
    UNION ALL SELECT session_id, epoch FROM legacy_codex_actions
    UNION ALL SELECT session_id, epoch FROM legacy_codex_log
) AS l WHERE l.session_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM streams WHERE session_id = l.session_id)
GROUP BY l.session_id HAVING max(l.epoch) < ? ORDER BY l.session_id"""

_COUNT = """
SELECT (SELECT count(*) FROM legacy_session_events WHERE session_id = ?1)
     + (SELECT count(*) FROM legacy_codex_actions WHERE session_id = ?1)
     + (SELECT count(*) FROM legacy_codex_log WHERE session_id = ?1)"""


def is_there(connection: apsw.Connection) -> bool:
    """Whether the file has tables that a forerunner made, or somebody under their names."""
    schema = _schema(connection)
    return any(name in schema and schema[name][0] == "table" for name in NAMES)


def set_aside(connection: apsw.Connection, path: str) -> None:
    """Rename the forerunners' tables, if there are any, before the steps that make views of their names.

    Raises DatabaseError for a table of such a name that is no forerunner's.
    """
    schema = _schema(connection)
    old = [name for name in NAMES if name in schema and schema[name][0] == "table"]
    if not old:
        return
    # Views and triggers of others that read a renamed table go on reading its name, which our view will have.
    connection.pragma("legacy_alter_table", True)
    try:
        for name in old:
            if not _COLUMNS[name][0] <= set(_columns(connection, name)):
                raise DatabaseError(
                    f"{path} already holds a table named {name} that neither this program nor a forerunner made",
                    hint="Choose another --db.",
                )
            _rename(connection, name)
    finally:
        connection.pragma("legacy_alter_table", False)
    connection.create_scalar_function("epoch_seconds", instant, 1, deterministic=True)  # type: ignore[arg-type]
    for name in sorted(_ADDED.keys() & old):
        connection.execute(f"UPDATE legacy_{name} SET epoch = epoch_seconds(ts)")  # noqa: S608
    if "session_events" in old:
        connection.execute(_NUMBER)


def show(connection: apsw.Connection) -> None:
    """Have the views of an upgraded database show the old rows; nothing changes where they do, or there are none."""
    schema = _schema(connection)
    if not any(f"legacy_{name}" in schema for name in NAMES):
        return
    sql = resources.files(__package__) / "schema" / "legacy.sql"
    connection.execute(sql.read_text(encoding="utf-8"))
    schema = _schema(connection)
    for name, (expressions, source) in _SHOWN.items():
        view = schema[name][1]
        if f"legacy_{name}" not in view:
            shown = ", ".join(expressions.get(column, "NULL") for column in _columns(connection, name))
            connection.execute(f"DROP VIEW {name}")
            connection.execute(f"{view}\nUNION ALL\nSELECT {shown} FROM {source}")


def at_rest(connection: apsw.Connection, before: float) -> list[str]:
    """Sessions of which there are old rows alone, none since that epoch second."""
    if not _is_upgraded(connection):
        return []
    return [str(session_id) for (session_id,) in connection.execute(_AT_REST, (before,))]


def count(connection: apsw.Connection, session_id: str) -> int:
    """Old rows of a session."""
    if not _is_upgraded(connection):
        return 0
    return int(str(connection.execute(_COUNT, (session_id,)).fetchall()[0][0]))


def remove(connection: apsw.Connection, session_id: str) -> None:
    """Delete the old rows of a session; the caller's transaction, and its choice."""
    for name in NAMES:
        connection.execute(f"DELETE FROM legacy_{name} WHERE session_id = ?", (session_id,))  # noqa: S608


def replace(
    connection: apsw.Connection, session_id: str, change: Callable[[str], str], *, dry_run: bool = False
) -> int:
    """Change the texts of a session's old rows; how many rows that are. The caller's transaction, and its choice."""
    changed = 0
    for name in NAMES if _is_upgraded(connection) else ():
        columns = _columns(connection, f"legacy_{name}")
        rows = connection.execute(f"SELECT rowid, * FROM legacy_{name} WHERE session_id = ?", (session_id,)).fetchall()  # noqa: S608
        for number, *row in rows:
            new = [change(cell) if isinstance(cell, str) and cell != session_id else cell for cell in row]
            if new != row:
                changed += 1
                sets = ", ".join(f'"{column}" = ?' for column in columns)
                if not dry_run:
                    connection.execute(f"UPDATE legacy_{name} SET {sets} WHERE rowid = ?", (*new, number))  # noqa: S608
    return changed


def _is_upgraded(connection: apsw.Connection) -> bool:
    """Whether a forerunner made the file."""
    return "legacy_session_events" in _schema(connection)


def _rename(connection: apsw.Connection, name: str) -> None:
    columns = _columns(connection, name)
    connection.execute(f"ALTER TABLE {name} RENAME TO legacy_{name}")
    lacking = {column: kind for column, kind in _COLUMNS[name][1].items() if column not in columns}
    for column, kind in (lacking | _ADDED.get(name, {})).items():
        connection.execute(f"ALTER TABLE legacy_{name} ADD COLUMN {column} {kind}")


def _schema(connection: apsw.Connection) -> dict[str, tuple[str, str]]:
    """Type and SQL of each thing in the file, by name."""
    rows = connection.execute("SELECT name, type, coalesce(sql, '') FROM sqlite_schema")
    return {str(name): (str(kind), str(sql)) for name, kind, sql in rows}


def _columns(connection: apsw.Connection, name: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({name})")]
