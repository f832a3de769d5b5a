"""The agent's side: how long an append takes while a daemon ingests the same file."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from codex.logging import append_ndjson
from codex.logging.writer import Appender
from tests.bench.corpus import encode
from tests.bench.figures import Plot, Report, load, paired, spread, tail
from tests.daemon import Daemon, wait_for

_RECORD: dict[str, object] = {
    "ts": "2026-01-31T09:00:00.000Z",
    "type": "message",
    "role": "assistant",
    "message": "the quick brown fox jumps over the lazy dog " * 9,
}
_FLOOR = "open + flock + write + close"


def measure(folder: Path, *, count: int, rate: float) -> Report:
    """Append `count` records by each call, at `rate` a second, the calls in a new random order each time."""
    before = load()
    sessions = folder / "sessions"
    sessions.mkdir()
    path = sessions / "shared.ndjson"
    calls: dict[str, Callable[[], object]] = {
        _FLOOR: partial(_raw_append, path),
        "append_ndjson": partial(append_ndjson, path, _RECORD),
        "Appender.append": partial(Appender(path).append, _RECORD),
    }
    daemon = Daemon(sessions, folder / "session_logs.db")
    daemon.start()
    try:
        samples = _sample(calls, count, rate)
        wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == count * len(calls), what="every line's row")
    finally:
        daemon.kill()
    rows = [_row(name, samples) for name in calls]
    notes = [
        "ratios: median over the rounds, each with one append by every call",
        f"before: {before}; after: {load()}",
    ]
    title = f"append, {rate:g} lines/s, beside the daemon on the same file"
    took = {name: tail(samples[name]) for name in calls}
    plot = Plot("append-latency", f"One {title}", "µs", "share of appends that took longer", took, log="xy")
    return Report(title, rows, notes, [plot])


def _row(name: str, samples: dict[str, list[float]]) -> dict[str, object]:
    mine = spread(samples[name])
    row: dict[str, object] = {"call": name, "each / floor": paired(samples[name], samples[_FLOOR])}
    return row | {"p50 µs": mine.p50, "p90 µs": mine.p90, "p99 µs": mine.p99, "max µs": mine.most}


def _sample(calls: dict[str, Callable[[], object]], count: int, rate: float) -> dict[str, list[float]]:
    """Microseconds of each append; the moments are random, so that some meet the daemon at its reading."""
    moments = random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(count - 1):
        for name in moments.sample(list(calls), len(calls)):
            time.sleep(2 * moments.random() / rate)
            began = time.perf_counter_ns()
            calls[name]()
            samples[name].append((time.perf_counter_ns() - began) / 1000)
    return samples


def _raw_append(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, encode(_RECORD))
    os.close(descriptor)
