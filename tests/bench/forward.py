"""Forwarding into PostgreSQL: one forwarder beside bare COPY of the same rows; and live rows beside a forwarder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg

from codex.logging import import_all
from codex.logging.writer import Appender
from codex_ingestd.forward.postgres.schema import migrate
from codex_ingestd.forward.postgres.sink import EVENTS
from tests.bench.corpus import make_corpus
from tests.bench.figures import Report, load, paired, spread
from tests.bench.probes import DaemonProbe
from tests.bench.writers import RECORDS
from tests.daemon import Daemon, wait_for
from tests.postgres import Server, rows, running

_LINE_BYTES = 520
_COPY_ROWS = 20_000
_SIZE = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('codex_sink.events')"
_DAYS = "SELECT DISTINCT floor(at / 86400) * 86400 FROM codex_sink.events"
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_WRITERS, _RATE = 4, 200
# A process of its own, timed without Python's start; its memory is the most that it ever had.
_FORWARD = """\
import json, sys, time
from codex_ingestd.forward.postgres import sink
from codex_ingestd.cli import main
from codex_ingestd.health.metrics import peak_bytes
sink.PostgresSink.tend = lambda self: False  # what is searched is measured apart
began = time.perf_counter()
code = main(["forward", "--once", "--json", "--db", sys.argv[1]])
print(json.dumps({"seconds": time.perf_counter() - began, "bytes": peak_bytes(), "code": code}))
"""


class _Run(NamedTuple):
    """One way of getting all rows into the server, once: seconds; bytes of memory, 0 where that isn't its own."""

    seconds: float
    bytes: int = 0


def measure(folder: Path, *, events: int, sessions: int, rounds: int) -> Report:
    """Forward all of a record, and COPY the same rows, by turns."""
    before = load()
    source, database = folder / "sessions", folder / "logs.db"
    source.mkdir()
    make_corpus(source, "native", events * _LINE_BYTES, sessions)
    count = sum(import_all(source, database).values())
    with running() as server:
        runs: dict[str, list[_Run]] = {}
        first = _made(server)
        _forward(database, first)
        size = rows(first, _SIZE)[0][0]
        days = [float(day) for (day,) in rows(first, _DAYS)]
        indexed, took, words = _index(first, min(count, 20_000))
        pieces = _pieces(first, count)
        for turn in range(rounds):
            ways = [("COPY", True), ("COPY, no key", False), ("forward", None)]
            for name, keyed in ways if turn % 2 == 0 else reversed(ways):
                url = _made(server)
                run = _forward(database, url) if keyed is None else _copy(url, pieces, days if keyed else None)
                runs.setdefault(name, []).append(run)
    floor = [run.seconds for run in runs["COPY"]]
    report_rows: list[dict[str, object]] = []
    for name in ("COPY, no key", "COPY", "forward"):
        seconds = [run.seconds for run in runs[name]]
        middle = spread(seconds).p50
        report_rows.append(
            {
                "by": name,
                "events/s": round(count / middle),
                "rate / COPY": 1 / paired(seconds, floor),
                "seconds for a million": middle / count * 1e6,
                "peak RSS MiB": max(run.bytes for run in runs[name]) / (1 << 20) or "–",
            }
        )
    notes = [
        f"COPY: the rows ready in binary form, {_COPY_ROWS} in a transaction, into the same table, and one without key",
        f"at the server an event takes {int(size) / count:.0f} bytes; without fsync, on this machine",
        f"what is searched is made behind that: {indexed / took:.0f} events/s, {words / (indexed or 1):.0f} bytes each",
        f"before: {before}; after: {load()}",
    ]
    return Report(f"forwarding {count} events in {sessions} sessions", report_rows, notes)


def _made(server: Server) -> str:
    """A new database with the schema."""
    url = server.create()
    with psycopg.connect(url, autocommit=True) as connection:
        migrate(connection)
    return url


def _forward(database: Path, url: str) -> _Run:
    """All of it, by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _FORWARD, str(database)],
        env={**os.environ, "CODEX_FORWARD_TO": url},
        stdout=subprocess.PIPE,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 0
    return _Run(told["seconds"], told["bytes"])


def _index(url: str, count: int) -> tuple[int, float, int]:
    """Have the server index so many events: how many it took, seconds, bytes."""
    began = time.perf_counter()
    indexed = int(rows(url, "SELECT codex_sink.index_words(%s)", count)[0][0])
    took = time.perf_counter() - began
    return indexed, took, int(rows(url, "SELECT pg_total_relation_size('codex_sink.words')")[0][0])


def _pieces(url: str, count: int) -> list[bytes]:
    """The rows that are there, as COPY takes them."""
    made = []
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for start in range(0, count, _COPY_ROWS):
            query = (
                f"COPY (SELECT {EVENTS.columns} FROM codex_sink.events ORDER BY id LIMIT {_COPY_ROWS} OFFSET {start})"
                " TO STDOUT (FORMAT BINARY)"
            )
            with cursor.copy(query.encode()) as copy:
                made.append(b"".join(copy))
    return made


def _copy(url: str, pieces: list[bytes], days: list[float] | None) -> _Run:
    """Put them into the table, with partitions for these days; or into one like it without key and partitions."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = EVENTS.name if days is not None else "public.bare"
        if days is None:
            connection.execute(f"CREATE TABLE {name} (LIKE {EVENTS.name} INCLUDING GENERATED)".encode())
        for day in days or ():
            connection.execute("SELECT codex_sink.make_partition(%s)", (day,))
        began = time.perf_counter()
        for piece in pieces:
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY {name} ({EVENTS.columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy,
            ):
                copy.write(piece)
        return _Run(time.perf_counter() - began)


def measure_live(folder: Path, *, events: int, seconds: float, block: float) -> Report:
    """Append to a daemon's folder by turns while its forwarder catches up and while that one is stopped."""
    before = load()
    sessions, backlog = folder / "sessions", folder / "backlog"
    for made in (sessions, backlog):
        made.mkdir()
    make_corpus(backlog, "native", events * _LINE_BYTES, 20)
    daemon = Daemon(sessions, folder / "session_logs.db")
    import_all(backlog, daemon.database)
    late: dict[str, list[float]] = {"without": [], "while it catches up": []}
    with ExitStack() as stack:
        server = stack.enter_context(running(under=("chrt", "--idle", "0"), parent=_MEMORY))
        writers = [stack.enter_context(Appender(sessions / f"writer-{number}.ndjson")) for number in range(_WRITERS)]
        for writer in writers:
            writer.append(RECORDS["native"]())
        daemon.start()
        stack.callback(daemon.kill)
        wait_for(lambda: DaemonProbe.knows(daemon.database, _WRITERS), 60, "the first lines")
        probe = DaemonProbe(daemon.database)
        probe.fresh()
        forwarder = _Forwarder(daemon.database, server)
        stack.callback(forwarder.stop)
        for turn in range(max(2, round(seconds / block))):
            name = list(late)[turn % 2]
            if turn % 2:
                forwarder.go()
            late[name] += _append(writers, probe, block)
            forwarder.pause()
        sent = forwarder.sent()
    floor = spread(late["without"])
    report_rows: list[dict[str, object]] = []
    for name, found in late.items():
        mine = spread(found)
        report_rows.append(
            {"forwarding": name, "lines": len(found), "p50 ms": mine.p50, "p90 ms": mine.p90, "p99 ms": mine.p99,
             "worst ms": mine.most, "p50 / without": mine.p50 / floor.p50, "p99 / without": mine.p99 / floor.p99}
        )  # fmt: skip
    notes = [
        f"{_WRITERS} files get {_RATE} lines/s in all, by turns of {block:g} s; {sent} events were sent meanwhile",
        "the forwarder gives way as a daemon has it; the server more so, on a disk of its own: in memory",
        f"before: {before}; after: {load()}",
    ]
    return Report("live rows beside a forwarder", report_rows, notes)


class _Forwarder:
    """A forwarder as the daemon has it, held and let go; each time that it has all sent, another sink begins."""

    def __init__(self, database: Path, server: Server) -> None:
        self._database = database
        self._server = server
        self._urls: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def go(self) -> None:
        """Let it work, with much to do."""
        if self._process is None:
            self._urls.append(_made(self._server))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "codex_ingestd.forward.command", "--attended", f"--db={self._database}"],
                env={**os.environ, "CODEX_FORWARD_TO": self._urls[-1]},
                stdin=subprocess.PIPE,
            )
            wait_for(lambda: rows(self._urls[-1], "SELECT count(*) > 0 FROM codex_sink.generations")[0][0], 60, "rows")
        self._process.send_signal(signal.SIGCONT)

    def pause(self) -> None:
        """Let it stand still; one that is nearly done is done with."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def sent(self) -> int:
        """Events that it brought."""
        return sum(int(rows(url, "SELECT count(*) FROM codex_sink.events")[0][0]) for url in self._urls)

    def stop(self) -> None:
        """Leave nothing of it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def _append(writers: list[Appender], probe: DaemonProbe, seconds: float) -> list[float]:
    """Append so long, to one file after the other; of each line the ms until it was seen."""
    late: list[float] = []
    probe.fresh()
    for number in range(round(seconds * _RATE)):
        until = time.monotonic() + 1 / _RATE
        writers[number % len(writers)].append(RECORDS["native"]())
        while time.monotonic() < until:
            late += [(time.monotonic_ns() - moment) / 1e6 for moment in probe.fresh()]
            time.sleep(0.0001)
    return late
