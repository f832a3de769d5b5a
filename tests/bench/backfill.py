"""Many whole files into a new database: the importer, the sqlite3 command's .import, and what people write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.contenders import REFERENCE, Contender, contenders_of
from tests.bench.corpus import MIB, Corpus
from tests.bench.figures import Plot, Report, load, of_checkout, paired, spread

# A process that is forked from a large one counts that one's memory as its own: so a small one starts it.
_LAUNCHER = """\
import os, sys, time
began = time.perf_counter()
to_null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=to_null)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class RunError(Exception):
    """A contender that ended badly, or left out a line."""


class Run(NamedTuple):
    """What one run took: wall seconds, the most memory it held at once (bytes), the database's bytes."""

    seconds: float
    memory: int
    size: int


def measure(
    folder: Path,
    sources: Sequence[Callable[[Path], Corpus]],
    *,
    name: str,
    rounds: int,
    against: str | None = None,
    peers: bool = False,
    redact: bool = False,
) -> Report:
    """Time each contender once in a round, on the same files, into a new database each time; so for every source.

    A source fills the empty folder that it is given.
    """
    before = load()
    contenders, notes = contenders_of(against, peers, redact)
    rows: list[dict[str, object]] = []
    for source in sources:
        (folder / "sessions").mkdir()
        corpus = source(folder / "sessions")
        runs = _measure(contenders, corpus, rounds, folder / "new.db", notes)
        reference = [run.seconds for run in runs[REFERENCE]]
        rows += [_row(contender.name, done, reference, corpus) for contender, done in runs.items()]
        shutil.rmtree(corpus.folder)
    notes = [f"speed / .import: median over {rounds} interleaved rounds", *notes]
    notes.append(f"before: {before}; after: {load()}")
    title = f"backfill, {name}: {corpus.lines} lines in {corpus.files} files"
    return Report(title, rows, notes, [_throughput(name, rows)])


def _throughput(name: str, rows: list[dict[str, object]]) -> Plot:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        series.setdefault(str(row["by"]), []).append((float(str(row["MiB"])), float(str(row["MB/s"]))))
    title = f"Throughput of a backfill, {name} (medians)"
    return Plot(f"backfill-{name.replace(' ', '-')}", title, "MiB of source", "MB/s", series, log="x")


def _measure(
    contenders: list[Contender], corpus: Corpus, rounds: int, database: Path, notes: list[str]
) -> dict[Contender, list[Run]]:
    """The runs of each contender; one that fails is left out, with a word, but for ours and the reference."""
    runs: dict[Contender, list[Run]] = {contender: [] for contender in contenders}
    for turn in range(rounds):
        for contender in contenders if turn % 2 == 0 else reversed(contenders):
            try:
                if contender in runs:
                    runs[contender].append(_run(contender, corpus, database))
            except RunError as error:
                if contender is REFERENCE or contender.ours:
                    raise
                del runs[contender]
                notes.append(f"left out: {error}")
    return runs


def _row(name: str, done: list[Run], reference: list[float], corpus: Corpus) -> dict[str, object]:
    seconds = spread([run.seconds for run in done]).p50
    return {
        "by": name,
        "MiB": corpus.size / MIB,
        "speed / .import": paired(reference, [run.seconds for run in done]),
        "seconds": seconds,
        "MB/s": corpus.size / seconds / 1e6,
        "lines/s": round(corpus.lines / seconds),
        "database / source": done[-1].size / corpus.size,
        "peak RSS MiB": max(run.memory for run in done) / MIB,
    }


def _run(contender: Contender, corpus: Corpus, database: Path) -> Run:
    """One run in a process of its own. Raises RunError when the database doesn't hold every line."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    os.sync()
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *contender.command(corpus.folder, database)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **of_checkout(contender.checkout)},
        check=True,
    )
    seconds, memory, code = done.stdout.split()
    if int(code):
        raise RunError(f"{contender.name}: {(done.stderr.strip().splitlines() or [f'exit {code}'])[-1][:200]}")
    found = contender.count(database)
    if found != corpus.lines:
        raise RunError(f"{contender.name}: {found} rows of {corpus.lines} lines")
    return Run(float(seconds), int(memory) * _RSS_UNIT, database.stat().st_size)
