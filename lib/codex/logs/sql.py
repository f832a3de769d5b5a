"""Any question in SQL, answered without any way to write: `codex-logs sql`."""

from __future__ import annotations

import base64
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import click

from codex.logging.errors import ConfigError
from codex.logging.listing import print_json, print_lines, to_json
from codex.logging.reading import reading
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, json_option, tell
from codex.logs.read.query import QueryLimitError, Result, Stopwatch, run_query
from codex.logs.read.schema import Relation, relations
from codex.logs.shown.delimited import write_csv
from codex.logs.shown.tables import print_table

_TABLE_ROWS = 1000
_GRACE = 2.0  # seconds that one call of a function may go on past the end, before the process ends
_LOOK = 0.1  # seconds


@click.command(
    "sql",
    epilog="\b\nExamples:\n  codex-logs sql --schema"
    '\n  codex-logs sql "SELECT tool, count(*) FROM session_events GROUP BY tool ORDER BY 2 DESC"'
    "\n  codex-logs sql --file report.sql --csv > report.csv",
)
@click.argument("query", required=False)
@click.option("--file", "path", type=click.Path(), help="Read the query from this file; - is standard input.")
@click.option("--schema", is_flag=True, help="Show the tables and views to ask, and their columns.")
@click.option("--csv", "form", flag_value="csv", help="For spreadsheets: CSV, with what looks like a formula quoted.")
@click.option("--jsonl", "form", flag_value="jsonl", help="For machines: one JSON object a line.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most N rows, 0 for all.  [default: {_TABLE_ROWS} for a table, else all]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the query may work.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="MIB",
    help="How much memory the query may take.",
)
@db_option
@json_option
def command(
    query: str | None,
    path: str | None,
    schema: bool,
    form: str | None,
    limit: int | None,
    timeout: float,
    memory: int,
    db: str | None,
    as_json: bool,
) -> int:
    """Answer one SQL query; nothing but reading is possible.

    The query is the argument, a file's text, or standard input. Exit codes: 0 answered, 1 it took too long or too much
    memory, 2 it is no query, or not allowed.
    """
    form = "json" if as_json else form
    if schema:
        with reading(db) as opened, translated(opened.path):
            _show_schema(relations(opened.connection), as_json)
        return 0
    text = _query(query, path)
    watch = Stopwatch(timeout)
    most = (_TABLE_ROWS if form is None else 0) if limit is None else limit
    with reading(db) as opened, _ended_by_force(watch):
        with translated(opened.path):
            result = run_query(opened.connection, text, watch, memory << 20)
        result = result._replace(rows=_translated(result.rows, opened.path))
        shown = result._replace(rows=islice(result.rows, most) if most else result.rows)
        _show(shown, form, memory << 20)
        if most and next(result.rows, None) is not None:
            tell(f"Only the first {most:,} rows are shown: --limit 0 shows all.", err=True)
    return 0


def _query(argument: str | None, path: str | None) -> str:
    if argument is not None and path is not None:
        raise ConfigError("a query and --file, both", hint="Give one of them.")
    if argument not in (None, "-"):
        return str(argument)
    if argument is None and path is None and sys.stdin.isatty():
        raise ConfigError("no query", hint="codex-logs sql --schema shows what to ask; --help has an example.")
    try:
        with click.open_file(path or "-", "rb") as file:
            return str(file.read(), "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="Name a file with a query.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path or 'the query'} is no UTF-8 text", hint="Name a file with a query.") from error


def _translated(rows: Iterator[tuple[object, ...]], path: str) -> Iterator[tuple[object, ...]]:
    with translated(path):
        yield from rows


@contextmanager
def _ended_by_force(watch: Stopwatch) -> Iterator[None]:
    """End the process where one call of a function goes on and on, which SQLite can't interrupt."""
    done = threading.Event()

    def wait() -> None:
        while not done.wait(_LOOK):
            if watch.over() > _GRACE:
                sys.stderr.write("error: the query was stopped: it took longer than it may\n")
                sys.stderr.flush()
                os._exit(1)

    thread = threading.Thread(target=wait, name="query-limit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(result: Result, form: str | None, memory: int) -> None:
    if form == "csv":
        write_csv(sys.stdout, result.columns, result.rows)
    elif form == "json":
        print_json(_records(result))
    elif form == "jsonl":
        print_lines(map(to_json, _records(result)))
    else:
        print_table(result.columns, _bounded(([_cell(value) for value in row] for row in result.rows), memory))


def _bounded(rows: Iterator[list[object]], memory: int) -> Iterator[list[object]]:
    """The rows, which a table holds all at once. Raises QueryLimitError where their texts take more than this."""
    left = memory // 8  # letters: of four bytes at most, and once more as they are shown
    for row in rows:
        left -= sum(len(cell) for cell in row if isinstance(cell, str))
        if left < 0:
            raise QueryLimitError(
                f"the table needs more memory than the {memory >> 20} MiB it may take",
                hint="Take fewer rows, or --jsonl or --csv, which print each as it comes.",
            )
        yield row


def _records(result: Result) -> Iterator[dict[str, object]]:
    """Each row as an object; a second column of one name is told apart by its place."""
    names = [
        name if result.columns.index(name) == place else f"{name}_{place + 1}"
        for place, name in enumerate(result.columns)
    ]
    for row in result.rows:
        yield {name: _value(value) for name, value in zip(names, row, strict=True)}


def _value(value: object) -> object:
    """For JSON: bytes as datasette writes them; what is no finite number, JSON hasn't."""
    if isinstance(value, bytes):
        return {"$base64": True, "encoded": base64.b64encode(value).decode()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> object:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return str(value) if isinstance(value, int | float) else value


def _show_schema(found: list[Relation], as_json: bool) -> None:
    if as_json:
        print_json(relation.as_dict() for relation in found)
        return
    for relation in found:
        tell(f"{relation.name} ({relation.kind}): {relation.about}")
        columns = ", ".join(f"{name} {kind}".strip() for name, kind in relation.columns)
        click.echo(click.wrap_text(columns, 100, initial_indent="    ", subsequent_indent="    "))
