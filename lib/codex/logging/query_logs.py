"""Read rows back: `python -m codex.logging.query_logs`, and `codex-logs` for short."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

import apsw
import click

from codex.logging import config, terminal
from codex.logging.errors import CodexLoggingError, ConfigError, DatabaseMissingError
from codex.logging.events import iso_time, parse_time
from codex.logging.restore import raw_line, session_streams
from codex.logging.store.connection import has_relation, open_reader, scalar, translated

_EVENTS = """
SELECT session_id, seq, CAST(ts AS REAL) AS ts, role, message, {meta} AS meta, {part} AS part
FROM session_events WHERE :session IS NULL OR session_id = :session"""
_LOGS = """
SELECT session AS session_id, rowid AS seq, CAST(ts AS REAL) AS ts, kind AS role, message, NULL AS meta, 0 AS part
FROM logs WHERE :session IS NULL OR session = :session"""
_ROWS = """
SELECT session_id, seq, ts, role, message, meta, part FROM ({source})
WHERE (:role IS NULL OR role = :role) AND (:after IS NULL OR ts >= :after) AND (:before IS NULL OR ts <= :before)
ORDER BY {order} LIMIT :limit OFFSET :offset"""


class Row(NamedTuple):
    """One row as a reader shows it; `ts` is epoch seconds, `meta` JSON text or None."""

    session_id: str | None
    seq: int | None
    ts: float | None
    role: str | None
    message: str | None
    meta: str | None
    part: int

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
        return row | {"meta": _meta_value(self.meta)} if show_meta else row

    def as_text(self, *, show_meta: bool) -> str:
        """One line, or more where the message has more."""
        meta = f"  {self.meta}" if show_meta and self.meta not in (None, "{}") else ""
        return f"{iso_time(self.ts)} [{self.session_id}] {self.role}: {self.message}{meta}"


class Selection(NamedTuple):
    """Which rows, in which order. Times are epoch seconds; `tail` overrides limit, order and offset."""

    session_id: str | None = None
    role: str | None = None
    after: float | None = None
    before: float | None = None
    descending: bool = False
    limit: int | None = None
    offset: int = 0
    tail: int | None = None


def read_rows(path: str, selection: Selection) -> Iterator[Row]:
    """The selected rows of a database, ours or one of its forerunners'.

    Raises DatabaseMissingError when there is no such file or no table to read, DatabaseError when it can't be read.
    """
    with closing(open_reader(path)) as connection, translated(path):
        source, by_line = _source(connection, path, selection.session_id)
        order = "seq {0}, part {0}" if by_line else "ts {0}, session_id {0}, seq {0}, part {0}"
        descending = selection.descending if selection.tail is None else True
        query = _ROWS.format(source=source, order=order.format("DESC" if descending else "ASC"))
        limit = selection.limit if selection.tail is None else selection.tail
        values = {
            "session": selection.session_id,
            "role": selection.role,
            "after": selection.after,
            "before": selection.before,
            "limit": -1 if limit is None else limit,
            "offset": 0 if selection.tail is not None else selection.offset,
        }
        rows: Iterable[tuple[object, ...]] = connection.execute(query, values)
        if selection.tail is not None:
            rows = reversed(list(rows))
        for row in rows:
            yield Row(*row)  # type: ignore[arg-type]


def _source(connection: apsw.Connection, path: str, session_id: str | None) -> tuple[str, bool]:
    """The rows' SELECT, and whether one session's line numbers order them (its clock may have been set back)."""
    parts = []
    if has_relation(connection, "session_events"):
        columns = {row[1] for row in connection.execute("PRAGMA table_info(session_events)")}
        selected = {name: name if name in columns else "NULL" for name in ("seq", "meta", "part")}
        parts.append(
            _EVENTS.format(**selected).replace("session_id, seq,", f"session_id, {selected['seq']} AS seq,", 1)
        )
    if has_relation(connection, "logs"):
        parts.append(_LOGS)
    if not parts:
        raise DatabaseMissingError(
            f"{path} has neither a table session_events nor a table logs",
            hint="Run `codex-import-ndjson --all`, or name another database with --db.",
        )
    by_line = session_id is not None and (
        (len(parts) == 1 and parts[0] is not _LOGS)
        or not scalar(connection, "SELECT EXISTS (SELECT 1 FROM logs WHERE session = ?)", (session_id,))
    )
    return " UNION ALL ".join(parts), bool(by_line)


def catch_up(database: str, session_id: str | None) -> None:
    """Import what is pending, when this is the database that the log folder feeds; quietly not otherwise."""
    if database != config.resolve_database() or not os.path.exists(database):
        return
    from codex.logging import import_ndjson

    try:
        if session_id is None:
            import_ndjson.import_all(db_path=database)
        else:
            import_ndjson.import_session(session_id, db_path=database)
    except (CodexLoggingError, OSError):
        pass  # a reader shows what is there; `codex-import-ndjson` tells what is wrong


def _when(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A time from the command line: ISO 8601 with any offset (UTC without), or epoch seconds."""
    if text is None:
        return None
    try:
        moment = parse_time(float(text))
    except ValueError:
        moment = parse_time(text.strip())
    if moment is None:
        raise ConfigError(
            f"{option.opts[0]}: {text!r} is no time",
            hint="Give ISO 8601 (2026-01-31, 2026-01-31T09:00:00-05:00) or epoch seconds.",
        )
    return moment


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  codex-logs --tail 20\n  codex-logs --session-id demo --role user --format json"
    "\n  codex-logs --after 2026-01-31T09:00:00-05:00 --limit 100",
)
@terminal.db_option
@click.option("--session-id", metavar="ID", help="Only this session.")
@click.option("--role", help="Only this role: system, user, assistant, tool, …")
@click.option("--after", callback=_when, metavar="TIME", help="From this time on: ISO 8601 or epoch seconds.")
@click.option("--before", callback=_when, metavar="TIME", help="Up to this time. Times without an offset are UTC.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Skip the first N rows.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True, help="By time.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The latest N rows, in ascending order.")
@click.option("--show-meta", is_flag=True, help="Also what the record holds beside role and message.")
@click.pass_context
def command(
    context: click.Context,
    db: str | None,
    session_id: str | None,
    role: str | None,
    after: float | None,
    before: float | None,
    form: str,
    limit: int | None,
    offset: int,
    order: str,
    tail: int | None,
    show_meta: bool,
) -> int:
    """Show what the agents wrote.

    Exit codes: 0 shown, 1 unexpected, 2 a bad date, no database, no table.
    """
    if context.invoked_subcommand is not None:
        return 0
    database = config.resolve_database(db)
    catch_up(database, session_id)
    rows = read_rows(database, Selection(session_id, role, after, before, order == "desc", limit, offset, tail))
    if form == "json":
        _print_json(rows, show_meta)
    else:
        for row in rows:
            click.echo(row.as_text(show_meta=show_meta))
    return 0


@command.command(epilog="\b\nExamples:\n  codex-logs raw my-session 42")
@click.argument("session")
@click.argument("seq", type=click.IntRange(min=1))
@terminal.db_option
def raw(session: str, seq: int, db: str | None) -> int:
    """Give one line's exact bytes, its line end included; SEQ is its number in session_events."""
    database = config.resolve_database(db)
    catch_up(database, session)
    with closing(open_reader(database)) as connection, translated(database):
        sys.stdout.buffer.write(raw_line(connection, session_streams(connection, session), seq))
    sys.stdout.buffer.flush()
    return 0


def _print_json(rows: Iterable[Row], show_meta: bool) -> None:
    """One JSON array, written row by row."""
    first = True
    for row in rows:
        text = json.dumps(row.as_dict(show_meta=show_meta), ensure_ascii=False)
        click.echo(("[\n" if first else ",\n") + text, nl=False)
        first = False
    click.echo("[]" if first else "\n]")


def _meta_value(meta: str | None) -> object:
    try:
        return json.loads(meta) if meta else None
    except ValueError:
        return meta


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
