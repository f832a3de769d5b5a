"""Append -> committed row that another process sees.

Each side (a daemon, the floor) has a folder. The same writers append to one side's folder after the other's, in
blocks; a probe per side watches for each line and subtracts the time that the line carries from its own.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from tests.bench import floor
from tests.bench.corpus import encode, make_sessions
from tests.bench.figures import Plot, Report, Spread, load, of_checkout, paired, spread, tail, worst
from tests.bench.loggers import LOGGERS, running
from tests.bench.peers import PeerError
from tests.bench.probes import DaemonProbe, LinesProbe, Probe, TextProbe
from tests.bench.writers import RECORDS, WRITERS, Load
from tests.daemon import Daemon, wait_for

POLL_SECONDS = 0.0001
_FLOOR = "inotify + commit"
_BUCKETS = 100
_START_SECONDS = 120.0
_GAP_SECONDS = 0.3
_LATE_SECONDS = 3.0
_spawn = multiprocessing.get_context("spawn")


class Block(NamedTuple):
    """A stretch of time in which one side is written to; nanoseconds, of `Start` or of the monotonic clock."""

    side: int
    begin: int
    end: int


class Start:
    """The moment from which on all processes count, once every one of them is there."""

    def __init__(self, processes: int) -> None:
        self._moment = _spawn.Value("q", 0)
        self._all = _spawn.Barrier(processes, self._set, _START_SECONDS)

    def _set(self) -> None:
        self._moment.value = time.monotonic_ns() + round(_GAP_SECONDS * 1e9)

    def shift(self, blocks: list[Block]) -> list[Block]:
        """Wait for all, and have the blocks in monotonic time."""
        self._all.wait()
        moment = self._moment.value
        return [Block(side, moment + begin, moment + end) for side, begin, end in blocks]


_start: Start


def _attend(start: Start) -> None:
    global _start
    _start = start


class Side(NamedTuple):
    """One contender: its folder, and how a probe in another process is made."""

    name: str
    folder: Path
    probe: type[Probe]
    output: Path


class Line(NamedTuple):
    """One line that became visible: seconds from its block's begin to its append, and from there ms until then."""

    sent: float
    late: float


class Seen(NamedTuple):
    """What a probe saw: the lines of each block, and the share of a core that looking took."""

    blocks: list[list[Line]]
    share: float

    def latencies(self) -> list[list[float]]:
        """Of each block, in ms."""
        return [[line.late for line in block] for block in self.blocks]


def measure(
    folder: Path,
    work: Load,
    *,
    seconds: float,
    block: float,
    files: Sequence[int],
    against: str | None = None,
    poll: float = POLL_SECONDS,
    peers: bool = False,
) -> Report:
    """Run the daemons (one for each count in `files`, and with `against` another checkout's) beside the floor."""
    before = load()
    block = min(block, seconds)
    with ExitStack() as stack:
        sides = [stack.enter_context(_daemon(folder / f"files-{count}", count)) for count in files]
        if against is not None:
            sides.append(stack.enter_context(_daemon(folder / "against", files[0], against)))
        if sys.platform == "linux":
            sides.append(stack.enter_context(_floor(folder / "floor", _FLOOR, floor.commit_lines)))
            sides.append(stack.enter_context(_floor(folder / "copy", "inotify + text copy", floor.copy_lines)))
        for side in sides:
            _greet(side, work)
        notes = _add_peers(sides, folder, work, stack) if peers else []
        seen = _run(sides, work, _blocks(len(sides), seconds, block), poll)
    return _report(sides, seen, work, block, [*notes, f"before: {before}; after: {load()}"])


def _report(sides: list[Side], seen: list[Seen], work: Load, block: float, notes: list[str]) -> Report:
    spreads = {side.name: list(map(spread, mine.latencies())) for side, mine in zip(sides, seen, strict=True)}
    references = {"floor": _FLOOR if _FLOOR in spreads else sides[0].name}
    references |= {logger.name.split()[0]: logger.name for logger in LOGGERS if logger.name in spreads}
    rows: list[dict[str, object]] = []
    for side, mine in zip(sides, seen, strict=True):
        every = spread(list(chain.from_iterable(mine.latencies())))
        expected = round(work.rate * block) * work.writers * len(mine.blocks)
        rows.append(
            {
                "side": side.name,
                **_ratios(spreads[side.name], {name: spreads[other] for name, other in references.items()}),
                "p50 ms": every.p50,
                "p90 ms": every.p90,
                "p99 ms": every.p99,
                "max ms": every.most,
                "lines": sum(map(len, mine.blocks)),
                "not seen": expected - sum(map(len, mine.blocks)),
                "probe share": mine.share,
            }
        )
    title = f"append -> visible row: {work.writers} writers x {work.rate:g} lines/s, {work.form}, by {work.call}"
    notes = [
        f"ratios: median over {len(seen[0].blocks)} interleaved pairs of {block:g} s; the milliseconds: all lines",
        *notes,
    ]
    return Report(title, rows, notes, _plots(sides, seen, work, block))


def _ratios(mine: list[Spread], references: dict[str, list[Spread]]) -> dict[str, object]:
    row: dict[str, object] = {}
    for name, theirs in references.items():
        row[f"p50 / {name}"] = paired([own.p50 for own in mine], [other.p50 for other in theirs])
        row[f"p99 / {name}"] = paired([own.p99 for own in mine], [other.p99 for other in theirs])
    return row


def _plots(sides: list[Side], seen: list[Seen], work: Load, block: float) -> list[Plot]:
    about = f"{work.writers} writers × {work.rate:g} lines/s"
    name = f"live-{work.writers}x{work.rate:g}"
    width = block * len(seen[0].blocks) / _BUCKETS
    slower: dict[str, list[tuple[float, float]]] = {}
    over: dict[str, list[tuple[float, float]]] = {}
    for side, mine in zip(sides, seen, strict=True):
        slower[side.name] = tail(list(chain.from_iterable(mine.latencies())))
        lines = [(number * block + line.sent, line.late) for number, lines in enumerate(mine.blocks) for line in lines]
        over[side.name] = worst(lines, width)
    y = "share of lines that took longer"
    shares = Plot(f"{name}-latency", f"Append → visible to another process, {about}", "ms", y, slower, log="xy")
    x = "seconds of writing to that side"
    return [shares, Plot(f"{name}-lag", f"Worst lag in each {width:.2g} s, {about}", x, "ms", over, log="y")]


@contextmanager
def _daemon(folder: Path, files: int, checkout: str | None = None) -> Iterator[Side]:
    sessions = folder / "sessions"
    sessions.mkdir(parents=True)
    make_sessions(sessions, files)
    daemon = Daemon(sessions, folder / "session_logs.db")
    name = f"daemon, {files} other files"
    if checkout is not None:
        name = f"daemon of {checkout}"
    daemon.start(env=of_checkout(checkout))
    try:
        if files:
            wait_for(lambda: daemon.scalar("SELECT count(*) FROM streams") == files, 600, "the other files' rows")
        yield Side(name, sessions, DaemonProbe, daemon.database)
    finally:
        daemon.kill()


@contextmanager
def _floor(folder: Path, name: str, loop: Callable[[Path, Path, Event], None]) -> Iterator[Side]:
    sessions = folder / "sessions"
    sessions.mkdir(parents=True)
    ready = _spawn.Event()
    output = folder / "output"
    process = _spawn.Process(target=loop, args=(sessions, output, ready), daemon=True)
    process.start()
    try:
        assert ready.wait(20), f"{name} didn't start"
        yield Side(name, sessions, LinesProbe if loop is floor.commit_lines else TextProbe, output)
    finally:
        process.kill()
        process.join()


def _add_peers(sides: list[Side], folder: Path, work: Load, stack: ExitStack) -> list[str]:
    """Bring in the log daemons; a word on each that can't be had, or doesn't see its files."""
    notes = []
    for number, logger in enumerate(LOGGERS):
        with ExitStack() as own:
            home = folder / f"logger-{number}"
            try:
                said = own.enter_context(running(logger, home))
                side = Side(logger.name, home / "sessions", logger.probe, home / "output")
                _greet(side, work)
            except PeerError as error:
                notes.append(f"left out: {error}")
            except AssertionError as error:
                last = said.read_text("utf-8", "replace").strip().splitlines()[-1:]
                notes.append(f"left out: {logger.name}: {error}; {' '.join(last)}")
            else:
                sides.append(side)
                stack.push(own.pop_all())
    return notes


def _greet(side: Side, work: Load) -> None:
    """Let it see each writer's file once, so that a block measures appends to known files."""
    for number in range(work.writers):
        with open(work.path(side.folder, number), "ab", buffering=0) as file:
            file.write(encode(RECORDS[work.form]()))
    wait_for(lambda: side.probe.knows(side.output, work.writers), what=f"the first lines of {side.name}")


def _blocks(sides: int, seconds: float, block: float) -> list[Block]:
    """The sides by turns, every other round the other way about."""
    order = range(sides)
    begin = 0
    blocks = []
    for turn in range(max(1, round(seconds / block))):
        for side in reversed(order) if turn % 2 else order:
            blocks.append(Block(side, begin, begin + round(block * 1e9)))
            begin += round((block + _GAP_SECONDS) * 1e9)
    return blocks


def _run(sides: list[Side], work: Load, blocks: list[Block], poll: float) -> list[Seen]:
    count = work.writers + len(sides)
    with ProcessPoolExecutor(count, _spawn, _attend, (Start(count),)) as pool:
        folders = [side.folder for side in sides]
        probes = []
        for number, side in enumerate(sides):
            own = [block for block in blocks if block.side == number]
            probes.append(pool.submit(_probe, side, own, work, poll))
        writers = [pool.submit(_write, number, folders, blocks, work) for number in range(work.writers)]
        for writer in writers:
            writer.result()
        return [probe.result() for probe in probes]


def _write(number: int, folders: list[Path], blocks: list[Block], work: Load) -> None:
    """One writer: in each block its lines at random moments, evenly dense."""
    floor.sharpen_sleep()
    moments = random.Random(number)
    calls = [WRITERS[work.call](work.path(folder, number)) for folder in folders]
    record = RECORDS[work.form]
    for block in _start.shift(blocks):
        for tick in range(round(work.rate * (block.end - block.begin) / 1e9)):
            _sleep_until(block.begin + round((tick + moments.random()) / work.rate * 1e9))
            calls[block.side](record())


def _probe(side: Side, blocks: list[Block], work: Load, poll: float) -> Seen:
    """One side's eyes: within its blocks look each `poll` seconds, outside of them not at all."""
    floor.sharpen_sleep()
    probe = side.probe(side.output)
    probe.fresh()
    found = []
    busy = spent = 0.0
    for block in _start.shift(blocks):
        _sleep_until(block.begin)
        began, used = time.monotonic(), _processor_seconds()
        found.append(_look(probe, block, round(work.rate * (block.end - block.begin) / 1e9) * work.writers, poll))
        busy += _processor_seconds() - used
        spent += time.monotonic() - began
    return Seen(found, busy / spent)


def _look(probe: Probe, block: Block, expected: int, poll: float) -> list[Line]:
    lines: list[Line] = []
    deadline = block.end + round(_LATE_SECONDS * 1e9)
    while len(lines) < expected and time.monotonic_ns() < deadline:
        sent = probe.fresh()
        now = time.monotonic_ns()
        lines += [Line((moment - block.begin) / 1e9, (now - moment) / 1e6) for moment in sent]
        time.sleep(poll)
    return lines


def _sleep_until(moment: int) -> None:
    remaining = moment - time.monotonic_ns()
    if remaining > 0:
        time.sleep(remaining / 1e9)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
