"""What was said where: `codex-logs search`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from difflib import get_close_matches
from typing import get_args

import click

from codex.logging.plain import one_line, visible
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, json_option, tell, tell_json
from codex.logs.database import host_option, reading
from codex.logs.query import CHOICES, TIMES, parse
from codex.logs.read.index import RANKED, SCANNED
from codex.logs.read.search import CONTEXT, MOST_CONTEXT, Found, Hit, Piece, Sort, search
from codex.logs.read.sessions import names
from codex.logs.shown import colour
from codex.logs.shown.paged import print_paged
from codex.logs.shown.times import local_time

_WIDEST = 100
_SAME = {"after": "since", "before": "until"}  # as the options of other commands call it
_INDENT = "    "


@click.command(
    "search",
    context_settings={"help_option_names": ["--help"], "ignore_unknown_options": True},
    epilog="\b\nExamples:\n  codex-logs search connection refused\n  codex-logs search '\"exit code 1\" OR traceb*'"
    "\n  codex-logs search retry -timeout role:assistant since:7d\n  codex-logs search tool:Bash project:api git push"
    " --sort time",
)
@click.argument("words", nargs=-1, required=True, metavar="QUERY...")
@click.option(
    "--sort", type=click.Choice(get_args(Sort)), default="rank", show_default=True, help="Best or newest first."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most N.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N.")
@click.option(
    "--context",
    type=click.IntRange(1, MOST_CONTEXT),
    default=CONTEXT,
    show_default=True,
    metavar="N",
    help="Words shown.",
)
@click.option("--exhaustive", is_flag=True, help="Look at every hit of a frequent word, however long that takes.")
@click.option("--pager/--no-pager", default=True, help="On a terminal: by PAGER, else less.  [default: --pager]")
@db_option
@host_option
@json_option
def command(
    words: tuple[str, ...],
    sort: Sort,
    limit: int,
    offset: int,
    context: int,
    exhaustive: bool,
    pager: bool,
    db: str | None,
    host: str | None,
    as_json: bool,
) -> int:
    """Find what was said: messages that hold all of these words.

    \b
    "a phrase"       the words in this order (keep the quotes from the shell: '"a phrase"')
    conf*            words that begin like this
    a OR b, NOT a    either one; not that one, also as -a
    role: kind: tool: model: session: project: agent:    only these; -role: all but these
    since: until:    2026-01-31, 2026-01-31T09:00, 3h, 2d, 1w, today, yesterday

    Case and accents don't matter. Exit codes: 0 found, 1 nothing found, 2 not understood.
    """
    text = " ".join(words)
    query = parse(text, time.time())
    options = {"limit": limit, "offset": offset, "sort": sort, "context": context, "exhaustive": exhaustive}
    with reading(db, host=host) as opened, translated(opened.path):
        found = search(opened.connection, query, **options)  # type: ignore[arg-type]
        if as_json:
            _print_json(text, found)
        elif found.hits:
            ink = colour.Ink(colour.is_wanted())
            label = colour.Labels(lambda: names(opened.connection))
            print_paged(_lines(found, offset, label, ink), pager, ink.on)
    if not found.hits and not as_json:
        for word in _nothing(text, found):
            tell(word, err=True)
    return int(not found.hits)


def _print_json(text: str, found: Found) -> None:
    facts = {"query": text, "total": found.total, "capped": found.capped, "unsearched_bytes": found.unsearched}
    tell_json(facts | {"hits": [hit.as_dict() for hit in found.hits]})


def _lines(found: Found, offset: int, label: colour.Labels, ink: colour.Ink) -> Iterator[str]:
    width = min(shutil.get_terminal_size().columns, _WIDEST) if sys.stdout.isatty() else _WIDEST
    for hit in found.hits:
        yield _heading(hit, label, ink) + "\n"
        for line in _wrapped(hit.snippet, width - len(_INDENT)):
            yield (
                _INDENT + "".join(ink(text, bold=True, fg="yellow") if marked else text for text, marked in line) + "\n"
            )
    first = found.hits[0]
    more = f"more than {found.total:,}" if found.capped else f"{found.total:,}"
    yield ink(f"\n{offset + 1} to {offset + len(found.hits)} of {more} hits", dim=True)
    yield ink(f"; one in full: codex-logs show {label(first.session_id)} --at {first.seq}\n", dim=True)
    for word in _words_of_caution(found):
        yield ink(f"{word}\n", dim=True)


def _heading(hit: Hit, label: colour.Labels, ink: colour.Ink) -> str:
    """Where and when: session and line, time, who, with which tool."""
    name = ink(label(hit.session_id), fg=colour.of_session(hit.session_id), bold=True)
    who = hit.role if hit.kind == "message" else f"{hit.role} {hit.kind}"
    facts = [local_time(hit.ts), who, hit.tool or ""]
    return f"{name} {hit.seq}  " + ink("  ".join(one_line(fact) for fact in facts if fact), dim=True)


def _wrapped(snippet: tuple[Piece, ...], width: int) -> Iterator[list[Piece]]:
    """The snippet in lines of that many columns, broken between words; all white space is one blank."""
    from rich.cells import cell_len

    line: list[Piece] = []
    used = 0
    for text, marked in snippet:
        shown = visible(text)
        blank_before, blank_behind = shown[:1].isspace(), shown[-1:].isspace()
        words = shown.split()
        for number, word in enumerate(words):
            blank = " " if line and (number or blank_before) else ""
            if blank and used + 1 + cell_len(word) > width:
                yield line
                line, used, blank = [], 0, ""
            line.append(Piece(blank, False))
            line.append(Piece(word, marked))
            used += len(blank) + cell_len(word)
        if blank_behind and line:
            line.append(Piece(" ", False))
            used += 1
    if line:
        yield line


def _words_of_caution(found: Found) -> Iterator[str]:
    if found.capped:
        yield (
            f"Frequent words: the newest {RANKED:,} hits were ranked, the newest {SCANNED:,} asked what filters say;"
            " --exhaustive takes all."
        )
    if found.unsearched:
        yield (
            f"{found.unsearched / 1e6:,.1f} MB of logs are not indexed yet, and were not searched: the daemon indexes"
            " them when it is idle, `codex-import-ndjson --all` at once."
        )


def _nothing(text: str, found: Found) -> list[str]:
    """That nothing was found, and what to try next: a line each."""
    words = ["Nothing found."]
    keys = (*CHOICES, *TIMES)
    for word in text.split():
        key, colon, value = word.lstrip("-(").partition(":")
        near = [_SAME[key.lower()]] if key.lower() in _SAME else get_close_matches(key.lower(), keys, 1, 0.7)
        if colon and value and key.lower() not in keys and near:
            words.append(f"{key}: is no filter, and was searched for: did you mean {near[0]}:?")
    words += _words_of_caution(found)
    if len(words) == 1:
        words.append(
            "Try fewer words, the beginning of one (conf*), or one OR another; `codex-logs sessions` lists all."
        )
    return words
