"""SIGKILL, at random and at named points, while writers append and rotate: is each line there once, in order?

    .venv/bin/python -m tests.faults.crash --kills 250 --seed 1

The daemon is the real one, forked from a process that has its modules already. After each kill a copy of the database
is opened; after each round of kills the last daemon catches up, and the record is compared with the writers' journals.
"""

from __future__ import annotations

import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import click

from codex.logging import terminal
from codex.logging.errors import DatabaseMissingError
from codex.logging.store.connection import open_reader
from tests.faults.doomed import POINTS, Doom, Fork
from tests.faults.load import WRITERS, Load, misplaced

CAUGHT_UP_SECONDS = 30.0
_LONGEST_LIFE = 0.1
_ROWS = "SELECT session_id, seq, message FROM session_events ORDER BY session_id, seq, part"


class Tally:
    """What came of the kills."""

    def __init__(self) -> None:
        self.kills = self.lines = self.lost = self.doubled = 0
        self.points: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self.wrong: list[str] = []

    @property
    def clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return not (self.lost or self.doubled or self.wrong)

    def __str__(self) -> str:
        times = [1000 * seconds for seconds in self.recoveries] or [0.0]
        return (
            f"kills {self.kills} ({self.points.total()} at {len(self.points)} of {len(POINTS)} points)"
            f" | lines {self.lines} | lost {self.lost} | doubled {self.doubled} | other findings {len(self.wrong)}"
            f" | recovered in {statistics.median(times):.0f} ms (median), {max(times):.0f} ms (longest)"
        )


class Round:
    """One folder, one database, one set of writers."""

    def __init__(self, folder: Path, seed: int, tally: Tally) -> None:
        self._folder = folder
        self._database = folder / "s.db"
        self._log = folder / "daemon.log"
        self._choose = random.Random(seed)
        self._tally = tally
        self._load = Load(folder, seed)

    def run(self, kills: int) -> None:
        """Kill so many daemons, then let one finish, and compare."""
        with self._load:
            for _ in range(kills):
                self._kill_one()
                self._check_copy()
        with self._start(None) as daemon:
            if not self._catch_up(daemon):
                self._wrong("the last daemon didn't catch up")
            if (code := daemon.end(signal.SIGTERM)) != 0:
                self._wrong(f"the last daemon ended with {code}")
        self._check_end()

    # -- one kill

    def _kill_one(self) -> None:
        doom = self._doom() if self._choose.random() < 0.6 else None
        with self._start(doom) as daemon:
            if self._choose.random() < 0.5:
                self._catch_up(daemon)
            daemon.ended(self._choose.uniform(0.0, _LONGEST_LIFE) if doom is None else 2 * _LONGEST_LIFE)
            self._tally.points.update([doom.point] if doom is not None and daemon.code is not None else [])
        self._tally.kills += 1
        if daemon.code != -signal.SIGKILL:
            self._wrong(f"a daemon ended by itself with {daemon.code}")

    def _doom(self) -> Doom:
        return Doom(self._choose.choice([*POINTS]), self._choose.random() < 0.5, self._choose.choice((1, 1, 1, 2, 3)))

    def _start(self, doom: Doom | None) -> Fork:
        places = ("--watch", str(self._load.log_dir), "--db", str(self._database))
        return Fork("run", *places, log=self._log, doom=doom)

    def _catch_up(self, daemon: Fork) -> bool:
        """Wait until all that was written before is committed; False when the daemon died on the way."""
        wanted, began = sum(self._load.counts()), time.monotonic()
        with closing(self._committed()) as committed:
            for lines in committed:
                if lines >= wanted:
                    self._tally.recoveries.append(time.monotonic() - began)
                    return True
                if daemon.ended(0.002):
                    return False
                if time.monotonic() - began > CAUGHT_UP_SECONDS:
                    self._wrong(f"{lines} of {wanted} lines after {CAUGHT_UP_SECONDS:.0f} s")
                    return False
        return False

    def _committed(self) -> Iterator[int]:
        """Lines that are committed, time after time."""
        while not self._is_there():
            yield 0
        with closing(open_reader(str(self._database))) as connection:
            while True:
                yield connection.execute("SELECT coalesce(sum(lines), 0) FROM generations").fetchall()[0][0]

    def _is_there(self) -> bool:
        try:
            with closing(open_reader(str(self._database))) as connection:
                return bool(connection.pragma("user_version"))
        except DatabaseMissingError:
            return False

    # -- what must hold

    def _check_copy(self) -> None:
        """What is committed, as the next process will find it: each writer's first lines, once, in order."""
        copy = self._folder / "copy.db"
        for end in ("", "-wal"):
            source, target = Path(f"{self._database}{end}"), Path(f"{copy}{end}")
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, target)
        with closing(apsw.Connection(str(copy))) as connection:
            if connection.pragma("integrity_check") != "ok":
                self._wrong("integrity_check")
            if connection.pragma("user_version"):
                self._compare(connection, None)

    def _check_end(self) -> None:
        """The whole record is what the writers wrote, byte for byte."""
        counts = self._load.counts()
        self._tally.lines += sum(counts)
        with closing(open_reader(str(self._database))) as connection:
            if connection.pragma("integrity_check") != "ok":
                self._wrong("integrity_check at the end")
            if rejects := connection.execute("SELECT count(*) FROM ingest_rejects").fetchall()[0][0]:
                self._wrong(f"{rejects} rejects")
            self._compare(connection, counts)
        verified = Fork("verify", "--deep", "--db", str(self._database), log=self._folder / "verify.log")
        if not verified.ended(60.0) or verified.code != 0:
            self._wrong(f"verify: {(self._folder / 'verify.log').read_text('utf-8')}")
        for session in dict.fromkeys(writer.session for writer in WRITERS):
            self._check_bytes(session)
        for phrase in ("a defect", "a thread died", "stalled", "Traceback"):
            if phrase in self._log.read_text("utf-8"):
                self._wrong(f"the daemon told of {phrase!r}")

    def _compare(self, connection: apsw.Connection, counts: list[int] | None) -> None:
        found: dict[int, list[int]] = {writer.number: [] for writer in WRITERS}
        seqs: dict[str, list[int]] = {}
        for session, seq, message in connection.execute(_ROWS):
            number, line, _ = message.split(" ", 2)
            found[int(number)].append(int(line))
            seqs.setdefault(session, []).append(seq)
        for writer in WRITERS:
            numbers = found[writer.number]
            lost, doubled = misplaced(numbers, counts[writer.number] if counts else max(numbers, default=-1) + 1)
            self._tally.lost += lost
            self._tally.doubled += doubled
        for session, numbers in seqs.items():
            if numbers != list(range(1, len(numbers) + 1)):
                self._wrong(f"{session} isn't numbered without a gap")

    def _check_bytes(self, session: str) -> None:
        output = self._folder / f"{session}.restored"
        restore = Fork("restore", session, "--db", str(self._database), "-o", str(output), log=self._log)
        if not restore.ended(60.0) or restore.code != 0:
            self._wrong(f"{session} isn't restored: {restore.code}")
            return
        restored = output.read_bytes()
        journals = [self._load.journal(writer) for writer in WRITERS if writer.session == session]
        if sorted(restored.splitlines(True)) != sorted(b"".join(journals).splitlines(True)):
            self._wrong(f"{session} isn't restored line by line")
        if len(journals) == 1 and restored != journals[0]:
            self._wrong(f"{session} isn't restored byte for byte")

    def _wrong(self, what: str) -> None:
        self._tally.wrong.append(f"{self._folder}: after {self._tally.kills} kills: {what}")


@click.command(epilog="\b\nExample:\n  python -m tests.faults.crash --kills 250 --seed 1")
@click.option("--kills", default=250, show_default=True, help="How many daemons to kill.")
@click.option("--seed", default=1, show_default=True, help="Another one makes other kills.")
@click.option("--round", "size", default=50, show_default=True, help="Kills for one folder and database.")
@click.option("--dir", "parent", type=click.Path(file_okay=False, exists=True), help="Where to make them.")
def main(kills: int, seed: int, size: int, parent: str | None) -> int:
    """Kill the daemon again and again while five writers go on, and compare the record with what they wrote.

    Exit codes: 0 nothing lost, doubled or wrong; 1 something was, and the folders with it are kept.
    """
    tally = Tally()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process stays behind
    for number in range(0, kills, size):
        folder = Path(tempfile.mkdtemp(prefix="codex-crash-", dir=parent))
        Round(folder, seed * 10_000 + number, tally).run(min(size, kills - number))
        if not tally.clean:
            break
        shutil.rmtree(folder)
    click.echo(f"seed {seed} | {tally}")
    for what in tally.wrong:
        click.echo(what, err=True)
    return int(not tally.clean)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
