"""A session as a readable transcript: `codex-logs show`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain

import click

from codex.logging import reading as files
from codex.logging.errors import CodexLoggingError, NoSuchSessionError
from codex.logging.listing import print_json
from codex.logging.plain import one_line
from codex.logging.terminal import db_option, json_option
from codex.logs.chosen import SESSION, session_opened
from codex.logs.database import Opened, host_option
from codex.logs.read.events import Event, Filters, event_at, events, every
from codex.logs.read.sessions import Session, children, session
from codex.logs.shown import colour
from codex.logs.shown.paged import print_paged
from codex.logs.shown.times import ago, local_time, span
from codex.logs.shown.transcript import Style, transcript

_AROUND = 20
_WIDEST = 100


@click.command(
    "show",
    epilog="\b\nExamples:\n  codex-logs show\n  codex-logs show last --tools full\n  codex-logs show my-session --at 2"
    "\n  codex-logs show my-session --raw > my-session.ndjson",
)
@click.argument("session_id", type=SESSION, metavar="[SESSION]", default="last")
@click.option("--tools", type=click.Choice(["full", "fold", "none"]), default="fold", show_default=True)
@click.option("--at", type=click.IntRange(min=1), metavar="SEQ", help="What stands around this line, which is marked.")
@click.option("--from", "first", type=click.IntRange(min=1), metavar="SEQ", help="From this line on.")
@click.option("--to", "last", type=click.IntRange(min=1), metavar="SEQ", help="Up to this line.")
@click.option("--role", "roles", multiple=True, help="Only this role: user, assistant, tool, …; may be given again.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind: message, reasoning, tool_call, tool_result, …")
@click.option("--raw", is_flag=True, help="The exact bytes instead, of all lines or of those chosen.")
@click.option("--pager/--no-pager", default=True, help="On a terminal: by PAGER, else less.  [default: --pager]")
@db_option
@host_option
@json_option
def command(
    session_id: str,
    tools: str,
    at: int | None,
    first: int | None,
    last: int | None,
    roles: tuple[str, ...],
    kinds: tuple[str, ...],
    raw: bool,
    pager: bool,
    db: str | None,
    host: str | None,
    as_json: bool,
) -> int:
    """Show what was said and done in a session; without one, in that with the latest event.

    SESSION is an id, the beginning of one that no other has, or `last`. Calls of tools and their results are folded.
    Exit codes: 0 shown, 1 nothing left of it, 2 no such session or line, no database.
    """
    if raw and as_json:
        raise click.UsageError("give --raw or --json, not both")
    filters = Filters(roles, kinds, first=first, last=last)
    with session_opened(db, session_id, host) as (opened, chosen):
        if raw and not (at or first or last or roles or kinds):
            _print_bytes(_whole(opened.file(), chosen))
            return 0
        if not events(opened.connection, chosen, limit=1):
            raise CodexLoggingError(
                f"session {chosen!r} has no event", hint="It was purged, or holds nothing but rejects."
            )
        mark, found = _chosen_events(opened, chosen, at, filters)
        if raw:
            _print_bytes(_lines(opened.file(), found))
        elif as_json:
            print_json(event.as_dict() for event in found)
        else:
            width = min(shutil.get_terminal_size().columns, _WIDEST)
            style = Style(colour.Ink(colour.is_wanted()), tools, width, mark, sys.stdout.isatty())
            print_paged(chain(_header(opened, chosen, style), transcript(found, style)), pager, style.ink.on)
    return 0


def _chosen_events(
    opened: Opened, session_id: str, at: int | None, filters: Filters
) -> tuple[int | None, Iterator[Event]]:
    """The position of the marked event, and the events that are asked for."""
    connection = opened.connection
    if at is None:
        return None, every(connection, session_id, filters=filters)
    marked = event_at(connection, session_id, at)
    if marked is None:
        raise NoSuchSessionError(
            f"session {session_id!r} has no event on line {at}",
            hint="A line that is no event has its bytes: `codex-logs raw`.",
        )
    before = events(connection, session_id, before=marked.position, limit=_AROUND, filters=filters)
    after = events(connection, session_id, after=marked.position, limit=_AROUND, filters=filters)
    return marked.position, iter([*before, marked, *after])


def _header(opened: Opened, session_id: str, style: Style) -> Iterator[str]:
    """What the session is: where, which models, when, how much."""
    known = session(opened.connection, session_id)
    yield style.ink(one_line(session_id), bold=True, fg=colour.of_session(session_id)) + "\n"
    if known is None:
        return
    for name, text in _facts(known, children(opened.connection, session_id)):
        if text:
            yield f"{style.ink(name.ljust(9), dim=True)} {one_line(text)}\n"


def _facts(known: Session, agents: list[str]) -> Iterator[tuple[str, str]]:
    models = known.as_dict()["models"]
    yield "title", known.title or ""
    yield "agent", f"{known.agent}, {known.state}" if known.state else known.agent
    yield "project", " ".join(filter(None, (known.cwd, known.branch and f"({known.branch})")))
    yield "models", ", ".join(map(str, models if isinstance(models, list) else []))
    if known.started is not None and known.last_event is not None:
        length = span(known.last_event - known.started)
        yield "time", f"{local_time(known.started)}, {length}, last event {ago(known.last_event, time.time())}"
    counts = {"turns": known.turns, "events": known.events, "calls": known.tool_calls, "errors": known.errors}
    yield "counts", ", ".join(f"{name} {count:,}" for name, count in counts.items())
    yield "tokens", f"{known.tokens:,}" if known.tokens else ""
    yield "parent", known.parent_session_id or ""
    yield "agents", ", ".join(agents)


def _print_bytes(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _whole(opened: files.Opened, session_id: str) -> Iterator[bytes]:
    """The recorded bytes of the generations that stand, as `codex-ingestd restore` gives them."""
    if opened.single:
        return _lines(opened, every(opened.connection, session_id))
    from codex.logging.restore import chosen_generations, restored

    return restored(opened.connection, chosen_generations(opened.streams(session_id), None))


def _lines(opened: files.Opened, found: Iterable[Event]) -> Iterator[bytes]:
    """Each object as it was written, on a line of its own; rows that an old table alone has give none."""
    from codex.logging.store.record import Record

    records: dict[int, Record] = {}
    previous = None
    for event in found:
        place = (event.generation, event.offset)
        if event.offset is not None and event.length is not None and place != previous:
            record = records.setdefault(event.generation, Record(opened.connection, event.generation))
            yield record.read(event.offset, event.length) + b"\n"
        previous = place
