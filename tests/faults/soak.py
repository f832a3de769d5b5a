"""`python -m tests.faults.soak`: real daemons under load, watched for what grows, and held against what was written.

Two daemons serve the same logs, each with a database of its own: one is left alone, so that whatever leaks shows over
the whole run; the other one is killed time and again. Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import click

from codex.logging import terminal
from codex.logging.store.connection import open_reader, scalar
from codex_ingestd.health.status import read_status
from tests.bench.figures import Plot, Report, draw, save
from tests.bench.peers import PeerError
from tests.daemon import Daemon, wait_for
from tests.faults.traffic import REST_EVERY, REST_SECONDS, ROTATE_BYTES, Journal
from tests.importer import Recorded

MIB = 1 << 20
JUDGED_SECONDS = 300.0
_IDLE_SECONDS = 25.0
_TAKEN = """
SELECT coalesce(sum(g."offset"), 0) FROM generations AS g JOIN streams AS s ON s.id = g.stream
WHERE g.superseded_by IS NULL AND s.session_id = ?"""
_ALL_TAKEN = 'SELECT coalesce(sum("offset"), 0) FROM generations'


class Sample(NamedTuple):
    """One look at the daemon that is left alone: seconds since the start, then MiB, counts, bytes."""

    at: float
    memory: float
    descriptors: int
    threads: int
    database: int
    log: int
    ingested: int
    lag: int
    killed_lag: int

    @property
    def cost(self) -> float:
        """Bytes of the database for each byte ingested."""
        return self.database / max(1, self.ingested)


class Found(NamedTuple):
    """How a database differs from what was written: lines lost, lines doubled, and what else is wrong with it."""

    lost: int
    doubled: int
    wrong: list[str]


def slope(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """What the least-squares line gains from the end of the run's first third on."""
    late = [sample for sample in samples if sample.at >= samples[-1].at / 3]
    line = statistics.linear_regression([sample.at for sample in late], [of(sample) for sample in late])
    return line.slope * (late[-1].at - late[0].at)


def rise(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """How much more the most of the last third is than the most of the middle one: for what comes and goes."""
    third = samples[-1].at / 3
    middle = [of(sample) for sample in samples if third <= sample.at < 2 * third]
    return max(of(sample) for sample in samples if sample.at >= 2 * third) - max(middle)


class Rule(NamedTuple):
    """What may grow, in which measure, by so much and no more."""

    what: str
    growth: Callable[[Sequence[Sample], Callable[[Sample], float]], float]
    of: Callable[[Sample], float]
    most: float


RULES = [
    Rule("memory, MiB", slope, lambda sample: sample.memory, 3.0),
    Rule("descriptors", rise, lambda sample: sample.descriptors, 2.0),
    Rule("threads", rise, lambda sample: sample.threads, 1.0),
    Rule("database, bytes a byte ingested", slope, lambda sample: sample.cost, 0.05),
    Rule("write-ahead log, MiB", rise, lambda sample: sample.log / MIB, 16.0),
]


def trends(samples: Sequence[Sample]) -> dict[str, float]:
    """What has grown, by each rule's measure."""
    return {rule.what: rule.growth(samples, rule.of) for rule in RULES}


def rising(samples: Sequence[Sample]) -> list[str]:
    """The rules that a run has broken; one that is too short to tell noise from a trend has broken none."""
    if samples[-1].at < JUDGED_SECONDS:
        return []
    found = trends(samples)
    return [f"{rule.what}: grew by {found[rule.what]:.3g}" for rule in RULES if found[rule.what] > rule.most]


class Soak:
    """The daemons, the writers, and what is done to both, below one folder."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.root, self.seconds = folder / "sessions", seconds
        journals = folder / "journal"
        for made in (self.root, journals):
            made.mkdir()
        self.journal = Journal(journals)
        self.spared = Daemon(self.root, folder / "spared.db")
        self.killed = Daemon(self.root, folder / "killed.db")
        self.samples: list[Sample] = []
        self.recoveries: list[float] = []
        self.imports = self.moved = self.purged = self.kills = 0
        self._choose = random.Random(seed)
        self._over = threading.Event()
        self._began = time.monotonic()

    def run(self, writers: int, rate: float) -> list[str]:
        """All of it; what went wrong."""
        self.spared.start()
        self.killed.start()
        arguments = [sys.executable, "-m", "tests.faults.traffic", str(self.root), str(self.journal.folder)]
        processes = [
            subprocess.Popen([*arguments, str(number), str(rate)], stdin=subprocess.PIPE, env=_environment())
            for number in range(writers)
        ]
        wrong = []
        try:
            with ThreadPoolExecutor() as pool:
                jobs = [pool.submit(self._until_over, job) for job in (self._kill, self._churn, self._tend)]
                try:
                    self._until_over(self._sample)
                finally:
                    self._over.set()
            wrong += [f"{type(error).__name__}: {error}" for job in jobs if (error := job.exception()) is not None]
            for process in processes:
                process.communicate()
                wrong += [f"a writer ended with {process.returncode}"] * bool(process.returncode)
            return wrong + self._stop()
        finally:
            for process in processes:
                process.kill()
            self.spared.kill()
            self.killed.kill()

    def found(self) -> dict[str, Found]:
        """Each database, held against the journals."""
        return {daemon.database.stem: self._compare(daemon.database) for daemon in (self.spared, self.killed)}

    def rests(self) -> list[int]:
        """The least lag in bytes of each time that the writers rested."""
        least: dict[int, int] = {}
        for sample in self.samples:
            number, phase = divmod(time.time() - time.monotonic() + self._began + sample.at, REST_EVERY)
            if phase < REST_SECONDS:
                least[int(number)] = min(sample.lag, least.get(int(number), sample.lag))
        return list(least.values())

    def _until_over(self, job: Callable[[], float]) -> None:
        """Do it again and again; what it gives are the seconds until then."""
        while not self._over.wait(job()):
            if time.monotonic() - self._began >= self.seconds:
                self._over.set()

    # -- what is done, each in a thread of its own

    def _sample(self) -> float:
        process = self.spared.process
        assert process is not None
        about = Path(f"/proc/{process.pid}")
        facts = dict(line.split(":", 1) for line in (about / "status").read_text().splitlines())
        sample = Sample(
            at=time.monotonic() - self._began,
            memory=int(facts["VmRSS"].split()[0]) / 1024,
            descriptors=len(os.listdir(about / "fd")),
            threads=int(facts["Threads"]),
            database=self.spared.database.stat().st_size,
            log=Path(f"{self.spared.database}-wal").stat().st_size,
            ingested=_number(self.spared, _ALL_TAKEN),
            lag=self._lag(self.spared),
            killed_lag=self._lag(self.killed),
        )
        self.samples.append(sample)
        if sys.stderr.isatty():
            click.echo(f"\r{sample.at / 60:.1f} min, {self.kills} kills, {sample.memory:.1f} MiB ", nl=False, err=True)
        return min(2.0, self.seconds / 40)

    def _kill(self) -> float:
        """SIGKILL, some time without a daemon, and another one; sometimes SIGTERM."""
        if self._over.wait(self._choose.uniform(0.5, 6)):
            return 0.0
        if self._choose.random() < 0.9:
            self.killed.kill()
            self.kills += 1
        else:
            assert self.killed.stop() == 0
        self._over.wait(self._choose.uniform(0, 2))
        began = time.monotonic()
        self.killed.start()
        wait_for(lambda: self._lag(self.killed) == 0, 60, "the restarted daemon to have everything")
        self.recoveries.append(time.monotonic() - began)
        return 0.0

    def _churn(self) -> float:
        """Folders come, are renamed and go: what watchdog's thread dies of."""
        for number in range(5):
            folder = self.root / f"churn{number}"
            (folder / "a" / "b").mkdir(parents=True)
            folder.rename(self.root / "renamed")
            shutil.rmtree(self.root / "renamed")
        return self._choose.uniform(0, 2)

    def _tend(self) -> float:
        """Import beside the daemon; move or purge the files of what has ended and is whole in both databases."""
        databases = (self.spared.database, self.killed.database)
        _run("codex_ingestd.cli", "once", "--watch", str(self.root), "--db", str(databases[1]))
        self.imports += 1
        for session in self.journal.sessions():
            files = [file for folder in ("", "archive/") for file in self.root.glob(f"{folder}{session}.ndjson*")]
            if not files or self.journal.idle_seconds(session) < _IDLE_SECONDS:
                continue
            size = len(self._written(session))
            if [_number(daemon, _TAKEN, session) for daemon in (self.spared, self.killed)] == [size, size]:
                if files[0].parent == self.root and self._choose.random() < 0.5:
                    self._move(files)
                else:
                    arguments = ("purge", "--days", "0", "--session", session, "--db", str(databases[0]))
                    self.purged += _run("codex_ingestd.cli", *arguments) == 0
        return self._choose.uniform(10, 20)

    def _move(self, files: list[Path]) -> None:
        """Into a sub-folder, in any order."""
        (self.root / "archive").mkdir(exist_ok=True)
        for path in self._choose.sample(files, len(files)):
            path.rename(self.root / "archive" / path.name)
        self.moved += 1

    def _stop(self) -> list[str]:
        """Let both come to rest, and end; what is wrong with that."""
        wrong = []
        for daemon in (self.spared, self.killed):
            try:
                wait_for(lambda daemon=daemon: self._lag(daemon) == 0, 30)  # type: ignore[misc]
            except AssertionError:
                wrong.append(f"{daemon.database.stem}: {self._lag(daemon)} bytes are left at rest")
            wrong += [f"{daemon.database.stem}: exit code {code}"] if (code := daemon.stop()) else []
            wrong += [f"{daemon.database.stem}: {record['message']}" for record in daemon.told("a defect")]
        return wrong

    # -- what came of it

    def _compare(self, database: Path) -> Found:
        recorded, wrong = Recorded(database), []
        lost = doubled = 0
        for session in self.journal.sessions():
            lines = list(enumerate(self.journal.lines(session), 1))
            rows = [(seq, part, message) for seq, line in lines for part, message in enumerate(line.messages)]
            rejects = [(seq, line.reason) for seq, line in lines if line.reason is not None]
            there = Counter(message for _, _, message in recorded.rows(session))
            due = Counter(message for _, _, message in rows)
            lost, doubled = lost + (due - there).total(), doubled + (there - due).total()
            given = b"".join(life.bytes for life in recorded.lives(session) if not life.superseded)
            found = (recorded.rows(session), recorded.rejects(session), given)
            kinds = zip(("rows", "rejects", "bytes"), found, (rows, rejects, self._written(session)), strict=True)
            wrong += [f"{session}: other {kind} than were written" for kind, mine, due in kinds if mine != due]
        if _run("codex_ingestd.cli", "verify", "--deep", "--db", str(database)) != 0:
            wrong.append("it doesn't verify")
        with closing(open_reader(str(database))) as connection:
            wrong += [] if scalar(connection, "PRAGMA integrity_check") == "ok" else ["the file is damaged"]
        return Found(lost, doubled, [f"{database.stem}: {text}" for text in wrong])

    def _written(self, session: str) -> bytes:
        return b"".join(line.text.encode() + b"\n" for line in self.journal.lines(session))

    def _lag(self, daemon: Daemon) -> int:
        return read_status(str(daemon.database), [str(self.root)]).lag


def _number(daemon: Daemon, query: str, *values: object) -> int:
    return int(str(daemon.scalar(query, *values)))


def _run(module: str, *arguments: str) -> int:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()).returncode


def _environment() -> dict[str, str]:
    return {**os.environ, "NDJSON_MAX_BYTES": str(ROTATE_BYTES)}


def report(soak: Soak, found: dict[str, Found]) -> Report:
    """The figures, and the picture's parts."""
    samples, recoveries = soak.samples, sorted(soak.recoveries) or [0.0]
    rows: list[dict[str, object]] = [
        {"database": name, "lost": result.lost, "doubled": result.doubled, "wrong": len(result.wrong)}
        for name, result in found.items()
    ]
    rests, last = soak.rests(), samples[-1]
    notes = [
        f"{last.ingested / MIB:.1f} MiB of {len(soak.journal.sessions())} sessions in {last.at / 60:.1f} min",
        f"{soak.kills} SIGKILLs; to recover: median {statistics.median(recoveries):.2f} s, most {recoveries[-1]:.2f} s",
        f"{soak.imports} imports beside the daemon; sessions: {soak.moved} moved, {soak.purged} purged",
        f"lag at rest: {sum(map(bool, rests))} of {len(rests)} times not zero",
        *(f"{what}: grew by {gain:.3g}" for what, gain in trends(samples).items()),
    ]
    parts: dict[str, dict[str, Callable[[Sample], float]]] = {
        "memory, MiB": {"": lambda sample: sample.memory},
        "descriptors and threads": {
            "descriptors": lambda sample: sample.descriptors,
            "threads; fewer while it polls": lambda sample: sample.threads,
        },
        "database and its write-ahead log, MiB": {
            "database": lambda sample: sample.database / MIB,
            "log": lambda sample: sample.log / MIB,
            "ingested": lambda sample: sample.ingested / MIB,
        },
        "lag, KiB": {
            "the daemon that is killed": lambda sample: sample.killed_lag / 1024,
            "the one that is left alone": lambda sample: sample.lag / 1024,
        },
    }
    return Report("soak", rows, notes, [_plot(title, lines, samples) for title, lines in parts.items()])


def _plot(title: str, lines: dict[str, Callable[[Sample], float]], samples: Sequence[Sample]) -> Plot:
    series = {name: [(sample.at / 60, of(sample)) for sample in samples] for name, of in lines.items()}
    return Plot(title, title, "minutes", "", series)


@click.command(
    epilog="\b\nExamples:\n  python -m tests.faults.soak --minutes 30 --plot soak.png"
    "\n  python -m tests.faults.soak --minutes 0.3 --json soak.json"
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True, help="How long.")
@click.option("--writers", type=click.IntRange(min=1), default=4, show_default=True, help="Processes that write.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), default=10, show_default=True, help="Lines/s each."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of when the daemon is killed.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw what was sampled, as a PNG, into this file.")
@click.option("--json", "output", type=click.Path(dir_okay=False), help="Also write the result there.")
@click.option("--dir", "parent", type=click.Path(file_okay=False, exists=True), help="Where to make the folder.")
def command(
    minutes: float, writers: int, rate: float, seed: int, plot: str | None, output: str | None, parent: str | None
) -> int:
    """Load two daemons, kill one of them time and again, and tell what was lost and what grows.

    Exit codes: 0 all is well, 1 something was lost or doubled, or grows; the folder is kept then.
    """
    folder = Path(tempfile.mkdtemp(prefix="codex-soak-", dir=parent))
    soak = Soak(folder, minutes * 60, seed)
    wrong = soak.run(writers, rate)
    found = soak.found()
    wrong += [text for result in found.values() for text in result.wrong] + rising(soak.samples)
    rests = soak.rests()
    wrong += ["lag did not come to zero at two rests in a row"] * any(all(pair) for pair in pairwise(rests))
    shown = report(soak, found)
    shown.show()
    if output is not None:
        options: dict[str, object] = {"minutes": minutes, "writers": writers, "rate": rate, "seed": seed}
        samples = [sample._asdict() for sample in soak.samples]
        save(output, {**shown.plain(), "failures": wrong, "samples": samples}, options)
    if plot is not None:
        try:
            draw(str(Path(plot).parent), shown.plots, together=Path(plot).stem)
        except PeerError as error:
            click.echo(f"no plot: {error}", err=True)
    for text in wrong:
        click.echo(f"failed: {text}", err=True)
    if wrong:
        click.echo(f"hint: logs, databases and what the daemons said are in {folder}", err=True)
    else:
        shutil.rmtree(folder)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(terminal.run(command))
