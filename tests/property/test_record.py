"""Whatever happens to a log's files and to the process that reads them, the record is what was written."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from codex.logging.config import LINE_LIMIT
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.reader import Limits
from codex.logging.ingest.sources import Location
from codex.logging.rebuild import begin, rebuild
from codex.logging.restore import restored
from codex.logging.store.connection import scalar
from codex.logging.store.merge import merge
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import read_streams
from codex.logging.targets import targets
from codex.logging.verify import check
from tests.daemon import wait_for
from tests.record import everything

_OBJECTS = re.compile(rb'(\{"n":\d+,"message":"x*"\})+[ \t\r]*')
_LIMITS = Limits(batch=300, line=LINE_LIMIT)
_IMPORTER = """
import sys
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.reader import Limits
from codex.logging.ingest.sources import Location
from codex.logging.store.sqlite import Store
engine = Engine(Store(sys.argv[1]), limits=Limits(300, 1 << 26))
while engine.ingest(Location(sys.argv[2], "s.ndjson", 0), final=True).more:
    pass
"""
_COMMITS = "SELECT count(*) FROM segments"


class Life:
    """One physical life of a log's file: all bytes that were written to it, and how many of them are recorded."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.recorded = 0

    @property
    def is_due(self) -> bool:
        """Whether there are bytes that could be recorded, and aren't."""
        return _is_due(self.data[self.recorded :])

    def is_taken_by(self, record: bytes) -> bool:
        """Whether the record has all that could be recorded."""
        return self.data.startswith(record) and not _is_due(self.data[len(record) :])


def _is_due(rest: bytes) -> bool:
    """Whether the bytes begin with a whole line or NULs, or are whole objects."""
    return b"\n" in rest or rest.startswith(b"\0") or _OBJECTS.fullmatch(rest) is not None


class World:
    """The files `s.ndjson`, `.1`, …, their record, and the model: the life that each file has, and all lives in order.

    Each action takes a random number generator. What it did is ingested right after it, unless `awake` is unset.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "sessions"
        self.root.mkdir()
        self.location = Location(str(self.root), "s.ndjson", 0)
        self.database = folder / "s.db"
        self.files: list[Life | None] = [None]
        self.lives: list[Life] = []
        self.lines = self.edits = 0
        self.awake = True
        self.stack = ExitStack()
        self.open()

    def open(self) -> None:
        """A process like any other, with nothing in memory yet."""
        self.store = Store(str(self.database))
        self.stack.callback(self.store.close)
        self.engine = Engine(self.store, limits=_LIMITS)
        self.engine.resume(str(self.root))

    # -- what happens to the files

    def append(self, choose: random.Random) -> None:
        """Some whole lines of any kind."""
        self._write(0, b"".join(self._line(choose) for _ in range(choose.randint(1, 8))))

    def split(self, choose: random.Random) -> None:
        """The first bytes of a line, or all but its end; a later append may seem to bring the rest."""
        line = self._line(choose)
        self._write(0, line[: choose.choice([-1, choose.randrange(1, len(line))])])

    def rest(self, choose: random.Random) -> None:
        """Nothing happens."""

    def late(self, choose: random.Random) -> None:
        """A writer that still has a rotated file open."""
        numbers = [number for number, life in enumerate(self.files) if number and life]
        if numbers:
            self._write(choose.choice(numbers), self._line(choose))

    def rotate(self, choose: random.Random) -> None:
        """`.ndjson` becomes `.1`, `.1` becomes `.2`, and so on."""
        if self.files[0] is not None:
            self._shift(0)
            self.files[0] = None
            self._maybe_append(choose)

    def copy_and_truncate(self, choose: random.Random) -> None:
        """As logrotate's copytruncate does: the copy keeps the life, the live file begins another."""
        if self.files[0] is not None and self.files[0].data:
            self._shift(1)
            shutil.copy(self._path(0), self._path(1))
            os.truncate(self._path(0), 0)
            self.files[1], self.files[0] = self.files[0], Life()
            self._maybe_append(choose)

    def truncate(self, choose: random.Random) -> None:
        """Cut the live file to nothing, and perhaps begin anew."""
        if self.files[0] is not None:
            os.truncate(self._path(0), 0)
            self._begin(b"")
            self._maybe_append(choose)

    def cut(self, choose: random.Random) -> None:
        """Cut the live file behind one of its lines."""
        life = self.files[0]
        ends = [place + 1 for place, byte in enumerate(life.data) if byte == 10] if life else []
        if life is None or not ends:
            return
        size = choose.choice(ends)
        os.truncate(self._path(0), size)
        if size >= life.recorded > 0:
            life.data = life.data[:size]
        else:
            self._begin(life.data[:size])

    def rewrite(self, choose: random.Random) -> None:
        """Edit one byte right before the watermark, in place or by way of a new file."""
        life = self.files[0]
        if life is None or not life.recorded:
            return
        data = bytearray(life.data)
        place = choose.randrange(max(0, life.recorded - 64), life.recorded)
        self.edits += 1  # a letter of its own: content that was there before is the former life, come back
        data[place] = ord("A") + self.edits
        if b"\n" in data:
            self._replace(bytes(data), in_place=choose.random() < 0.5)
            self._begin(bytes(data))

    def move(self, choose: random.Random) -> None:
        """The same content in a new file, as a backup brings it back."""
        if self.files[0] is not None:
            self._replace(self.files[0].data, in_place=False)

    def delete(self, choose: random.Random) -> None:
        """Remove any of the files."""
        number = choose.randrange(len(self.files))
        if self.files[number] is not None:
            self._hold(number)
            self._path(number).unlink()
            self._end(number)

    # -- what happens to the record

    def kill(self, choose: random.Random) -> None:
        """Lose all that is in memory, after any batch; the database's log stays as it is."""
        for _ in range(choose.randrange(3)):
            self.engine.ingest(self.location, final=True)
        self.open()

    def shoot(self, choose: random.Random) -> None:
        """SIGKILL for an importer process, at any moment after some of its commits."""
        commits = choose.randrange(1, 100) + (scalar(self.store.connection, _COMMITS) or 0)
        for _ in range(30):
            self.append(choose)
        with subprocess.Popen([sys.executable, "-c", _IMPORTER, str(self.database), str(self.root)]) as importer:
            wait_for(
                lambda: importer.poll() is not None or (scalar(self.store.connection, _COMMITS) or 0) >= commits,
                what="a commit",
            )
            importer.kill()
        self.open()

    def sleep(self, choose: random.Random) -> None:
        """Nobody looks until the action after the next."""
        self.awake = False

    def merge(self, choose: random.Random) -> None:
        """Merge small segments, some of them or all."""
        for row in self.store.connection.execute("SELECT id FROM generations").fetchall():
            while merge(self.store.connection, int(str(row[0]))) and choose.random() < 0.8:
                pass

    # -- what must hold

    def ingest(self) -> None:
        """Take all that is there, as after an event for each file."""
        for number in range(len(self.files)):
            while self.engine.ingest(self.location.rotated(number), final=True).more:
                pass

    def check(self) -> None:
        """Verify is clean, and each generation gives back what was written to its file, but for an open tail."""
        connection = self.store.connection
        steps = [step for target in targets(connection) for step in check(connection, target, deep=True)]
        assert [step for step in steps if not isinstance(step, int)] == []
        generations = [generation for stream in read_streams(connection) for generation in stream.generations]
        lives = [life for life in self.lives if life.recorded or life.is_due]
        for generation in generations:
            data = b"".join(restored(connection, [generation]))
            life = next((life for life in lives if life.is_taken_by(data)), None)
            assert life is not None, data
            life.recorded = len(data)
            lives.remove(life)
        assert [life.data for life in lives] == []

    def check_rebuilt(self) -> None:
        """A database built anew has the same events, rejects and chains."""
        with closing(begin(self.store.connection, f"{self.database}.new")) as new:
            steps = list(rebuild(self.store.connection, new))
            assert [step for step in steps if not isinstance(step, int)] == []
            assert everything(new.connection) == everything(self.store.connection)

    # -- the model

    def _line(self, choose: random.Random) -> bytes:
        """One that is found nowhere else: which life a file is in is told by its content."""
        self.lines += 1
        text = f'{{"n":{self.lines},"message":"{"x" * int(2 ** choose.uniform(0, 9))}"}}'.encode()
        odd = [text + text, text + b"\0\0" + text, text + b" \r", text[:-1], text + b"\n\n ", b"\xff" + text, text[5:]]
        return choose.choice([text] * len(odd) + odd) + b"\n"

    def _maybe_append(self, choose: random.Random) -> None:
        if choose.random() < 0.7:
            self.append(choose)

    def _write(self, number: int, data: bytes) -> None:
        with self._path(number).open("ab", buffering=0) as log:
            log.write(data)
        life = self.files[number]
        if life is None:
            life = self.files[number] = Life()
        if not life.data:
            self.lives.append(life)
        life.data += data

    def _replace(self, data: bytes, *, in_place: bool) -> None:
        self._hold(0)
        written = self._path(0) if in_place else self.root / "another"
        written.write_bytes(data)
        os.replace(written, self._path(0))

    def _hold(self, number: int) -> None:
        """Keep the file's inode from being given to another one: that is for other tests."""
        self.stack.enter_context(self._path(number).open())

    def _shift(self, first: int) -> None:
        for number in reversed(range(first, len(self.files))):
            if self.files[number] is not None:
                os.rename(self._path(number), self._path(number + 1))
        self.files.insert(first, None)

    def _begin(self, data: bytes) -> None:
        """The live file's life is over, and another begins in its place."""
        self._end(0)
        self.files[0] = Life(data)
        if data:
            self.lives.append(self.files[0])

    def _end(self, number: int) -> None:
        """What nobody has read is gone with the file's life."""
        life = self.files[number]
        assert life is not None
        life.data = life.data[: life.recorded]
        self.files[number] = None

    def _path(self, number: int) -> Path:
        return Path(self.location.rotated(number).path)


_ACTIONS = [
    World.rest,
    World.append,
    World.append,
    World.split,
    World.late,
    World.rotate,
    World.copy_and_truncate,
    World.truncate,
    World.cut,
    World.rewrite,
    World.move,
    World.delete,
    World.kill,
    World.sleep,
    World.merge,
]
_SEEN = {World.kill, World.shoot, World.cut}  # a rotated copy of a file that was only cut is a copy of what is recorded
_SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
_SEQUENCES = st.lists(st.tuples(st.sampled_from(_ACTIONS), st.integers(0, 999)), min_size=8, max_size=20)


def live_through(sequence: list[tuple[Callable[[World, random.Random], None], int]]) -> None:
    """Do each action, check the record after it, and in the end build it anew."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        with world.stack:
            for action, seed in sequence:
                awake, world.awake = world.awake, True
                action(world, random.Random(seed))
                if (awake and world.awake) or action in _SEEN:
                    world.ingest()
                    world.check()
            world.ingest()
            world.check()
            world.check_rebuilt()


@settings(_SETTINGS)
@given(_SEQUENCES)
def test_the_record_is_what_was_written(sequence: list[tuple[Callable[[World, random.Random], None], int]]) -> None:
    """Through random appends, split lines, rotations, truncations, rewrites, merges and kills, 200 times."""
    live_through(sequence)


@pytest.mark.parametrize("seed", range(3))
def test_sigkill(seed: int) -> None:
    """The same for an importer that is killed, time and again, while files are written, cut and rotated."""
    choose = random.Random(seed)
    between = [World.append, World.split, World.rotate, World.late, World.truncate, World.rewrite, World.merge]
    actions = [action for _ in range(5) for action in (choose.choice(between), World.shoot)]
    live_through([(action, choose.randrange(1000)) for action in actions])


@pytest.mark.long
@pytest.mark.parametrize("number", range(25))
def test_the_record_is_what_was_written_in_the_long_run(number: int) -> None:
    """The same, 5,000 times: 25 times 200, each of which can be run alone and comes to the same again."""
    seed(number)(settings(_SETTINGS, database=None)(given(_SEQUENCES)(live_through)))()
