"""`codex-ingestd`: run, once, status; the other commands have modules of their own."""

from __future__ import annotations

import faulthandler
import logging
import os
import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from codex.logging import terminal
from codex.logging.completion import completion
from codex.logging.config import WRITABLE_BY_OTHERS, lets_others_write, refuse_test_mode
from codex.logging.plain import counted, one_line
from codex.logging.terminal import tell, tell_json
from codex_ingestd import audit, log
from codex_ingestd.doctor.command import doctor
from codex_ingestd.finalize_command import finalize
from codex_ingestd.forward.children import Forwarding
from codex_ingestd.forward.command import forward
from codex_ingestd.health.judge import Facts, Sink
from codex_ingestd.health.status import SHOWN_FINDINGS, Status, StreamStatus, read_status
from codex_ingestd.hooks.hook import chosen
from codex_ingestd.install.command import install, uninstall
from codex_ingestd.service import Plan, Service
from codex_ingestd.settings.command import config, setting_options, validate
from codex_ingestd.settings.keys import KEYS
from codex_ingestd.settings.values import Settings, load, needs_restart

_SHOWN = 40
# What is told of each stream, and from how many columns of a terminal on.
_COLUMNS = {
    "session": 0,
    "state": 0,
    "offset": 80,
    "size": 80,
    "lag": 0,
    "lines": 80,
    "rejects": 60,
    "last commit": 120,
    "error": 0,
}


class _Group(click.Group):
    """Commands, with the whole first sentence of each in the help."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        named = [(name, self.get_command(context, name)) for name in self.list_commands(context)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, found.get_short_help_str(limit=200)) for name, found in named if found])


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  codex-ingestd run\n  codex-ingestd status\n  codex-ingestd doctor",
)
@click.version_option(package_name="codex-ingestd")
def command() -> None:
    """Carry what coding agents append as NDJSON into SQLite, once, exactly, and provably.

    Reading is `codex-logs`. Each command's --help has examples and exit codes.
    """


@command.command(
    epilog="\b\nExamples:\n  codex-ingestd run\n  codex-ingestd run --watch logs --db logs.db"
    "\n  codex-ingestd run --watch ~/.codex/sessions --watch ~/.claude/projects"
)
@setting_options(*KEYS)
def run(file: str | None, **flags: Any) -> int:
    """Watch the folder and ingest each append, until SIGTERM or Ctrl-C. SIGHUP reads the settings anew.

    Exit codes: 0 stopped as asked, 1 it can't go on, 2 bad usage, 3 another daemon serves this database.
    """
    refuse_test_mode()
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the log where each thread stood
    settings = load(flags, file).settings
    if settings.writable_by_others != lets_others_write():
        os.environ[WRITABLE_BY_OTHERS] = str(
            int(settings.writable_by_others)
        )  # for every connection, and for what hooks run

    def reread() -> Plan:
        latter = load(flags, file).settings
        for key in needs_restart(settings, latter):
            logging.getLogger(__name__).warning("%s takes effect at the next start", key)
        return _plan(latter)

    service = Service(settings.db, _plan(settings), reread)
    with _exposed(service, settings):
        service.run(on_open=lambda: _welcome(settings.folders, settings.db))
    return 0


@command.command(epilog="\b\nExamples:\n  codex-ingestd once\n  codex-ingestd once --watch logs --db logs.db")
@setting_options("watch", "db", "redact", "log-level")
def once(file: str | None, **flags: Any) -> int:
    """Ingest all that is there, and stop: one full pass. It may run beside a daemon.

    Exit codes: 0 all is well, 1 some file could not be read, 2 bad usage.
    """
    refuse_test_mode()
    settings = load(flags, file, only=("watch", "db", "redact", "log-level")).settings
    log.set_up(settings.log_level)
    began = time.perf_counter()
    service = Service(settings.db, Plan(settings.folders, settings.formats, redact=settings.redacts))
    events, rejects = service.once()
    seconds = time.perf_counter() - began
    tell(f"{counted(events, 'new row')}, {counted(rejects, 'reject')} in {seconds:.2f} s into {settings.db}")
    for folder in settings.folders:
        if not os.path.isdir(folder):
            tell(f"{folder} isn't there: name the folder of the logs with --watch.", err=True)
    return int(bool(service.failures))


@command.command(epilog="\b\nExamples:\n  codex-ingestd status\n  codex-ingestd status --json | jq .lag")
@setting_options("watch", "db")
@click.option("--json", "as_json", is_flag=True, help="All streams, as one JSON object.")
@click.option("--all", "everything", is_flag=True, help=f"Every stream, not only the latest {_SHOWN}.")
def status(file: str | None, as_json: bool, everything: bool, **flags: Any) -> int:
    """Show whether a daemon runs and is well, and how far each stream is. Works without a daemon too.

    Offset, size and lag are bytes; times are UTC. A narrow terminal shows the columns that tell most.

    Exit codes: 0 a daemon runs and is well, 1 it doesn't or isn't: the reasons are shown, 2 there is no database.
    """
    settings = load(flags, file, only=("watch", "db")).settings
    answer = read_status(settings.db, settings.folders)
    if as_json:
        tell_json(answer.as_dict())
    else:
        _show(answer, everything)
    return 0 if answer.health.is_well else 1


def _plan(settings: Settings) -> Plan:
    """What a daemon goes by from now on; its log level is set at once."""
    log.set_up(settings.log_level)
    hooks = chosen(settings.hooks, settings.hook_seconds, allow_secrets=settings.allow_secrets)
    rate = round(settings.verify_rate * (1 << 20))
    forwarding = Forwarding(
        settings.forward_to,
        settings.forward_rate,
        settings.forward_host_id,
        settings.forward_timeout,
        settings.allow_secrets,
    )
    return Plan(settings.folders, settings.formats, hooks, rate, settings.redacts, forwarding)


def _exposed(service: Service, settings: Settings) -> AbstractContextManager[object]:
    """Its metrics and health, where they are wanted. Raises ConfigError where the address can't be had."""
    if settings.metrics is None:
        return nullcontext()
    from codex_ingestd.health.endpoint import expose

    return expose(settings.metrics, service, settings.db)


def _welcome(folders: list[str], database: str) -> None:
    """For a person who starts it by hand: where things are, and the first record."""
    reader = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "codex-logs")
    record = """'{"ts":"'$(date -u +%FT%TZ)'","role":"user","message":"hello"}'"""
    facts = {
        "watching": ", ".join(folders),
        "rows go to": database,
        "write": f"echo {record} >> {shlex.quote(folders[0] + '/demo.ndjson')}",
        "read": f"{shlex.quote(reader)} --db {shlex.quote(database)} --tail 5",
    }
    if sys.stderr.isatty():
        shown = facts | {"stop": "Ctrl-C"}
        for name, fact in shown.items():
            tell(f"{name:11}{fact}", err=True)
    else:
        logging.getLogger(__name__).info("starting", extra=facts)


def _daemon(facts: Facts | None) -> str:
    if facts is None:
        return "not running"
    reason = f" ({facts.reason})" if facts.reason else ""
    return f"running, pid {facts.pid or 'unknown'}, by {facts.watcher}{reason}"


def _forwarded(sink: Sink, is_noted: bool) -> str:
    lag = f"lag {sink.bytes} bytes" + (f" in {counted(sink.generations, 'generation')}" if sink.generations else "")
    state = f"no daemon forwards to it now, {lag} when last noted" if is_noted else f"{sink.state}, {lag}"
    return f"{sink.name}: {state}{f': {sink.error}' if sink.error else ''}"


def _fact(stream: StreamStatus, column: str) -> str | int:
    fact: str | int | None = stream._asdict()[
        {"session": "session_id", "last commit": "committed_at"}.get(column, column)
    ]
    return "" if fact is None else fact


def _show(answer: Status, everything: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    tell(f"health    {'well' if answer.health.is_well else '; '.join(answer.health.reasons)}")
    tell(f"daemon    {_daemon(answer.daemon)}")
    tell(f"database  {answer.database}")
    tell(f"lag       {answer.lag} bytes in {len(answer.streams)} streams")
    for sink in answer.sinks:
        tell(f"forward   {_forwarded(sink, answer.is_noted)}")
    if answer.findings:
        tell(f"findings  {len(answer.findings)}: `codex-ingestd verify` shows what is so by now")
    for finding in answer.findings[:SHOWN_FINDINGS]:
        tell("          {session_id}, generation {generation}, offset {offset}: {detail}".format(**finding))
    shown = sorted(answer.streams, key=lambda stream: (stream.lag == 0, stream.error is None, stream.session_id))
    if not everything:
        shown = shown[:_SHOWN]
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    columns = [name for name, least in _COLUMNS.items() if console.width >= least]
    table = Table(box=None, pad_edge=False)
    for name in columns:
        is_number = isinstance(_fact(shown[0], name) if shown else "", int)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name != "error")
    for stream in shown:
        table.add_row(*(one_line(str(_fact(stream, name))) for name in columns))
    console.print(table)
    if len(shown) < len(answer.streams):
        tell(f"… and {len(answer.streams) - len(shown)} more: --all shows them")


for other_command in (
    *audit.commands,
    finalize,
    forward,
    config,
    validate,
    doctor,
    install,
    uninstall,
    completion("codex-ingestd", lambda: command),
):
    command.add_command(other_command)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
