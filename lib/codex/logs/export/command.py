"""Sessions as files: `codex-logs export`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import BinaryIO, NamedTuple

import click

from codex.logging.errors import ConfigError
from codex.logging.listing import after_option, before_option
from codex.logging.plain import counted
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, tell
from codex.logs.chosen import SESSION
from codex.logs.database import Opened, host_option, reading
from codex.logs.export.transcript import Transcript
from codex.logs.read.events import Event, Filters, every
from codex.logs.read.sessions import find, names, session
from codex.logs.target import target

Writer = Callable[[BinaryIO, Iterable[Transcript]], None]


class _Form(NamedTuple):
    """A form of a file: what its name ends in, and which function of which module writes it."""

    ending: str
    module: str
    function: str


_FORMS = {
    "jsonl": _Form(".jsonl", "rows", "write_jsonl"),
    "csv": _Form(".csv", "rows", "write_table"),
    "markdown": _Form(".md", "markdown", "write_markdown"),
    "html": _Form(".html", "page", "write_page"),
    "parquet": _Form(".parquet", "parquet", "write_parquet"),
}


@click.command(
    "export",
    epilog="\b\nExamples:\n  codex-logs export last --output session.html"
    "\n  codex-logs export --all --format csv --after 7d > week.csv"
    "\n  codex-logs export --all --output events.parquet",
)
@click.argument("wanted", nargs=-1, type=SESSION, metavar="[SESSION]...")
@click.option("--all", "everything", is_flag=True, help="Every session.")
@click.option("--format", "form", type=click.Choice(list(_FORMS)), help="[default: by --output's ending, else jsonl]")
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write this file; whole, or not at all.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--role", "roles", multiple=True, help="Only this role: user, assistant, tool, …; may be given again.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind: message, reasoning, tool_call, tool_result, …")
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Only calls of this tool.")
@after_option
@before_option
@db_option
@host_option
def command(
    wanted: tuple[str, ...],
    everything: bool,
    form: str | None,
    output: str | None,
    force: bool,
    roles: tuple[str, ...],
    kinds: tuple[str, ...],
    tools: tuple[str, ...],
    after: float | None,
    before: float | None,
    db: str | None,
    host: str | None,
) -> int:
    """Write sessions as JSON lines, CSV, Markdown, a page that needs nothing else, or Parquet.

    A session is its id, the beginning of it, or `last`. The lines of a log as they were written are `codex-ingestd
    restore`'s.
    """
    if bool(wanted) == everything:
        raise ConfigError(
            "no session" if not wanted else "sessions and --all, both", hint="Name sessions, or give --all."
        )
    chosen = _form(form, output)
    filters = Filters(roles, kinds, tools, after, before)
    counts = {"sessions": 0, "events": 0}
    with reading(db, host=host) as opened:
        with translated(opened.path):
            found = names(opened.connection) if everything else [find(opened.connection, text) for text in wanted]
        with target(output, force=force) as file:
            _writer(chosen)(file, _transcripts(opened, dict.fromkeys(found), filters, counts))
    if output not in (None, "-"):
        tell(f"{counted(counts['events'], 'event')} of {counted(counts['sessions'], 'session')} in {output}", err=True)
    return 0


def _form(form: str | None, output: str | None) -> str:
    """The form that is meant. Raises ConfigError where a terminal would get what it can't show."""
    ending = os.path.splitext(output or "")[1].lower()
    endings = {known.ending: name for name, known in _FORMS.items()} | {".ndjson": "jsonl", ".htm": "html"}
    chosen = form or endings.get(ending, "jsonl")
    if chosen == "parquet" and output in (None, "-") and sys.stdout.isatty():
        raise ConfigError("a Parquet file is nothing for a terminal", hint="Name a file with --output.")
    return chosen


def _writer(form: str) -> Writer:
    """Imported when it is the one that is meant."""
    known = _FORMS[form]
    writer: Writer = getattr(import_module(f"codex.logs.export.{known.module}"), known.function)
    return writer


def _transcripts(
    opened: Opened, session_ids: Iterable[str], filters: Filters, counts: dict[str, int]
) -> Iterator[Transcript]:
    """The sessions one after another; what was taken is counted."""
    for session_id in session_ids:
        with translated(opened.path):
            about = session(opened.connection, session_id)
        counts["sessions"] += 1
        yield Transcript(session_id, about, _events(opened, session_id, filters, counts))


def _events(opened: Opened, session_id: str, filters: Filters, counts: dict[str, int]) -> Iterator[Event]:
    with translated(opened.path):
        for event in every(opened.connection, session_id, filters=filters):
            counts["events"] += 1
            yield event
