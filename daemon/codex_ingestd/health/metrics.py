"""Metrics for Prometheus over HTTP, and whether the daemon lives and works; loaded only where somebody wants them.

Nothing is counted for their sake but what Meter counts: all else is read when they are asked for.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

import apsw
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector

from codex.logging.errors import CodexLoggingError
from codex.logging.ingest.sources import Location
from codex.logging.store.connection import open_reader, translated
from codex_ingestd.health.judge import Facts, judge
from codex_ingestd.health.meter import BUCKETS, Meter
from codex_ingestd.hooks.hook import BUILT_IN
from codex_ingestd.watch.lag import Lags, behind

if TYPE_CHECKING:
    from codex_ingestd.service import Service

_REST = 50.0  # what is read takes at most 2 % of a core, however often somebody asks
_TOTALS = 'SELECT coalesce(sum(lines), 0), coalesce(sum("offset"), 0) FROM generations'
_GENERATIONS = "SELECT coalesce(how, 'live'), count(*) FROM generations GROUP BY 1"
_HOOK_RUNS = "SELECT hook, state, count(*), sum(tries) FROM hook_runs GROUP BY hook, state"
_FINDINGS = "SELECT value FROM meta WHERE key = 'findings'"
_CAUSES = ("live", "rotated", "truncated", "rewritten", "replaced", "deleted", "moved", "purged")


class Collector:
    """Reads a service and its database when it is asked, from whatever thread."""

    def __init__(self, service: Service, meter: Meter, database: str) -> None:
        self._service = service
        self._meter = meter
        self._database = database
        self._lags = Lags()
        self._lock = threading.Lock()
        self._read: list[Metric] = []
        self._fresh_until = 0.0

    def describe(self) -> list[Metric]:
        """Nothing is told beforehand: to register it must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric. The database's are left out where it can't be read."""
        line = self._service.line()
        yield from _of_health(self._service.facts, time.monotonic())
        yield from _of_sinks(self._service.facts, time.monotonic())
        yield _gauge("queue_length", "Files that wait to be read, and the one that is at work.", len(line))
        yield from _of_meter(self._meter)
        yield from _of_host(self._database)
        with self._lock:
            began = time.monotonic()
            if began >= self._fresh_until:
                self._read = list(self._of_database(line))
                ended = time.monotonic()
                self._fresh_until = ended + (ended - began) * _REST
            yield from self._read

    def _of_database(self, line: list[Location]) -> Iterator[Metric]:
        path = self._database
        with suppress(CodexLoggingError), closing(open_reader(path)) as connection, translated(path):
            yield from _of_record(connection)
            yield from _of_hooks(connection)
            yield from self._of_lag(connection, line)

    def _of_lag(self, connection: apsw.Connection, line: list[Location]) -> Iterator[Metric]:
        lag_bytes = GaugeMetricFamily("codex_ingestd_lag_bytes", "Appended and not committed.", labels=["root"])
        seconds = GaugeMetricFamily(
            "codex_ingestd_lag_seconds", "For how long the oldest of these bytes have been there.", labels=["root"]
        )
        lags = self._lags.of(self._service.facts.roots, behind(connection, line), time.time())
        for root, lag in lags.items():
            lag_bytes.add_metric([root], lag.bytes)
            seconds.add_metric([root], lag.seconds)
        yield from (lag_bytes, seconds)


def _of_health(facts: Facts, now: float) -> Iterator[Metric]:
    yield _gauge("healthy", "1 when nothing stands still; /readyz says what does.", judge(facts, now).is_well)
    yield _gauge("silent_seconds", "Since the loop last told of itself, which it does each 1 to 2 s.", now - facts.at)
    yield _gauge("polling", "1 when changes are polled for, as nobody tells of them.", facts.watcher == "polling")
    yield CounterMetricFamily("codex_ingestd_watcher_rebuilds", "Times that the watcher went silent.", facts.rebuilds)


def _of_sinks(facts: Facts, now: float) -> Iterator[Metric]:
    """Where the record is forwarded to; nothing where it isn't."""
    if not facts.sinks:
        return
    labels = ["sink"]
    events = CounterMetricFamily("codex_ingestd_forward_events", "Sent since its forwarder's start.", labels=labels)
    size = GaugeMetricFamily("codex_ingestd_forward_lag_bytes", "Of logs, committed and not sent.", labels=labels)
    seconds = GaugeMetricFamily("codex_ingestd_forward_lag_seconds", "Since it last had all.", labels=labels)
    flows = GaugeMetricFamily("codex_ingestd_forward_up", "1 while the sink takes what there is.", labels=labels)
    for sink in facts.sinks:
        is_behind = sink.state != "live"
        events.add_metric([sink.name], sink.events)
        size.add_metric([sink.name], sink.bytes)
        seconds.add_metric([sink.name], sink.seconds + max(0.0, now - sink.at) if is_behind else 0.0)
        flows.add_metric([sink.name], sink.state in {"live", "catching up"})
    yield from (events, size, seconds, flows)


def _of_meter(meter: Meter) -> Iterator[Metric]:
    yield CounterMetricFamily("codex_ingestd_rows", "Rows that this process brought.", meter.rows)
    yield CounterMetricFamily("codex_ingestd_rejects", "Lines that are no records, since the start.", meter.rejects)
    counts = list(meter.buckets)
    ends = [*map(str, BUCKETS), "+Inf"]
    yield CounterMetricFamily("codex_ingestd_commits", "Transactions of the loop.", sum(counts))
    yield HistogramMetricFamily(
        "codex_ingestd_commit_seconds",
        "From a commit's begin until it was in the log.",
        buckets=[(end, sum(counts[: number + 1])) for number, end in enumerate(ends)],
        sum_value=meter.commit_seconds,
    )


def _of_record(connection: apsw.Connection) -> Iterator[Metric]:
    """What the record holds, whoever brought it: it goes on over restarts."""
    lines, size = next(connection.execute(_TOTALS))
    yield CounterMetricFamily("codex_ingestd_lines", "Lines that were taken, over the record's whole life.", lines)
    yield CounterMetricFamily("codex_ingestd_bytes", "Bytes that were taken, over the record's whole life.", size)
    generations = GaugeMetricFamily("codex_ingestd_generations", "Lives of files, by how they ended.", labels=["how"])
    for how, count in (dict.fromkeys(_CAUSES, 0) | dict(connection.execute(_GENERATIONS))).items():
        generations.add_metric([how], count)
    yield generations
    row = connection.execute(_FINDINGS).fetchone()
    found = json.loads(row[0]) if row is not None and row[0] else []
    yield _gauge("verify_findings", "What the slow verify found wrong, and still finds.", len(found))


def _of_hooks(connection: apsw.Connection) -> Iterator[Metric]:
    runs = GaugeMetricFamily(
        "codex_ingestd_hook_runs", "Ends of sessions, by hook and state.", labels=["hook", "state"]
    )
    tries = GaugeMetricFamily("codex_ingestd_hook_tries", "How often a hook was run for them.", labels=["hook"])
    counts: dict[tuple[str, str], int] = {}
    tried: dict[str, int] = {}
    for hook, state, count, number in connection.execute(_HOOK_RUNS):
        name = _short(hook)
        counts[name, state] = counts.get((name, state), 0) + count
        tried[name] = tried.get(name, 0) + number
    for labels, count in counts.items():
        runs.add_metric(labels, count)
    for name, number in tried.items():
        tries.add_metric([name], number)
    yield from (runs, tries)


def _of_host(database: str) -> Iterator[Metric]:
    yield InfoMetricFamily("codex_ingestd", "The program.", {"version": version("codex-ingestd")})
    if resident := resident_bytes():
        yield _gauge("resident_memory_bytes", "The memory that the process has resident.", resident)
    yield _gauge("peak_memory_bytes", "The most memory that the process ever had resident.", peak_bytes())
    for name, text, path in (
        ("database_bytes", "The database's file.", database),
        ("log_bytes", "Its write-ahead log.", f"{database}-wal"),
    ):
        with suppress(OSError):
            yield _gauge(name, text, os.stat(path).st_size)


def peak_bytes(proc: str = "/proc") -> int:
    """The most memory that this process ever had resident."""
    # What the resource module tells is no less than what the process had that this one was forked from.
    with suppress(OSError, StopIteration, ValueError), open(f"{proc}/self/status", encoding="utf-8") as status:
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes(proc: str = "/proc") -> int:
    """This process's resident memory; 0 where nobody tells. Without `proc` the command `ps` is asked."""
    with suppress(OSError), open(f"{proc}/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
        return int(subprocess.run(command, capture_output=True, timeout=5, check=True).stdout) * 1024  # noqa: S603
    return 0


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"codex_ingestd_{name}", text, value)


def _short(hook: str) -> str:
    """A hook's name for a label: of a command line, whose arguments are nobody else's business, the program."""
    try:
        words = shlex.split(hook)
    except ValueError:
        words = []
    return hook if hook in BUILT_IN or not words else os.path.basename(words[0])


def registry(service: Service, meter: Meter, database: str) -> CollectorRegistry:
    """What is to be exposed: the service's metrics, and on Linux the process's (memory, CPU, descriptors)."""
    made = CollectorRegistry()
    made.register(Collector(service, meter, database))
    ProcessCollector(registry=made)
    return made
