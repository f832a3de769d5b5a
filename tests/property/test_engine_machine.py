"""Whatever happens to files and importers, and whenever somebody looks, the ledger is what the documented rules say.

Real importers on a real file system; model.py says what must come of each look.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from codex.logging.events import Generation, Stream
from codex.logging.store.connection import open_reader
from codex.logging.store.record import Record
from codex.logging.store.rows import Rows
from codex.logging.store.sqlite import Store
from codex.logging.targets import targets
from codex.logging.verify import Finding, check
from codex.logging.writer import Appender
from tests.importer import Importer
from tests.property.failpoints import LIMITS, POINTS, Nursery
from tests.property.folder import KEYS, ZST, Folder
from tests.property.model import File, KilledError, Model

SHM = Path("/dev/shm")
_STREAMS = "SELECT id, path, session_id, state FROM streams ORDER BY id"
_LIVES = 'SELECT id, "offset", how, superseded_by IS NOT NULL FROM generations WHERE stream = ? ORDER BY id'
_ROWS = "SELECT seq, part, message FROM session_events WHERE generation = ? ORDER BY seq, part"
_REJECTS = "SELECT seq, reason FROM ingest_rejects WHERE generation = ? ORDER BY id"


class Deadly(Store):
    """A store whose process is killed behind one of its commits, or of anything that it writes."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.live_on()

    def live_on(self, commits: int = -1, writes: int = -1) -> list[int]:
        """For so many more; what comes back will hold the bytes of each commit."""
        self._sizes: list[int] = []
        self._commits, self._writes = commits, writes
        return self._sizes

    def commit(
        self, stream: Stream, generation: Generation, rows: Rows, ending: tuple[int, str, bool] | None
    ) -> Stream:
        size = rows.length
        stream = super().commit(stream, generation, rows, ending)
        self._sizes.append(size)
        self._commits -= 1
        self._note()
        return stream

    def resume(
        self,
        stream: Stream,
        found: Generation,
        ending: tuple[int, str, bool] | None = None,
        place: tuple[str, str] | None = None,
    ) -> Stream:
        stream = super().resume(stream, found, ending, place)
        self._note()
        return stream

    def end(self, stream: Stream, ending: tuple[int, str, bool] | None, state: str | None = None) -> None:
        super().end(stream, ending, state)
        self._note()

    def _note(self) -> None:
        self._writes -= 1
        if 0 in (self._commits, self._writes):
            raise KilledError


_keys = st.sampled_from([*KEYS[:1] * 4, *KEYS])
_which = st.integers(0, 5)
_kinds = st.lists(
    st.sampled_from(["plain", "plain", "pair", "junk", "blank", "long", "header"]), min_size=1, max_size=4
)
_places = st.floats(0, 1, exclude_max=True)
_importers = st.sampled_from([0, 0, 1])
_with_live = precondition(lambda self: self.folder.live(0))
_with_packed = precondition(lambda self: self.folder.packed(0))
_with_rotated = precondition(lambda self: any(file.number for file in self.folder.files()))
_with_any = precondition(lambda self: self.folder.files())
_with_parked = precondition(lambda self: self.folder.parked)


class Machine(RuleBasedStateMachine):
    """Two importers with a memory each, one database, three names.

    The second importer comes to the files through a link. `which` is one of the files that are there.
    """

    nursery: Nursery

    def __init__(self) -> None:
        super().__init__()
        self._base = Path(tempfile.mkdtemp(prefix="machine-", dir=SHM if SHM.is_dir() else None))
        self.folder = Folder(self._base / "sessions")
        self.database = self._base / "s.db"
        self.model = Model()
        self.stores: dict[int, Deadly] = {}
        self.importers: dict[int, Importer] = {}
        self.agents = [{key: Appender(self.folder.path(key)) for key in KEYS} for _ in range(2)]
        self.roots = [self.folder.root, self._base / "link"]
        self.roots[1].symlink_to(self.folder.root)
        self.restart(0)
        self.restart(1)

    def teardown(self) -> None:
        for store in self.stores.values():
            store.close()
        for agent in self.agents:
            for appender in agent.values():
                appender.close()
        shutil.rmtree(self._base)

    # -- what happens to files

    @initialize(kinds=_kinds, looked=st.booleans())
    def begin(self, kinds: list[str], looked: bool) -> None:
        self.append(KEYS[0], kinds)
        if looked:
            self.look()

    @rule(key=_keys, kinds=_kinds)
    def append(self, key: str, kinds: list[str]) -> None:
        self.folder.write(self.folder.path(key), self.folder.text(kinds))

    @_with_any
    @rule(which=_which, kinds=_kinds)
    def append_to_any(self, which: int, kinds: list[str]) -> None:
        """To a rotated one, too: its writer still has it open."""
        self.folder.write(self.folder.any(which), self.folder.text(kinds))

    @rule(agent=st.sampled_from([0, 1]), key=_keys, kinds=_kinds)
    def append_as_an_agent(self, agent: int, key: str, kinds: list[str]) -> None:
        """By the product's own writer, which holds the file open, and closes the line that another one has begun."""
        self.agents[agent][key].write(self.folder.text(kinds))
        self.folder.stamp(self.folder.path(key))

    @rule(key=_keys, kind=st.sampled_from(["plain", "pair", "long"]), place=_places)
    def write_in_two(self, key: str, kind: str, place: float) -> None:
        line = self.folder.text([kind])
        self.folder.begin(self.folder.path(key), line, 1 + int(place * (len(line) - 1)))

    @_with_any
    @rule()
    def write_the_rest(self) -> None:
        self.folder.finish()

    @_with_live
    @rule(which=_which)
    def rotate(self, which: int) -> None:
        key = self.folder.live(which)
        self.folder.shift(key)
        self.folder.rename(self.folder.path(key), self.folder.path(key, 1))

    @_with_rotated
    @rule(which=_which)
    def shift(self, which: int) -> None:
        """Make room for a `.1` that may come."""
        key = self.folder.live(which)
        if self.folder.numbers(key)[:2] == [0, 1]:
            self.folder.shift(key)

    @_with_live
    @rule(which=_which, part=st.sampled_from([1.0, 1.0, 0.5]))
    def copy(self, which: int, part: float) -> None:
        """To `.1`, whole or in part, as a backup or before a truncation."""
        key = self.folder.live(which)
        self.folder.shift(key)
        data = self.folder.path(key).read_bytes()
        self.folder.write(self.folder.path(key, 1), data[: int(len(data) * part)])

    @_with_live
    @rule(which=_which, kinds=st.just([]) | _kinds)
    def truncate(self, which: int, kinds: list[str]) -> None:
        """And write anew."""
        self.folder.write(self.folder.path(self.folder.live(which)), self.folder.text(kinds), "wb")

    @_with_live
    @rule(which=_which)
    def copy_and_truncate(self, which: int) -> None:
        self.copy(which, 1.0)
        self.truncate(which, [])

    @_with_any
    @rule(which=_which, place=_places)
    def cut(self, which: int, place: float) -> None:
        path = self.folder.any(which)
        data = self.folder.read(path)
        self.folder.write(path, data[: int(len(data) * place)], "wb")

    @_with_any
    @rule(which=_which, place=_places)
    def edit(self, which: int, place: float) -> None:
        """One byte, in place."""
        path = self.folder.any(which)
        data = bytearray(self.folder.read(path))
        where = int(len(data) * place)
        if data and data[where] != 0x0A:
            data[where] = 0x5A
            self.folder.write(path, bytes(data), "wb")

    @_with_any
    @rule(which=_which)
    def delete(self, which: int) -> None:
        """Where no file stays behind two that are missing: nobody looks for one there."""
        files = self.folder.files()
        gone = files.pop(which % len(files))
        left = {-1, *(file.number for file in files if file.key == gone.key)}
        if all(left & {high - 1, high - 2} for high in left - {-1}):
            self.folder.park(self.folder.place(gone.key, gone.number))

    @_with_parked
    @rule(key=_keys, kinds=_kinds)
    def recreate_at_the_same_inode(self, key: str, kinds: list[str]) -> None:
        """A log begins, or takes another one's place, with the inode of one that was deleted."""
        self.folder.recreate(self.folder.path(key), self.folder.text(kinds))

    @_with_live
    @rule(which=_which, published=st.booleans())
    def compress(self, which: int, published: bool) -> None:
        """As an agent does; the plain file goes once the other one is published."""
        key = self.folder.live(which)
        self.folder.pack(key)
        if not published:
            self.folder.path(key).unlink()

    @_with_packed
    @rule(which=_which, published=st.booleans())
    def decompress(self, which: int, published: bool) -> None:
        """And back, before it appends."""
        packed = self.folder.place(key := self.folder.packed(which))
        self.folder.unpack(key)
        if not published:
            packed.unlink()

    @_with_live
    @rule(which=_which, kinds=_kinds, same=st.booleans())
    def replace(self, which: int, kinds: list[str], same: bool) -> None:
        """By a new file, which begins with the same content when an editor saves it."""
        path, fresh = self.folder.path(self.folder.live(which)), self.folder.root / "fresh"
        self.folder.write(fresh, (path.read_bytes() if same else b"") + self.folder.text(kinds))
        self.folder.rename(fresh, path)

    @_with_live
    @rule(which=_which, other=_keys)
    def move(self, which: int, other: str) -> None:
        """The live file alone, to where nothing is or over another."""
        key = self.folder.live(which)
        if other != key and self.folder.numbers(key)[1:2] != [2]:
            self.folder.rename(self.folder.path(key), self.folder.path(other))

    @_with_any
    @rule(which=_which, other=_keys)
    def move_all(self, which: int, other: str) -> None:
        """With the rotated files; the live one may be compressed."""
        files = self.folder.files()
        key = files[which % len(files)].key
        if not self.folder.numbers(other):
            for number in self.folder.numbers(key):
                path = self.folder.place(key, number)
                target = Path(f"{self.folder.path(other, number)}{ZST * (path.suffix == ZST)}")
                self.folder.rename(path, target)

    @_with_live
    @rule(which=_which, other=_keys, kinds=_kinds)
    def reuse_inode(self, which: int, other: str, kinds: list[str]) -> None:
        """As a log that is deleted, and another one that is given its inode."""
        self.move(which, other)
        if 0 in self.folder.numbers(other):
            self.folder.write(self.folder.path(other), self.folder.text(kinds), "wb")

    # -- what happens to importers

    @rule(who=_importers, seconds=st.sampled_from([1.0, 3600.0, -3600.0]))
    def turn_clock(self, who: int, seconds: float) -> None:
        self.importers[who].ahead += seconds

    @rule(who=_importers)
    def restart(self, who: int) -> None:
        """All memory is lost."""
        if who in self.stores:
            self.stores[who].close()
        self.stores[who] = Deadly(str(self.database))
        self.importers[who] = Importer(self.roots[who], self.database, limits=LIMITS, store=self.stores[who])

    @rule()
    def look(self) -> None:
        self.look_around(0)

    @rule()
    def look_from_a_new_process(self) -> None:
        self.restart(0)
        self.look_around(0)

    @rule(who=_importers, backwards=st.booleans(), final=st.booleans(), grouped=st.booleans())
    def look_around(self, who: int, backwards: bool = False, final: bool = True, grouped: bool = False) -> None:
        """A sweep: at what isn't settled, and at what is gone."""
        files = self.folder.files()
        with self.importers[who].engine.group() if grouped else nullcontext():
            for key in self.keys(files, backwards):
                self.importers[who].look(key, final=final)
        for key in self.keys(files, backwards):
            self.model.look(files, key)
        self.check(files)

    @rule(who=_importers, key=_keys)
    def look_at_one(self, who: int, key: str) -> None:
        """As after an event for its live file."""
        self.importers[who].take(key)
        self.model.look(self.folder.files(), key)
        self.check(None)

    @rule(who=_importers, commits=st.integers(1, 6))
    def kill(self, who: int, commits: int) -> None:
        """Behind one of a sweep's commits, if it comes to so many."""
        files, sizes = self.folder.files(), self.stores[who].live_on(commits=commits)
        killed = self.look_until_killed(who, grouped=False)
        with suppress(KilledError):
            for key in self.keys(files, False):
                self.model.look(files, key, sizes if killed else None)
        self.check(None)

    @rule(who=_importers, point=st.sampled_from(POINTS), times=st.integers(1, 6), grouped=st.booleans())
    def kill_a_process(self, who: int, point: str, times: int, grouped: bool) -> None:
        """SIGKILL at that point; an importer that was there before goes on, and it comes to the same."""
        keys = self.keys(self.folder.files(), False)
        self.nursery.is_killed(self.roots[who], self.database, keys, point, times, grouped)
        self.look_around(who)

    @rule(who=_importers, writes=st.integers(1, 6), grouped=st.booleans())
    def kill_and_start(self, who: int, writes: int, grouped: bool) -> None:
        """Behind anything that it writes; the next process goes on, and it comes to the same."""
        self.stores[who].live_on(writes=writes)
        self.look_until_killed(who, grouped)
        self.look_around(who)

    def look_until_killed(self, who: int, grouped: bool) -> bool:
        """Whether it was."""
        try:
            with self.importers[who].engine.group() if grouped else nullcontext():
                for key in self.keys(self.folder.files(), False):
                    self.importers[who].look(key)
        except KilledError:
            self.restart(who)
            return True
        self.stores[who].live_on()
        return False

    def keys(self, files: list[File], backwards: bool) -> list[str]:
        """The logs to look at: those that are there, and those that were."""
        there = sorted({file.key for file in files}, reverse=backwards)
        gone = [log.key for log in self.model.logs if log.key not in there and not log.gone]
        return gone + there if backwards else there + gone

    # -- what must hold

    def check(self, files: list[File] | None) -> None:
        """The record is the model's, and, when all files were looked at, it verifies beside them."""
        with closing(open_reader(str(self.database))) as connection:
            expected = {
                log.key: (
                    log.session,
                    "gone" if log.gone else "live",
                    [(life.how, life.superseded, life.data) for life in log.lives],
                    [([], []) if life.superseded else (life.rows, life.rejects) for life in log.lives],
                )
                for log in self.model.logs
            }
            found, numbers = {}, {}
            for stream, path, session, state in connection.execute(_STREAMS).fetchall():
                lives, rows = [], []
                for place, (life, length, how, superseded) in enumerate(
                    connection.execute(_LIVES, (stream,)).fetchall()
                ):
                    numbers[life] = (path, place)
                    lives.append((how, bool(superseded), Record(connection, life).read(0, length)))
                    rejects = [] if superseded else connection.execute(_REJECTS, (life,)).fetchall()
                    rows.append((connection.execute(_ROWS, (life,)).fetchall(), rejects))
                found[path] = (session, state, lives, rows)
            assert found == expected
            if files is not None:
                steps = [step for target in targets(connection) for step in check(connection, target, deep=True)]
                findings = [step for step in steps if isinstance(step, Finding)]
                suspects = self.model.suspects(files)
                assert [(f.kind, numbers[f.generation]) for f in findings] == [("source", place) for place in suspects]


@pytest.fixture(autouse=True)
def nursery() -> Iterator[None]:
    """Where the processes come from that are killed."""
    with closing(Nursery()) as Machine.nursery:
        yield


def test_the_ledger_is_what_the_rules_say() -> None:
    """100 times."""
    run_state_machine_as_test(Machine, settings=settings(_settings(100), derandomize=True, database=None))


@pytest.mark.long
@pytest.mark.parametrize("number", range(50))
def test_the_ledger_is_what_the_rules_say_in_the_long_run(number: int) -> None:
    """5,000 times: 50 times 100, each of which can be run alone and comes to the same again."""
    run_state_machine_as_test(
        seed(number)(type("Seeded", (Machine,), {})), settings=settings(_settings(100), database=None)
    )


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
