"""Many whole files into a new database: the importer, the sqlite3 command's .import, and what people write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from codex.logging.store.connection import open_reader, scalar
from tests.bench.corpus import make_corpus
from tests.bench.figures import Report, load, of_checkout, paired, spread

_SCRIPT = """\
import json, pathlib, sqlite3, sys
database = sqlite3.connect(sys.argv[2])
database.execute("CREATE TABLE session_events (session TEXT, seq INTEGER, ts TEXT, role TEXT, message TEXT,"
                 " meta TEXT, PRIMARY KEY (session, seq))")
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.ndjson")):
    with open(path, encoding="utf-8") as file:
        for seq, line in enumerate(file, 1):
            record = json.loads(line)
            ts, role, message = (record.pop(key, None) for key in ("ts", "role", "message"))
            database.execute("INSERT OR IGNORE INTO session_events VALUES (?, ?, ?, ?, ?, ?)",
                             (path.stem, seq, ts, role, message, json.dumps(record)))
    database.commit()
"""
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
_MIB = 1 << 20


class Contender(NamedTuple):
    """One way to do it: its command, its table, and where its code is, if not here."""

    name: str
    command: Callable[[Path, Path], Sequence[str]]
    table: str
    checkout: str | None = None


class Run(NamedTuple):
    """What one run took: wall seconds, the most memory it held at once (bytes), the database's bytes."""

    seconds: float
    memory: int
    size: int


def _importer(folder: Path, database: Path) -> Sequence[str]:
    module = "codex.logging.import_ndjson"
    return [sys.executable, "-m", module, "--all", "--json", "--log-dir", str(folder), "--db", str(database)]


def _sqlite_import(folder: Path, database: Path) -> Sequence[str]:
    imports = [f'.import "{path}" lines' for path in sorted(folder.iterdir())]
    mode = [".mode ascii", '.separator "\\t" "\\n"']
    return ["sqlite3", str(database), "CREATE TABLE lines (line TEXT)", *mode, *imports]


def _script(folder: Path, database: Path) -> Sequence[str]:
    return [sys.executable, "-c", _SCRIPT, str(folder), str(database)]


CONTENDERS = (
    Contender("codex-import-ndjson --all", _importer, "events"),
    Contender("sqlite3 .import, raw lines", _sqlite_import, "lines"),
    Contender("json.loads + INSERT OR IGNORE", _script, "session_events"),
)
_REFERENCE = CONTENDERS[1]


def measure(folder: Path, *, shape: str, megabytes: float, sessions: int, rounds: int, against: str | None) -> Report:
    """Time each contender once in a round, on the same files, into a new database each time."""
    before = load()
    source = folder / "sessions"
    source.mkdir()
    lines = make_corpus(source, shape, round(megabytes * _MIB), sessions)
    size = sum(path.stat().st_size for path in source.iterdir())
    contenders = list(CONTENDERS)
    if against is not None:
        contenders.insert(1, Contender(f"the same of {against}", _importer, "events", against))
    runs: dict[Contender, list[Run]] = {contender: [] for contender in contenders}
    for turn in range(rounds):
        for contender in contenders if turn % 2 == 0 else reversed(contenders):
            runs[contender].append(_run(contender, source, folder / "new.db", lines))
    reference = [run.seconds for run in runs[_REFERENCE]]
    rows = [_row(contender.name, done, reference, size, lines) for contender, done in runs.items()]
    notes = [
        f"speed / .import: median over {rounds} interleaved rounds",
        f"before: {before}; after: {load()}",
    ]
    title = f"backfill, {shape}: {lines} lines, {size / _MIB:.0f} MiB in {sessions} files"
    return Report(title, rows, notes)


def _row(name: str, done: list[Run], reference: list[float], size: int, lines: int) -> dict[str, object]:
    seconds = spread([run.seconds for run in done]).p50
    return {
        "by": name,
        "speed / .import": paired(reference, [run.seconds for run in done]),
        "seconds": seconds,
        "MB/s": size / seconds / 1e6,
        "lines/s": round(lines / seconds),
        "database / source": done[-1].size / size,
        "peak RSS MiB": max(run.memory for run in done) / _MIB,
    }


def _run(contender: Contender, source: Path, database: Path, lines: int) -> Run:
    """One run in a process of its own; fails when the database doesn't hold every line."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    os.sync()
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *contender.command(source, database)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, **of_checkout(contender.checkout)},
        check=True,
    )
    seconds, memory, code = done.stdout.split()
    assert int(code) == 0, contender.name
    with closing(open_reader(str(database))) as connection:
        found = scalar(connection, f"SELECT count(*) FROM {contender.table}")
    assert found == lines, f"{contender.name}: {found} rows of {lines} lines"
    return Run(float(seconds), int(memory) * _RSS_UNIT, database.stat().st_size)
