"""One huge file that a daemon finds beside another that grows: memory, pace from begin to end, and who waits."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from codex.logging.writer import Appender
from tests.bench.corpus import MIB, make_corpus
from tests.bench.figures import Report, load, spread
from tests.bench.probes import DaemonProbe
from tests.bench.writers import RECORDS
from tests.daemon import Daemon, wait_for

_UNIT = 100 * MIB
_RATE = 50
_TAKEN = 'SELECT coalesce(max("offset"), 0) FROM generations AS g JOIN streams AS s ON s.id = g.stream WHERE path = ?'


def measure(folder: Path, *, megabytes: float) -> Report:
    """Let a daemon take one file of that many MiB while another gets 50 lines a second; then without it."""
    before = load()
    sessions = folder / "sessions"
    sessions.mkdir()
    size = _make(folder, sessions / "backlog.ndjson", round(megabytes * MIB))
    daemon = Daemon(sessions, folder / "session_logs.db")
    with ExitStack() as stack:
        appender = stack.enter_context(Appender(sessions / "writer-0.ndjson"))
        appender.append(RECORDS["native"]())
        daemon.start()
        stack.callback(daemon.kill)
        wait_for(lambda: DaemonProbe.knows(daemon.database, 1), 60, "the first line")
        probe = DaemonProbe(daemon.database)
        probe.fresh()
        began, marks = time.perf_counter(), [(0.0, 0)]
        beside: list[float] = []
        while marks[-1][1] < size:
            beside += _second(appender, probe)
            marks.append((time.perf_counter() - began, int(str(daemon.scalar(_TAKEN, "backlog.ndjson")))))
        alone = [late for _ in range(10) for late in _second(appender, probe)]
        assert daemon.process is not None
        memory = _peak(daemon.process.pid)
    row: dict[str, object] = {
        "MiB": size / MIB,
        "seconds": marks[-1][0],
        "MB/s": size / marks[-1][0] / 1e6,
        "peak RSS MiB": memory,
    }
    first, last = _pace(marks, size, 0.0, 0.2), _pace(marks, size, 0.8, 1.0)
    row["s/MB, last fifth / first"] = last / first if first else None
    for name, late in (("beside it", spread(beside)), ("alone", spread(alone))):
        row |= {f"p50 ms, {name}": late.p50, f"p99 ms, {name}": late.p99}
    notes = [f"another file gets {_RATE} lines/s all the time", f"before: {before}; after: {load()}"]
    return Report("one huge file", [row], notes)


def _make(folder: Path, path: Path, size: int) -> int:
    """One session of about that size: the same lines again and again."""
    unit = folder / "unit"
    unit.mkdir()
    make_corpus(unit, "native", min(size, _UNIT), 1)
    (source,) = unit.iterdir()
    content = source.read_bytes()
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(content)
        return file.tell()


def _second(appender: Appender, probe: DaemonProbe) -> list[float]:
    """Append for a second; of each line the ms until it was seen."""
    late: list[float] = []
    for _ in range(_RATE):
        until = time.monotonic() + 1 / _RATE
        appender.append(RECORDS["native"]())
        while time.monotonic() < until:
            sent = probe.fresh()
            late += [(time.monotonic_ns() - moment) / 1e6 for moment in sent]
            time.sleep(0.0001)
    return late


def _pace(marks: list[tuple[float, int]], size: int, low: float, high: float) -> float:
    """Seconds for each byte between two shares of the file."""
    ends = [min(marks, key=lambda mark: abs(mark[1] - share * size)) for share in (low, high)]
    return (ends[1][0] - ends[0][0]) / max(1, ends[1][1] - ends[0][1])


def _peak(process: int) -> float:
    """The most memory that it held, MiB; 0 where that can't be told."""
    if sys.platform != "linux":
        return 0.0
    lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
