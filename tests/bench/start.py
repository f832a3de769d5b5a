"""How long the commands that read take to start: help, one screen of answer, a completion."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from codex.logging import import_all
from tests.bench.corpus import make_sessions
from tests.bench.figures import Report, load

_COMMANDS = {
    "python -c pass": [],
    "codex-logs --help": ["--help"],
    "codex-logs tail --help": ["tail", "--help"],
    "codex-logs sessions": ["sessions"],
    "codex-logs tail": ["tail"],
    "codex-logs show last": ["show", "last", "--no-pager"],
    "completion of an id": ["show", "other-0"],
}
_COMPLETES = "completion of an id"


def measure(folder: Path, *, files: int, times: int) -> Report:
    """Run each as a process, by turns, on a database of that many sessions: the time it takes, and its processor's."""
    before = load()
    sessions, database = folder / "sessions", folder / "session_logs.db"
    sessions.mkdir()
    make_sessions(sessions, files)
    import_all(sessions, database)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in _COMMANDS}
    for _ in range(times):
        for name, words in _COMMANDS.items():
            taken[name].append(_run(name, words, sessions, database))
    rows: list[dict[str, object]] = [
        {
            "command": name,
            "median ms": statistics.median(wall for wall, _ in found) * 1000,
            "best ms": min(wall for wall, _ in found) * 1000,
            "processor ms": statistics.median(used for _, used in found) * 1000,
        }
        for name, found in taken.items()
    ]
    notes = [f"{files} sessions, {times} times each", f"before: {before}; after: {load()}"]
    return Report("start", rows, notes)


def _run(name: str, words: list[str], sessions: Path, database: Path) -> tuple[float, float]:
    """Seconds from the start to the end of one process, and those that its processor worked."""
    command = [sys.executable, "-c", "pass"] if not words else [str(Path(sys.executable).with_name("codex-logs"))]
    env = {**os.environ, "CODEX_SESSION_LOG_DIR": str(sessions), "CODEX_LOG_DB_PATH": str(database)}
    if name == _COMPLETES:
        line = " ".join(["codex-logs", *words])
        env |= {"_CODEX_LOGS_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        words = []
    former, began = os.times(), time.perf_counter()
    subprocess.run([*command, *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    wall, now = time.perf_counter() - began, os.times()
    used = now.children_user + now.children_system - former.children_user - former.children_system
    return wall, used
