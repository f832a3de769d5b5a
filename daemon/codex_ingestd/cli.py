"""`codex-ingestd`: run, once, status."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from codex.logging import config, terminal
from codex.logging.errors import ConfigError
from codex.logging.ingest.formats import named
from codex_ingestd import audit, log
from codex_ingestd.finalize_command import chosen_hooks, finalize, hook_options
from codex_ingestd.housekeeping import VERIFY_BYTES_PER_MINUTE
from codex_ingestd.service import Plan, Service
from codex_ingestd.status import SHOWN_FINDINGS, Status, read_status

Command = TypeVar("Command", bound=Callable[..., Any])
_SHOWN = 40

_watch = click.option(
    "--watch",
    "roots",
    multiple=True,
    metavar="[FORMAT=]FOLDER",
    help="Folder of logs, with all below it; may be given again. Links in it are not followed. With FORMAT= (native,"
    " codex, claude) its logs are all of that one, else each log's first line tells."
    "  [env: CODEX_SESSION_LOG_DIR; default: .codex/sessions]",
)
_db = click.option(
    "--db",
    type=click.Path(dir_okay=False),
    help="Database.  [env: CODEX_LOG_DB_PATH, CODEX_DB_PATH; default: .codex/session_logs.db]",
)
_level = click.option(
    "--log-level",
    type=click.Choice(log.LEVELS),
    default="info",
    envvar="CODEX_LOG_LEVEL",
    show_envvar=True,
    show_default=True,
    help="What to tell on standard error.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="codex-ingestd")
def command() -> None:
    """Carry what coding agents append as NDJSON into SQLite, once, exactly, and provably."""


@command.command(
    epilog="\b\nExamples:\n  codex-ingestd run\n  codex-ingestd run --watch logs --db logs.db"
    "\n  codex-ingestd run --watch ~/.codex/sessions --watch ~/.claude/projects"
)
@_watch
@_db
@hook_options
@click.option(
    "--verify-rate",
    type=click.FloatRange(min=0),
    default=VERIFY_BYTES_PER_MINUTE / (1 << 20),
    envvar="CODEX_VERIFY_MIB_PER_MINUTE",
    show_envvar=True,
    show_default=True,
    help="MiB a minute to verify when there is nothing else to do; 0 for none.",
)
@_level
def run(roots: tuple[str, ...], db: str | None, verify_rate: float, log_level: str, **hooks: Any) -> int:
    """Watch the folder and ingest each append, until SIGTERM or Ctrl-C. SIGHUP reads the settings anew.

    Exit codes: 0 stopped as asked, 1 it can't go on, 2 bad usage, 3 another daemon serves this database.
    """
    config.refuse_test_mode()
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the log where each thread stood

    def read() -> Plan:
        log.set_up(log_level)
        folders, formats, _ = _places(roots, db)
        return Plan(folders, formats, chosen_hooks(**hooks), round(verify_rate * (1 << 20)))

    plan, database = read(), config.resolve_database(db)
    Service(database, plan, read).run(on_open=lambda: _welcome(plan.roots, database))
    return 0


@command.command(epilog="\b\nExamples:\n  codex-ingestd once\n  codex-ingestd once --watch logs --db logs.db")
@_watch
@_db
@_level
def once(roots: tuple[str, ...], db: str | None, log_level: str) -> int:
    """Ingest all that is there, and stop: one full pass. It may run beside a daemon.

    Exit codes: 0 all is well, 1 some file could not be read, 2 bad usage.
    """
    config.refuse_test_mode()
    log.set_up(log_level)
    folders, formats, database = _places(roots, db)
    began = time.perf_counter()
    service = Service(database, Plan(folders, formats))
    events, rejects = service.once()
    seconds = time.perf_counter() - began
    click.echo(f"{events} new rows, {rejects} rejects in {seconds:.2f} s into {database}")
    return int(bool(service.failures))


@command.command(epilog="\b\nExamples:\n  codex-ingestd status\n  codex-ingestd status --json | jq .lag")
@_watch
@_db
@click.option("--json", "as_json", is_flag=True, help="All streams, as one JSON object.")
@click.option("--all", "everything", is_flag=True, help=f"Every stream, not only the latest {_SHOWN}.")
def status(roots: tuple[str, ...], db: str | None, as_json: bool, everything: bool) -> int:
    """Show whether a daemon runs, and how far each stream is. Works without a daemon too.

    Exit codes: 0 shown, 2 there is no database.
    """
    folders, _, database = _places(roots, db)
    answer = read_status(database, folders)
    if as_json:
        click.echo(json.dumps(answer.as_dict(), ensure_ascii=False))
    else:
        _show(answer, everything)
    return 0


def _places(roots: tuple[str, ...], db: str | None) -> tuple[list[str], dict[str, str], str]:
    """The folders, without those that lie within another one (their files would be read twice); the formats that some
    have been given; the database. Raises ConfigError for a file."""
    chosen = [_root(text) for text in roots] or [(config.resolve_log_dir(), None)]
    by_place = {os.path.realpath(folder): (folder, form) for folder, form in reversed(chosen)}
    apart = [
        root
        for place, root in reversed(by_place.items())
        if not any(place.startswith(os.path.join(other, "")) for other in by_place if other != place)
    ]
    formats = {folder: form for folder, form in apart if form is not None}
    return [folder for folder, _ in apart], formats, config.resolve_database(db)


def _root(text: str) -> tuple[str, str | None]:
    """Folder and format of `[FORMAT=]FOLDER`; a folder that is there under the whole name has no format before it.

    Raises ConfigError for a format that isn't there.
    """
    form, _, rest = text.partition("=")
    if not rest or os.path.exists(text):
        form, rest = "", text
    if form:
        named(form)
    folder = config.resolve_log_dir(rest)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ConfigError(f"{folder} is no folder", hint="Name the folder that the log lies in.")
    if os.path.exists(folder) and not os.access(folder, os.R_OK):
        raise ConfigError(f"{folder} is not readable", hint="Give this user the right to read it.")
    return folder, form or None


def _welcome(folders: Sequence[str], database: str) -> None:
    """For a person who starts it by hand: where things are, and the first record."""
    reader = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "codex-logs")
    record = """'{"ts":"'$(date -u +%FT%TZ)'","role":"user","message":"hello"}'"""
    facts = {
        "watching": ", ".join(folders),
        "rows go to": database,
        "write": f"echo {record} >> {shlex.quote(folders[0] + '/demo.ndjson')}",
        "read": f"{shlex.quote(reader)} --db {shlex.quote(database)} --tail 5",
        "stop": "Ctrl-C",
    }
    if sys.stderr.isatty():
        click.echo("".join(f"{name:11}{fact}\n" for name, fact in facts.items()), err=True, nl=False)
    else:
        logging.getLogger(__name__).info("starting", extra=facts)


def _show(answer: Status, everything: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    daemon = f"running, pid {answer.pid}, by {answer.watcher}" if answer.pid is not None else "not running"
    click.echo(f"daemon    {daemon}{f' ({answer.reason})' if answer.reason else ''}")
    click.echo(f"database  {answer.database}")
    click.echo(f"lag       {answer.lag} bytes in {len(answer.streams)} streams")
    if answer.findings:
        click.echo(f"findings  {len(answer.findings)}: `codex-ingestd verify` shows what is so by now")
    for finding in answer.findings[:SHOWN_FINDINGS]:
        click.echo("          {session_id}, generation {generation}, offset {offset}: {detail}".format(**finding))
    shown = sorted(answer.streams, key=lambda stream: (stream.lag == 0, stream.error is None, stream.session_id))
    if not everything:
        shown = shown[:_SHOWN]
    table = Table(box=None, pad_edge=False)
    for name in ("session", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("offset", "size", "lag", "lines", "rejects"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("last commit", "error"):
        table.add_column(name)
    for stream in shown:
        numbers = (stream.offset, stream.size, stream.lag, stream.lines, stream.rejects)
        table.add_row(stream.session_id, stream.state, *map(str, numbers), stream.committed_at, stream.error or "")
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(table)
    if len(shown) < len(answer.streams):
        click.echo(f"… and {len(answer.streams) - len(shown)} more: --all shows them")


for other_command in (*audit.commands, finalize):
    command.add_command(other_command)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
