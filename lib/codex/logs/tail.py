"""What the agents do at this moment: `codex-logs tail`."""

from __future__ import annotations

import os
import select
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache

import click

from codex.logging import reading as files
from codex.logging.errors import NoSuchSessionError
from codex.logging.listing import to_json
from codex.logging.plain import one_line, visible
from codex.logging.served import is_served
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option
from codex.logs.chosen import SESSION
from codex.logs.database import Opened, host_option, reading
from codex.logs.read.arriving import Arriving
from codex.logs.read.engine import OutOfReachError, has_relation
from codex.logs.read.events import Event, Filters, newest
from codex.logs.read.following import Following
from codex.logs.read.sessions import find, names
from codex.logs.shown import calls, colour
from codex.logs.shown.times import local_time
from codex.logs.shown.words import words

# How long it waits between two looks: while events come, and when none has come for a while.
_BUSY_SECONDS, _IDLE_SECONDS, _BUSY_FOR = 0.01, 0.025, 2.0
_CHORE_SECONDS = 0.5
# Of a server: between two looks, and so many times as long as a look took; before it is called again.
_LOOK_SECONDS, _LOOK_REST, _AGAIN_SECONDS = 0.2, 5.0, 1.0
_MOST = 1000
_TOOL_CELLS, _FEWEST_CELLS = 24, 8
_MARKS = {"reasoning": "thinks", "tool_call": "calls", "tool_result": "gets"}


@click.command(
    "tail",
    epilog="\b\nExamples:\n  codex-logs tail\n  codex-logs tail -f\n  codex-logs tail -n 50 --kind tool_call last"
    "\n  codex-logs tail -f --json | jq .message",
)
@click.argument("sessions", nargs=-1, type=SESSION, metavar="[SESSION]...")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, metavar="N")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--role", "roles", multiple=True, help="Only this role: user, assistant, tool, …; may be given again.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind: message, reasoning, tool_call, tool_result, …")
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Only calls of this tool.")
@click.option("--full", is_flag=True, help="Whole messages, with their lines, instead of one line each.")
@db_option
@host_option
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object a line.")
def command(
    sessions: tuple[str, ...],
    lines: int,
    follow: bool,
    roles: tuple[str, ...],
    kinds: tuple[str, ...],
    tools: tuple[str, ...],
    full: bool,
    db: str | None,
    host: str | None,
    as_json: bool,
) -> int:
    """Show the newest events of all sessions, or of these, by time; with -f go on with those that come.

    Each session has its own colour and a short name, which every command takes: its id's beginning that no other has.
    Exit codes: 0 shown, 1 unexpected, 2 no such session, no database, 130 ended by Ctrl-C.
    """
    filters = Filters(roles, kinds, tools, said=not (as_json or kinds))
    with reading(db, host=host) as opened, translated(opened.path):
        show = _as_json if as_json else _Lines(colour.Labels(lambda: names(opened.connection)), full)
        chosen = _chosen(opened, sessions)
        with opened.connection:  # both see one state
            following = Following(opened.local.connection, chosen, filters) if follow and opened.local else None
            arriving = Arriving(opened.connection, chosen, filters) if follow and not opened.local else None
            found = newest(opened.connection, lines, chosen, filters)
        show(found)
        seen = None if following is None else _follow(opened.file(), following, show)
        is_lost = arriving is not None and _await(opened, arriving, show)
    while seen is not None:
        with reading(db, host=host) as opened, translated(opened.path):
            seen = _follow(opened.file(), Following(opened.file().connection, chosen, filters, seen), show)
    while arriving is not None and is_lost:
        time.sleep(_AGAIN_SECONDS)
        with suppress(OutOfReachError), reading(db, host=host) as opened:
            is_lost = _await(opened, arriving, show)
    return 0


def _chosen(opened: Opened, sessions: tuple[str, ...]) -> list[str] | None:
    """The ids of these sessions; None for all. Raises NoSuchSessionError."""
    if not has_relation(opened.connection, "streams"):
        raise NoSuchSessionError(f"{opened.path} holds no session yet", hint="`codex-logs` shows its other rows.")
    return [find(opened.connection, text) for text in sessions] or None


def _await(opened: Opened, arriving: Arriving, show: Callable[[Iterable[Event]], None]) -> bool:
    """Show what arrives at a server, until nobody reads it any more: False; or until the server is lost: True."""
    while not _is_closed():
        began = time.monotonic()
        try:
            found = arriving.look(opened.connection, _MOST)
        except OutOfReachError as error:
            click.echo(f"hint: {error}; it goes on when the server is back.", err=True)
            return True
        show(found)
        if len(found) < _MOST:
            time.sleep(max(_LOOK_SECONDS, _LOOK_REST * (time.monotonic() - began)))
    return False


def _follow(
    opened: files.Opened, following: Following, show: Callable[[Iterable[Event]], None]
) -> dict[str, int] | None:
    """Show what is committed, until nobody reads it any more; where no daemon does, bring in what is pending.

    It gives what was seen when another file has taken the database's place, as a rebuild does.
    """
    busy_until, chore_at, file = 0.0, 0.0, _inode(opened.path)
    while True:
        found = following.look(_MOST)
        now = time.monotonic()
        if found:
            show(found)
            busy_until = now + _BUSY_FOR
        elif now >= chore_at:
            if _is_closed():
                return None
            if not opened.single and _inode(opened.path) not in (file, None):
                return following.seen()
            if not is_served(opened.path):
                _tell(opened.path)
                opened.again()
            chore_at = time.monotonic() + _CHORE_SECONDS
        if len(found) < _MOST:
            time.sleep(_BUSY_SECONDS if now < busy_until else _IDLE_SECONDS)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


@cache
def _tell(path: str) -> None:
    """Say once that nobody else brings lines in."""
    click.echo(
        f"hint: no daemon brings new lines into {path}: start `codex-ingestd run`. Until then this command looks"
        " for them itself, twice a second, where they belong to this database.",
        err=True,
    )


def _is_closed() -> bool:
    """Whether the reader of the pipe that this writes to has gone: a write would tell, and none may come for long."""
    try:
        descriptor = sys.stdout.fileno()
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return False
        poll = select.poll()
        poll.register(descriptor, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _as_json(events: Iterable[Event]) -> None:
    for event in events:
        sys.stdout.write(to_json(event.as_dict()) + "\n")
    sys.stdout.flush()


class _Lines:
    """An event a line: time, session, who, what; cut to the terminal's width where there is one."""

    def __init__(self, labels: colour.Labels, full: bool) -> None:
        self._label = labels
        self._full = full
        self._ink = colour.Ink(colour.is_wanted())
        self._to_terminal = sys.stdout.isatty()
        self._day = ""

    def __call__(self, events: Iterable[Event]) -> None:
        for event in events:
            sys.stdout.write(self._line(event) + "\n")
        sys.stdout.flush()

    def _line(self, event: Event) -> str:
        moment = local_time(event.ts, "%Y-%m-%d %H:%M:%S%z")
        if self._to_terminal and event.ts is not None:
            day, _, moment = moment.partition(" ")
            heading = self._ink(f"── {day} ──", dim=True) + "\n" if day != self._day else ""
            self._day = day
        else:
            heading = ""
        label = self._label(event.session_id).ljust(self._label.width) if self._to_terminal else event.session_id
        who = _who(event)
        text = _what(event)
        hue = colour.of_session(event.session_id)
        start = f"{moment} {one_line(label)} {who}"
        painted = f"{self._ink(moment, dim=True)} {self._ink(one_line(label), fg=hue)} {self._paint_who(event, who)}"
        if self._full:
            body = visible(text).replace("\n", "\n    ")
            return f"{heading}{painted}: {body}"
        body = one_line(text.strip())
        if self._to_terminal:
            body = _cut(body, shutil.get_terminal_size().columns - len(start) - 2)
        dim = event.kind in {"reasoning", "tool_result"} and not calls.failed(event)
        return f"{heading}{painted}: {self._ink(body, dim=dim) if dim else body}"

    def _paint_who(self, event: Event, who: str) -> str:
        if calls.failed(event):
            return self._ink(who, fg="red", bold=True)
        return self._ink(who, bold=event.role == "user" or event.kind == "tool_call")


def _who(event: Event) -> str:
    mark = _MARKS.get(event.kind)
    role = one_line(event.role)
    if event.kind == "tool_call" and event.tool:
        return f"{role} calls {_cut(one_line(event.tool), _TOOL_CELLS)}"
    return f"{role} {mark}" if mark and event.kind != "tool_result" else role


def _what(event: Event) -> str:
    if event.kind == "tool_call":
        return calls.summary(event)
    return words(event) or event.kind


def _cut(text: str, cells: int) -> str:
    """The text within so many columns of the terminal."""
    cells = max(cells, _FEWEST_CELLS)
    if text.isascii():
        return text if len(text) <= cells else text[: cells - 1] + "…"
    from rich.cells import cell_len, set_cell_size

    text = text[: cells + 1]
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"
