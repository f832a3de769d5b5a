"""`python -m tests.forward`: many hosts, one server, and everything that can fail between them."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from codex.logging import terminal
from tests import clickhouse, postgres
from tests.forward.trouble import POSTGRESQL, Look, Server, Work, play


@contextmanager
def _postgresql(folder: Path) -> Iterator[tuple[Server, Look]]:
    with postgres.running() as server:
        yield server, POSTGRESQL


@contextmanager
def _clickhouse(folder: Path) -> Iterator[tuple[Server, Look]]:
    if find_spec("chdb") is None:
        raise click.UsageError("There is no engine here: pip install -e '.[test,clickhouse-test]'")
    with clickhouse.serving(folder / "clickhouse") as server:
        yield server, Look(clickhouse.shared_rows, clickhouse.doubled)


_SINKS = {"postgresql": _postgresql, "clickhouse": _clickhouse}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="\b\nExamples:\n  python -m tests.forward\n  python -m tests.forward --hosts 5 --events 50000 --seed 7\n"
    "  python -m tests.forward --sink clickhouse",
)
@click.option(
    "--sink",
    type=click.Choice(list(_SINKS)),
    default="postgresql",
    help="Into which engine; ClickHouse takes the extra `clickhouse-test`.",
)
@click.option("--hosts", type=click.IntRange(min=1), default=20, help="Local databases, each with a forwarder.")
@click.option("--events", type=click.IntRange(min=1), default=1_000_000, help="How many there are in all.")
@click.option("--server-kills", type=click.IntRange(min=0), default=20, help="SIGKILLs of the server.")
@click.option("--forwarder-kills", type=click.IntRange(min=0), default=50, help="SIGKILLs of forwarders.")
@click.option("--cuts", type=click.IntRange(min=0), default=40, help="Faults of the network, of each of four kinds.")
@click.option("--seed", type=int, default=1, help="Which faults come when.")
def command(sink: str, hosts: int, events: int, server_kills: int, forwarder_kills: int, cuts: int, seed: int) -> int:
    """Forward while everything fails, and compare what is there with what was here.

    Exit codes: 0 each event is there, once, as it was; 1 it isn't.
    """
    began = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}")

    with tempfile.TemporaryDirectory(prefix="codex-forward-") as folder, _SINKS[sink](Path(folder)) as (server, look):
        work = Work(hosts, events, server_kills, forwarder_kills, cuts)
        outcome = play(Path(folder), server, work, seed, tell, look)
    sound = outcome.here == outcome.there and not outcome.doubled
    click.echo(
        f"{sum(count for count, _ in outcome.here)} events here, {sum(count for count, _ in outcome.there)} there"
    )
    click.echo(f"checksums of {hosts} hosts {'equal' if outcome.here == outcome.there else 'DIFFER'}")
    click.echo(f"{outcome.doubled} doubled, in {outcome.seconds:.0f} s")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(terminal.run(command))
