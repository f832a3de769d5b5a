"""What a daemon costs that has nothing to do, and how soon it is ready. Linux only: it reads /proc."""

from __future__ import annotations

import time
from pathlib import Path

from codex.logging import append_ndjson, import_all
from tests.bench.corpus import make_sessions
from tests.bench.figures import Report, load
from tests.daemon import Daemon, wait_for


def measure(folder: Path, *, files: int, seconds: float) -> Report:
    """Start it on that many files, all of them known and unchanged, and watch it do nothing."""
    before = load()
    sessions = folder / "sessions"
    sessions.mkdir()
    make_sessions(sessions, files)
    daemon = Daemon(sessions, folder / "session_logs.db")
    began = time.perf_counter()
    import_all(log_dir=sessions, db_path=daemon.database)
    known = time.perf_counter()
    try:
        daemon.start()
        watching = time.perf_counter()
        append_ndjson(sessions / "other-00000.ndjson", {"message": "the first"})
        wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == files + 1, what="the first append's row")
        ready = time.perf_counter()
        assert daemon.process is not None
        process = Path(f"/proc/{daemon.process.pid}")
        wait_for(lambda: _rests(process), 60, "the daemon to rest")
        used = _processor_seconds(process)
        time.sleep(seconds)
        share = (_processor_seconds(process) - used) / seconds
        memory, most = _memory(process, "VmRSS"), _memory(process, "VmHWM")
    finally:
        daemon.kill()
    row: dict[str, object] = {
        "files": files,
        "% of a core": share * 100,
        "RSS MiB": memory,
        "peak RSS MiB": most,
        "start -> watching s": watching - known,
        "start -> first row s": ready - known,
        "import before s": known - began,
    }
    notes = [f"idle for {seconds:g} s", f"before: {before}; after: {load()}"]
    return Report("idle daemon", [row], notes)


def _rests(process: Path) -> bool:
    """Whether it used less than a hundredth of the last half second."""
    used = _processor_seconds(process)
    time.sleep(0.5)
    return _processor_seconds(process) - used < 0.005


def _processor_seconds(process: Path) -> float:
    """Time on a core of all its threads, to the nanosecond."""
    tasks = (process / "task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _memory(process: Path, name: str) -> float:
    """A size from /proc/PID/status in MiB."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
