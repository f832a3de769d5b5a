"""`python -m tests.bench`: the figures that the project holds itself to."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click

from codex.logging import terminal
from tests.bench import append as append_call
from tests.bench import backfill as backfill_run
from tests.bench import backlog as backlog_run
from tests.bench import clickhouse as clickhouse_run
from tests.bench import follow as follow_tail
from tests.bench import forward as forward_run
from tests.bench import idle as idle_daemon
from tests.bench import live as live_path
from tests.bench import search as search_run
from tests.bench import start as start_commands
from tests.bench import verify as verify_run
from tests.bench.corpus import MIB, SHAPES, Corpus, copy_corpus, make_corpus
from tests.bench.figures import Report, draw, save
from tests.bench.peers import PeerError
from tests.bench.writers import RECORDS, WRITERS, Load

Command = TypeVar("Command", bound=Callable[..., Any])


_against = click.option(
    "--against",
    metavar="CHECKOUT",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="Also measure the code of this other checkout.",
)
_peers = click.option(
    "--peers", is_flag=True, help="Also measure other programs; where missing, they are put into the user's cache."
)


_plots = click.option(
    "--plots", metavar="DIR", type=click.Path(file_okay=False), help="Also draw PNGs, into this folder."
)


def _common(command: Command) -> Command:
    folder = click.option(
        "--dir",
        "parent",
        type=click.Path(file_okay=False, exists=True),
        help="Where to make the temporary folder.  [default: the system's]",
    )
    output = click.option("--json", "output", type=click.Path(dir_okay=False), help="Also write the result there.")
    return folder(output(command))


@contextmanager
def _folder(parent: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="codex-bench-", dir=parent) as name:
        yield Path(name)


def _finish(made: Iterable[Report], output: str | None, plots: str | None = None) -> None:
    """Show each as soon as it is made; then write and draw what was asked for."""
    reports = []
    for report in made:
        report.show()
        reports.append(report)
    if output is not None:
        options = {name: value for name, value in click.get_current_context().params.items() if name != "output"}
        plain = [report.plain() for report in reports]
        save(output, plain[0] if len(plain) == 1 else {"reports": plain}, options)
    if plots is not None:
        try:
            drawn = draw(plots, [plot for report in reports for plot in report.plots])
        except PeerError as error:
            drawn = [f"no plots: {error}"]
        for line in drawn:
            click.echo(line)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def command() -> None:
    """Measure in pairs, within one run, on whatever machine this is."""


@command.command(
    epilog="\b\nExamples:\n  python -m tests.bench live"
    "\n  python -m tests.bench live --writers 20 --rate 100 --json live.json"
    "\n  python -m tests.bench live --files 10 --files 10000 --seconds 60"
    "\n  python -m tests.bench live --against ../other-checkout"
    "\n  python -m tests.bench live --peers --plots plots"
)
@click.option("--writers", type=click.IntRange(min=1), default=4, help="Processes that append, each to its own file.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=50, help="Lines a second of each.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=10, help="Time for each side.")
@click.option("--block", type=click.FloatRange(min=0, min_open=True), default=2, help="Seconds before sides change.")
@click.option(
    "--files", type=click.IntRange(min=0), multiple=True, default=[0], help="Other session files; a daemon each."
)
@_against
@click.option("--by", type=click.Choice(list(WRITERS)), default="append_ndjson", help="How to append.")
@click.option("--format", "form", type=click.Choice(list(RECORDS)), default="native", help="Of the lines.")
@click.option(
    "--poll", type=click.FloatRange(min=0), default=live_path.POLL_SECONDS, help="Seconds between a probe's looks."
)
@_peers
@_plots
@_common
def live(
    writers: int,
    rate: float,
    seconds: float,
    block: float,
    files: tuple[int, ...],
    against: str | None,
    by: str,
    form: str,
    poll: float,
    peers: bool,
    plots: str | None,
    parent: str | None,
    output: str | None,
) -> None:
    """Append -> committed row that another process sees, beside a bare inotify + commit loop."""
    with _folder(parent) as folder:
        work = Load(writers, rate, by, form)
        report = live_path.measure(
            folder, work, seconds=seconds, block=block, files=files, against=against, poll=poll, peers=peers
        )
    _finish([report], output, plots)


@command.command(epilog="\b\nExamples:\n  python -m tests.bench append\n  python -m tests.bench append --rate 1000")
@click.option("--count", type=click.IntRange(min=2), default=1000, help="Appends by each call.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=300, help="Appends a second, in the mean.")
@_plots
@_common
def append(count: int, rate: float, plots: str | None, parent: str | None, output: str | None) -> None:
    """An agent's append while a daemon ingests the same file, beside raw system calls."""
    with _folder(parent) as folder:
        report = append_call.measure(folder, count=count, rate=rate)
    _finish([report], output, plots)


@command.command(
    epilog="\b\nExamples:\n  python -m tests.bench backfill"
    "\n  python -m tests.bench backfill --shape transcript --size 500 --rounds 3"
    "\n  python -m tests.bench backfill --size 10 --size 100 --peers --plots plots"
    "\n  python -m tests.bench backfill --corpus ~/.claude/projects"
)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="native", help="Of which format the lines are.")
@click.option(
    "--size",
    "sizes",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    default=[50],
    help="MiB of source; may be given several times.",
)
@click.option("--sessions", type=click.IntRange(min=1), default=20, help="Files that they lie in.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Runs of each.")
@click.option(
    "--corpus",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Copies of the session files below this folder, instead of made ones.",
)
@click.option("--redact", is_flag=True, help="Also take secrets out of what is read.")
@_against
@_peers
@_plots
@_common
def backfill(
    shape: str,
    sizes: tuple[float, ...],
    sessions: int,
    rounds: int,
    corpus: Path | None,
    redact: bool,
    against: str | None,
    peers: bool,
    plots: str | None,
    parent: str | None,
    output: str | None,
) -> None:
    """Whole files into a new database, beside sqlite3's .import and a short script."""
    if shutil.which("sqlite3") is None:
        raise click.ClickException("this needs the sqlite3 command.")
    with _folder(parent) as folder:
        sources = [partial(copy_corpus, real=corpus)] if corpus else _made(shape, sizes, sessions)
        name = "real files" if corpus else shape
        report = backfill_run.measure(
            folder, sources, name=name, rounds=rounds, against=against, peers=peers, redact=redact
        )
    _finish([report], output, plots)


def _made(shape: str, sizes: Iterable[float], sessions: int) -> list[Callable[[Path], Corpus]]:
    return [partial(make_corpus, shape=shape, size=round(size * MIB), sessions=sessions) for size in sizes]


@command.command(epilog="\b\nExamples:\n  python -m tests.bench idle\n  python -m tests.bench idle --files 1000")
@click.option("--files", type=click.IntRange(min=1), default=10_000, help="Session files, known and unchanged.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=30, help="How long to watch it.")
@_against
@_common
def idle(files: int, seconds: float, against: str | None, parent: str | None, output: str | None) -> None:
    """A daemon with nothing to do: share of a core, memory, and time from its start to its first row."""
    with _folder(parent) as folder:
        report = idle_daemon.measure(folder, files=files, seconds=seconds, against=against)
    _finish([report], output)


@command.command(epilog="\b\nExamples:\n  python -m tests.bench follow\n  python -m tests.bench follow --events 1000")
@click.option("--events", type=click.IntRange(min=1), default=200, help="How many are appended.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=10, help="How long it is quiet then.")
@_common
def follow(events: int, seconds: float, parent: str | None, output: str | None) -> None:
    """How far `codex-logs tail -f` is behind a commit, and behind the append."""
    with _folder(parent) as folder:
        report = follow_tail.measure(folder, events=events, seconds=seconds)
    _finish([report], output)


@command.command(epilog="\b\nExamples:\n  python -m tests.bench start\n  python -m tests.bench start --files 5000")
@click.option("--files", type=click.IntRange(min=1), default=1000, help="Sessions in the database.")
@click.option("--times", type=click.IntRange(min=1), default=9, help="How often each is run.")
@_common
def start(files: int, times: int, parent: str | None, output: str | None) -> None:
    """How long `codex-logs` takes to start, from help to a first answer."""
    with _folder(parent) as folder:
        report = start_commands.measure(folder, files=files, times=times)
    _finish([report], output)


@command.command(epilog="\b\nExamples:\n  python -m tests.bench backlog\n  python -m tests.bench backlog --size 5000")
@click.option("--size", type=click.FloatRange(min=0, min_open=True), default=1000, help="MiB of the file.")
@_common
def backlog(size: float, parent: str | None, output: str | None) -> None:
    """One huge file beside one that grows: memory, pace from begin to end, and the other's latency."""
    with _folder(parent) as folder:
        report = backlog_run.measure(folder, megabytes=size)
    _finish([report], output)


@command.command(
    epilog="\b\nExamples:\n  python -m tests.bench verify\n  python -m tests.bench verify --shape transcript --size 500"
)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="native", help="Of which format the lines are.")
@click.option("--size", type=click.FloatRange(min=0, min_open=True), default=200, help="MiB of source.")
@click.option("--sessions", type=click.IntRange(min=1), default=20, help="Files that they lie in.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Runs of each.")
@_common
def verify(shape: str, size: float, sessions: int, rounds: int, parent: str | None, output: str | None) -> None:
    """Checking a whole record, beside one hash over the same files."""
    with _folder(parent) as folder:
        report = verify_run.measure(folder, shape=shape, megabytes=size, sessions=sessions, rounds=rounds)
    _finish([report], output)


@command.command(
    epilog="\b\nExamples:\n  python -m tests.bench search\n  python -m tests.bench search --events 100000 --rounds 5"
)
@click.option("--events", type=click.IntRange(min=100), default=1_000_000, help="How many are searched.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Runs of each query.")
@click.option("--processes", type=click.IntRange(min=1), default=10, help="Queries as whole processes.")
@_common
def search(events: int, rounds: int, processes: int, parent: str | None, output: str | None) -> None:
    """A hundred mixed queries over many events, and what the index takes to fill and to keep."""
    with _folder(parent) as folder:
        reports = search_run.measure(folder, events=events, rounds=rounds, processes=processes)
        _finish(reports, output)


@command.command(
    epilog="\b\nExamples:\n  python -m tests.bench forward\n  python -m tests.bench forward --events 1000000 --rounds 1"
)
@click.option("--events", type=click.IntRange(min=100), default=300_000, help="About how many are forwarded.")
@click.option("--sessions", type=click.IntRange(min=1), default=100, help="Sessions that they are of.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Runs of each.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=40, help="Of live rows beside it.")
@click.option("--block", type=click.FloatRange(min=0, min_open=True), default=5, help="Seconds with it, and without.")
@_common
def forward(
    events: int, sessions: int, rounds: int, seconds: float, block: float, parent: str | None, output: str | None
) -> None:
    """One forwarder into PostgreSQL, beside COPY alone; then live rows beside a forwarder that catches up."""
    with _folder(parent) as folder, _folder(parent) as other:
        rate = forward_run.measure(folder, events=events, sessions=sessions, rounds=rounds)
        live_rows = forward_run.measure_live(other, events=events, seconds=seconds, block=block)
        _finish([rate, live_rows], output)


@command.command(
    epilog="\b\nExamples:\n  python -m tests.bench clickhouse\n  python -m tests.bench clickhouse --events 1000000"
)
@click.option("--events", type=click.IntRange(min=100), default=300_000, help="About how many are forwarded.")
@click.option("--sessions", type=click.IntRange(min=1), default=100, help="Sessions that they are of.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Runs of each.")
@_common
def clickhouse(events: int, sessions: int, rounds: int, parent: str | None, output: str | None) -> None:
    """One forwarder into ClickHouse's engine, beside bare inserts; takes the extra `clickhouse-test`."""
    if find_spec("chdb") is None:
        raise click.UsageError("There is no engine here: pip install -e '.[test,clickhouse-test]'")
    with _folder(parent) as folder:
        _finish([clickhouse_run.measure(folder, events=events, sessions=sessions, rounds=rounds)], output)


@command.command(
    "all",
    epilog="\b\nExamples:\n  python -m tests.bench all --json all.json"
    "\n  python -m tests.bench all --peers --plots plots"
    "\n  python -m tests.bench all --scale 0.1",
)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1,
    help="Bytes, seconds and counts times this; below 1 also rounds and writers.",
)
@_peers
@_plots
@_common
def everything(scale: float, peers: bool, plots: str | None, parent: str | None, output: str | None) -> None:
    """All of them one after the other, with moderate sizes: backfill, live, append, idle, verify."""
    _finish(_everything(scale, peers, parent), output, plots)


def _everything(scale: float, peers: bool, parent: str | None) -> Iterator[Report]:
    less = min(1, scale)
    sessions, rounds = math.ceil(20 * scale), math.ceil(5 * less)
    for shape in SHAPES:
        with _folder(parent) as folder:
            sources = _made(shape, [size * scale for size in (10, 30, 100)], sessions)
            yield backfill_run.measure(folder, sources, name=shape, rounds=rounds, peers=peers)
    for writers, rate in ((4, 50), (20, 100)):
        with _folder(parent) as folder:
            work = Load(math.ceil(writers * less), rate, "append_ndjson", "native")
            yield live_path.measure(folder, work, seconds=10 * scale, block=2, files=[0], peers=peers)
    with _folder(parent) as folder:
        yield append_call.measure(folder, count=math.ceil(1000 * scale) + 1, rate=300)
    if sys.platform == "linux":
        with _folder(parent) as folder:
            yield idle_daemon.measure(folder, files=math.ceil(10_000 * scale), seconds=30 * scale)
    for shape in SHAPES:
        with _folder(parent) as folder:
            yield verify_run.measure(folder, shape=shape, megabytes=100 * scale, sessions=sessions, rounds=rounds)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
