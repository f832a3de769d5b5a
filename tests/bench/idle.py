"""What a daemon costs that has nothing to do, and how soon it is ready. Linux only: it reads /proc."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from codex.logging import append_ndjson
from tests.bench.corpus import make_sessions
from tests.bench.figures import Report, load, of_checkout
from tests.daemon import Daemon, wait_for

_REST_SECONDS = 0.5


def measure(folder: Path, *, files: int, seconds: float, against: str | None = None) -> Report:
    """Start a daemon on that many files, all of them known and unchanged, and watch it do nothing."""
    before = load()
    checkouts = {"daemon": None} | ({f"daemon of {against}": against} if against else {})
    with ExitStack() as stack:
        daemons = {}
        rows: list[dict[str, object]] = []
        for number, (name, checkout) in enumerate(checkouts.items()):
            sessions = folder / str(number) / "sessions"
            sessions.mkdir(parents=True)
            make_sessions(sessions, files)
            daemon = daemons[name] = Daemon(sessions, sessions.parent / "session_logs.db")
            stack.callback(daemon.kill)
            rows.append({"of": name, "files": files, **_start(daemon, files, of_checkout(checkout))})
        processes = [Path(f"/proc/{daemon.process.pid}") for daemon in daemons.values() if daemon.process]
        for process in processes:
            wait_for(lambda process=process: _rests(process), 60, "the daemon to rest")  # type: ignore[misc]
        used = [processor_seconds(process) for process in processes]
        time.sleep(seconds)
        for row, process, former in zip(rows, processes, used, strict=True):
            row["% of a core"] = (processor_seconds(process) - former) / seconds * 100
            row["RSS MiB"] = _memory(process, "VmRSS")
            row["peak RSS MiB"] = _memory(process, "VmHWM")
    notes = [f"idle for {seconds:g} s", f"before: {before}; after: {load()}"]
    return Report("idle daemon", rows, notes)


def _start(daemon: Daemon, files: int, environment: dict[str, str]) -> dict[str, object]:
    """Let it ingest everything and stop; then the seconds that it takes to be ready when all is known."""
    moments = [time.perf_counter()]
    daemon.start(env=environment)
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == files, 600, "every file's row")
    moments.append(time.perf_counter())
    daemon.stop()
    moments.append(time.perf_counter())
    daemon.start(env=environment)
    moments.append(time.perf_counter())
    append_ndjson(daemon.log_dir / "other-00000.ndjson", {"message": "the first"})
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == files + 1, what="the first append's row")
    moments.append(time.perf_counter())
    return {
        "first ingest s": moments[1] - moments[0],
        "start -> watching s": moments[3] - moments[2],
        "start -> first row s": moments[4] - moments[2],
    }


def _rests(process: Path) -> bool:
    """Whether it used less than a hundredth of the last moment."""
    used = processor_seconds(process)
    time.sleep(_REST_SECONDS)
    return processor_seconds(process) - used < _REST_SECONDS / 100


def processor_seconds(process: Path) -> float:
    """Time on a core of all its threads, to the nanosecond."""
    tasks = (process / "task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _memory(process: Path, name: str) -> float:
    """A size from /proc/PID/status in MiB."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
