"""`codex-ingestd forward`: ship what is committed to an engine that many hosts share."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from types import FrameType
from typing import Any

import click

from codex.logging.address import Address
from codex.logging.errors import ConfigError
from codex.logging.plain import counted
from codex.logging.store.connection import open_writer
from codex.logging.terminal import json_option, run, tell, tell_json
from codex_ingestd import log
from codex_ingestd.forward.address import parse, refuse_secrets
from codex_ingestd.forward.forwarder import Forwarder
from codex_ingestd.forward.identity import Host, host
from codex_ingestd.forward.notes import Notes
from codex_ingestd.forward.pace import Rate
from codex_ingestd.forward.progress import Progress
from codex_ingestd.forward.secrecy import Secrecy
from codex_ingestd.forward.sink import Sink
from codex_ingestd.forward.spool import Spool
from codex_ingestd.settings.command import setting_options
from codex_ingestd.settings.values import Settings, load

_TELL_SECONDS = 1.0
_NICE = 19
_INTERRUPTED = 130
_KEYS = ("db", "forward-to", "forward-rate", "forward-host-id", "forward-timeout", "allow-secrets", "log-level")


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd forward --to postgresql://db.example/team --check"
    "\n  codex-ingestd forward --to postgresql://db.example/team --once\n  codex-ingestd forward"
)
@click.option(
    "--to",
    metavar="URL",
    help="The sink, in the place of the one that is set.  [env: CODEX_FORWARD_TO, where a password may stand, too]",
)
@setting_options(*(key for key in _KEYS if key != "forward-to"))
@click.option("--once", is_flag=True, help="Send all that is there, and stop.")
@click.option("--check", is_flag=True, help="Test connection, rights, schema and identity; send nothing.")
@click.option("--attended", is_flag=True, hidden=True, help="End with standard input, and give way to others.")
@json_option
def forward(
    to: str | None, file: str | None, once: bool, check: bool, attended: bool, as_json: bool, **flags: Any
) -> int:
    """Ship what is committed to PostgreSQL or ClickHouse, once; through any outage, until SIGTERM or Ctrl-C.

    It may run beside a daemon, which does the same by itself where forward-to is set. The sink keeps a watermark of
    its own, so that nothing comes twice.

    Exit codes: 0 as asked, 1 the sink can't be had or has another record under this host's id, 2 bad usage, 130 --once
    was ended before all was sent.
    """
    settings, address = _chosen(to, file, flags)
    log.set_up(settings.log_level)
    if check:
        return _check(settings, address, as_json)
    if attended:
        _give_way()
    teller = _Teller(as_json)
    while True:
        with _forwarder(settings, address, teller.tell, syncs=not attended) as forwarder, _signals(forwarder):
            if attended:
                threading.Thread(target=_attend, args=(forwarder,), daemon=True).start()
            if once:
                left = forwarder.once()
                rest = f"; {left.bytes} bytes are left: the same command goes on from there" if left.generations else ""
                tell(f"{counted(forwarder.events, 'event')} sent to {address}{rest}", err=as_json)
                return _INTERRUPTED if left.generations else 0
            forwarder.run()
            if not forwarder.is_replaced:
                return 0


def _chosen(to: str | None, file: str | None, flags: dict[str, Any]) -> tuple[Settings, Address]:
    """The settings, and the one sink that is meant. Raises ConfigError."""
    settings = load(flags, file, only=[key for key in _KEYS if to is None or key != "forward-to"]).settings
    if to is not None:
        try:
            address = parse(to)
            refuse_secrets(address)
        except ConfigError as error:
            raise ConfigError(f"--to: {error}", hint=error.hint) from error
        return settings, address
    if len(settings.forward_to) != 1:
        several = ", ".join(map(str, settings.forward_to))
        raise ConfigError(
            f"several sinks are set: {several}" if several else "no sink is set",
            hint="Name the one that is meant with --to postgresql://HOST/DATABASE"
            + ("." if several else ", or set forward-to in your own codex-ingestd.toml."),
        )
    return settings, settings.forward_to[0]


@contextmanager
def _forwarder(
    settings: Settings, address: Address, tell: Callable[[Progress], None], *, syncs: bool
) -> Iterator[Forwarder]:
    """All that it takes to forward, within the block."""
    with ExitStack() as stack:
        writer = stack.enter_context(closing(open_writer(settings.db)))
        spool = stack.enter_context(closing(Spool(settings.db, address.name, _secrecy(settings))))
        me = host(writer, settings.db, settings.forward_host_id)
        sink = stack.enter_context(closing(made(address, me, settings.forward_timeout)))
        notes = Notes(writer, settings.db, address.name)
        rate = Rate(settings.forward_rate * (1 << 20) or None)
        forwarder = Forwarder(settings.db, spool, sink, notes, rate, tell, syncs=syncs)
        stack.enter_context(closing(forwarder))
        yield forwarder


def _secrecy(settings: Settings) -> Secrecy | None:
    return None if settings.allow_secrets else Secrecy(settings.db)


def made(address: Address, me: Host, seconds: float) -> Sink:
    """The sink at an address. Raises ConfigError where what it takes isn't installed."""
    if not address.name.startswith("postgresql:"):
        return _clickhouse(address, me, seconds)
    try:
        from codex_ingestd.forward.postgres.sink import PostgresSink
    except ImportError as error:
        raise ConfigError(
            f"PostgreSQL takes the extra `postgres`: {error}",
            hint="pip install 'codex-ingestd[postgres]'; where there is no libpq, also pip install 'psycopg[binary]'.",
        ) from error
    return PostgresSink(address, me, seconds)


def _clickhouse(address: Address, me: Host, seconds: float) -> Sink:
    try:
        from codex_ingestd.forward.clickhouse.server import Server
        from codex_ingestd.forward.clickhouse.sink import ClickHouseSink
    except ImportError as error:
        raise ConfigError(
            f"ClickHouse takes the extra `clickhouse`: {error}", hint="pip install 'codex-ingestd[clickhouse]'"
        ) from error
    return ClickHouseSink(address, me, Server(address, seconds))


class _Teller:
    """With --json a line on standard output at each change, once a second at most; else nothing."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._last: Progress | None = None
        self._at = 0.0

    def tell(self, progress: Progress) -> None:
        """Hear how it goes."""
        now = time.monotonic()
        last = self._last
        is_other = last is None or (last.state, last.error) != (progress.state, progress.error)
        if self._as_json and progress != last and (is_other or now >= self._at + _TELL_SECONDS):
            self._last, self._at = progress, now
            tell_json(progress._asdict())
            sys.stdout.flush()


@contextmanager
def _signals(forwarder: Forwarder) -> Iterator[None]:
    """SIGTERM and SIGINT end it after the batch that is under way; former handlers come back."""

    def stop(number: int, frame: FrameType | None) -> None:
        forwarder.stop()

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _give_way() -> None:
    """Take what others leave of the processors, and never take one from them."""
    with suppress(OSError):
        os.nice(_NICE)
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _attend(forwarder: Forwarder) -> None:
    """Wait until standard input ends: whoever started this process is gone, or wants it to be."""
    with suppress(OSError):
        while os.read(0, 1):
            pass
    forwarder.stop()


def _check(settings: Settings, address: Address, as_json: bool) -> int:
    """Look at all that forwarding takes; nothing is sent."""
    with closing(open_writer(settings.db)) as writer, closing(Spool(settings.db, address.name)) as spool:
        me = host(writer, settings.db, settings.forward_host_id)
        with closing(made(address, me, settings.forward_timeout)) as sink:
            sink.open()
            spool.begin(sink.watermarks())
            lag = spool.look()
    facts = {"sink": address.name, "host_id": str(me.id), "host": me.name, "lag": lag._asdict()}
    if as_json:
        tell_json(facts)
    else:
        tell(f"{address} can be written, as host {me.id}")
        tell(f"lag: {lag.bytes} bytes in {counted(lag.generations, 'generation')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(forward))
