"""Checking a whole record: verify, with its sources, without, and deep; beside one hash over the same files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from codex.logging import import_all
from tests.bench.corpus import MIB, make_corpus
from tests.bench.figures import Report, load, paired, spread

_HASH = """\
import hashlib, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        hashlib.file_digest(file, "blake2b")
"""


def measure(folder: Path, *, shape: str, megabytes: float, sessions: int, rounds: int) -> Report:
    """Import once, then time each way of checking once in a round; each must find nothing."""
    before = load()
    source, database, alone = folder / "sessions", folder / "logs.db", folder / "alone.db"
    source.mkdir()
    corpus = make_corpus(source, shape, round(megabytes * MIB), sessions)
    import_all(source, database)
    _without_sources(source, database, alone)
    files = sorted(map(str, source.iterdir()))
    ways = {
        "blake2b of each file, in Python": lambda: _hash(files),
        "verify": lambda: _verify(database),
        "verify, sources gone": lambda: _verify(alone),
        "verify --deep": lambda: _verify(database, "--deep"),
    }
    runs: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in ways if turn % 2 == 0 else reversed(ways):
            runs[name].append(ways[name]())
    reference = next(iter(runs.values()))
    rows = [
        {
            "by": name,
            "MB/s": corpus.size / spread(seconds).p50 / 1e6,
            "seconds": spread(seconds).p50,
            "time / hash": paired(seconds, reference),
            "lines/s": round(corpus.lines / spread(seconds).p50),
        }
        for name, seconds in runs.items()
    ]
    notes = [
        f"time / hash: median over {rounds} interleaved rounds; one core, files and database in the page cache",
        f"before: {before}; after: {load()}",
    ]
    title = f"verify, {shape}: {corpus.lines} lines, {corpus.size / MIB:.0f} MiB in {corpus.files} files"
    return Report(title, rows, notes)


def _without_sources(source: Path, database: Path, alone: Path) -> None:
    """The same record, imported from files that were removed since."""
    copy = source.with_name("removed")
    shutil.copytree(source, copy)
    import_all(copy, alone)
    shutil.rmtree(copy)


def _verify(database: Path, *options: str) -> float:
    """Its own seconds, without Python's start; fails when it finds anything."""
    command: Sequence[str] = [sys.executable, "-m", "codex_ingestd.cli", "verify", "--json", "--db", str(database)]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout)["seconds"])


def _hash(files: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-S", "-c", _HASH, *files], check=True)
    return time.perf_counter() - began
