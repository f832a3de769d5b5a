"""Append -> committed row that another process sees.

Each side (a daemon, the floor) has a folder. The same writers append to one side's folder after the other's, in
blocks; a probe per side watches for each line and subtracts the time that the line carries from its own.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple, Protocol

from codex.logging import append_ndjson
from codex.logging.store.connection import open_reader, scalar
from codex.logging.writer import Appender
from tests.bench import floor
from tests.bench.corpus import encode, make_sessions
from tests.bench.figures import Report, load, of_checkout, paired, spread
from tests.daemon import Daemon, wait_for

Call = Callable[[dict[str, object]], object]
WRITERS: dict[str, Callable[[Path], Call]] = {
    "append_ndjson": lambda path: partial(append_ndjson, path),
    "appender": lambda path: Appender(path).append,
    "write": lambda path: _raw_writer(path),
}
_PROCESS_SECONDS = 0.4
_GAP_SECONDS = 0.3
_LATE_SECONDS = 3.0
_PADDING = "the quick brown fox jumps over the lazy dog " * 8
_SENT = re.compile(rb'"(?:message|text)":"(\d+) ')
_spawn = multiprocessing.get_context("spawn")


class Block(NamedTuple):
    """A stretch of time in which one side is written to; monotonic nanoseconds."""

    side: int
    begin: int
    end: int


class Load(NamedTuple):
    """What the writers do: so many, so many lines a second each, by which call of WRITERS, of which format."""

    writers: int
    rate: float
    call: str
    form: str


class Side(NamedTuple):
    """One contender: its folder, and how a probe in another process is made."""

    name: str
    folder: Path
    probe: Callable[[Path], Probe]
    output: Path


class Probe(Protocol):
    """Watches one side's output."""

    def fresh(self) -> list[int]:
        """The times that the lines carry which became visible since the last call."""
        ...


class DaemonProbe:
    """Reads the daemon's rows, generation by generation."""

    def __init__(self, database: Path) -> None:
        self._connection = open_reader(str(database))
        self._version = -1
        self._last: dict[int, int] = {}

    def fresh(self) -> list[int]:
        """As Probe."""
        execute = self._connection.execute
        version = scalar(self._connection, "PRAGMA data_version")
        if version == self._version:
            return []
        self._version = version
        if not self._last:
            own = "SELECT g.id FROM generations AS g JOIN streams AS s ON s.id = g.stream WHERE s.path LIKE 'writer-%'"
            self._last = {number: (number + 1 << 40) - 1 for (number,) in execute(own)}
            for number, end in self._last.items():
                query = "SELECT max(id) FROM events WHERE id BETWEEN ? AND ?"
                self._last[number] = scalar(self._connection, query, (number << 40, end))
            return []
        sent = []
        for number, last in self._last.items():
            query = "SELECT id, message FROM events WHERE id > ? AND id < ?"
            for row, message in execute(query, (last, number + 1 << 40)):
                sent.append(int(message.partition(" ")[0]))
                self._last[number] = row
        return sent


class FloorProbe:
    """Reads the rows of `floor.commit_lines`."""

    def __init__(self, database: Path) -> None:
        self._connection = open_reader(str(database))
        self._version = -1
        self._last = scalar(self._connection, "SELECT max(id) FROM rows")

    def fresh(self) -> list[int]:
        """As Probe."""
        execute = self._connection.execute
        version = scalar(self._connection, "PRAGMA data_version")
        if version == self._version:
            return []
        self._version = version
        sent = []
        for row, line in execute("SELECT id, CAST(line AS BLOB) FROM rows WHERE id > ?", (self._last,)):
            sent.append(_sent(line))
            self._last = row
        return sent


class TextProbe:
    """Reads the text file of `floor.copy_lines`."""

    def __init__(self, text: Path) -> None:
        self._descriptor = os.open(text, os.O_RDONLY)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self._begun = b""

    def fresh(self) -> list[int]:
        """As Probe."""
        *lines, self._begun = (self._begun + os.read(self._descriptor, 1 << 20)).split(b"\n")
        return [_sent(line) for line in lines]


class Seen(NamedTuple):
    """What a probe saw: per block the latencies in ms, and the share of a core that looking took."""

    blocks: list[list[float]]
    share: float


def measure(
    folder: Path, work: Load, *, seconds: float, block: float, files: Sequence[int], against: str | None, poll: float
) -> Report:
    """Run the daemons (one for each count in `files`, and with `against` another checkout's) beside the floor."""
    before = load()
    with ExitStack() as stack:
        sides = [stack.enter_context(_daemon(folder / f"files-{count}", count)) for count in files]
        if against is not None:
            sides.append(stack.enter_context(_daemon(folder / "against", files[0], against)))
        if sys.platform == "linux":
            sides.append(stack.enter_context(_floor(folder / "floor", "inotify + commit", floor.commit_lines)))
            sides.append(stack.enter_context(_floor(folder / "copy", "inotify + text copy", floor.copy_lines)))
        _greet(sides, work)
        seen = _run(sides, work, _blocks(len(sides), work.writers, seconds, block), poll)
    return _report(sides, seen, work, block, before)


def _report(sides: list[Side], seen: list[Seen], work: Load, block: float, before: str) -> Report:
    base = next((number for number, side in enumerate(sides) if side.probe is FloorProbe), 0)
    rows = []
    for side, mine in zip(sides, seen, strict=True):
        every = spread([latency for latencies in mine.blocks for latency in latencies])
        pairs = [paired([spread(b)[k] for b in mine.blocks], [spread(b)[k] for b in seen[base].blocks]) for k in (0, 2)]
        expected = round(work.rate * block) * work.writers * len(mine.blocks)
        rows.append(
            {
                "side": side.name,
                "p50 / floor": pairs[0],
                "p99 / floor": pairs[1],
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
        f"before: {before}; after: {load()}",
    ]
    return Report(title, rows, notes)


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
        yield Side(name, sessions, FloorProbe if loop is floor.commit_lines else TextProbe, output)
    finally:
        process.kill()
        process.join()


def _greet(sides: list[Side], work: Load) -> None:
    """Let every side see each writer's file once, so that a block measures appends to known files."""
    for side in sides:
        for number in range(work.writers):
            with open(_path(side.folder, number, work), "ab", buffering=0) as file:
                file.write(encode(RECORDS[work.form]()))
        if side.probe is DaemonProbe:
            wait_for(partial(_knows, side.output, work.writers), what="the writers' first rows")


def _blocks(sides: int, writers: int, seconds: float, block: float) -> list[Block]:
    """The sides by turns, every other round the other way about, after the time that the processes need to start."""
    order = range(sides)
    now = time.monotonic_ns() + round((1.0 + _PROCESS_SECONDS * (writers + sides)) * 1e9)
    blocks = []
    for turn in range(max(1, round(seconds / block))):
        for side in reversed(order) if turn % 2 else order:
            blocks.append(Block(side, now, now + round(block * 1e9)))
            now += round((block + _GAP_SECONDS) * 1e9)
    return blocks


def _run(sides: list[Side], work: Load, blocks: list[Block], poll: float) -> list[Seen]:
    with ProcessPoolExecutor(work.writers + len(sides), mp_context=_spawn) as pool:
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
    calls = [WRITERS[work.call](_path(folder, number, work)) for folder in folders]
    record = RECORDS[work.form]
    assert time.monotonic_ns() < blocks[0].begin, "the writers started late"
    for block in blocks:
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
    for block in blocks:
        _sleep_until(block.begin)
        began, used = time.monotonic(), _processor_seconds()
        found.append(_look(probe, block, round(work.rate * (block.end - block.begin) / 1e9) * work.writers, poll))
        busy += _processor_seconds() - used
        spent += time.monotonic() - began
    return Seen(found, busy / spent)


def _look(probe: Probe, block: Block, expected: int, poll: float) -> list[float]:
    latencies: list[float] = []
    deadline = block.end + round(_LATE_SECONDS * 1e9)
    while len(latencies) < expected and time.monotonic_ns() < deadline:
        sent = probe.fresh()
        now = time.monotonic_ns()
        latencies += [(now - moment) / 1e6 for moment in sent]
        time.sleep(poll)
    return latencies


def _native() -> dict[str, object]:
    """A record of about 500 bytes whose message begins with the moment at which it was made."""
    record: dict[str, object] = {"ts": "2026-01-31T09:00:00.000Z", "type": "message", "role": "assistant"}
    record["message"] = f"{time.monotonic_ns()} {_PADDING}"
    return record


def _claude() -> dict[str, object]:
    """The same as a line of a transcript, about 1 KB long, that tells of a call's tokens."""
    now = time.monotonic_ns()
    usage = {"input_tokens": 3, "cache_read_input_tokens": 40_000, "output_tokens": 200}
    content = [{"type": "text", "text": f"{now} {_PADDING}"}]
    message = {"id": f"msg_{now}", "role": "assistant", "model": "m", "content": content, "usage": usage}
    about = {"cwd": "/work", "gitBranch": "main", "timestamp": "2026-01-31T09:00:00.000Z", "isSidechain": False}
    ids = {"uuid": f"u-{now}", "parentUuid": f"p-{now}", "sessionId": "s", "requestId": f"req_{now}"}
    return {"type": "assistant", **ids, **about, "message": message}


RECORDS: dict[str, Callable[[], dict[str, object]]] = {"native": _native, "claude": _claude}


def _sent(line: bytes) -> int:
    match = _SENT.search(line)
    assert match is not None
    return int(match[1])


def _raw_writer(path: Path) -> Call:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return lambda record: os.write(descriptor, encode(record))


def _path(folder: Path, number: int, work: Load) -> Path:
    return folder / f"writer-{number}.{'ndjson' if work.form == 'native' else 'jsonl'}"


def _sleep_until(moment: int) -> None:
    remaining = moment - time.monotonic_ns()
    if remaining > 0:
        time.sleep(remaining / 1e9)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _knows(database: Path, writers: int) -> bool:
    with closing(open_reader(str(database))) as connection:
        return bool(scalar(connection, "SELECT count(*) FROM streams WHERE path LIKE 'writer-%'") == writers)
