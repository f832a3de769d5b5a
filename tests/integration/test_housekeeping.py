"""What the daemon does when it is idle: bounded steps, a bounded rate, and nothing at all once all is done."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from codex.logging.store.connection import scalar
from codex_ingestd.housekeeping import ROUND_SECONDS, Housekeeping
from tests.importer import Importer
from tests.integration.conftest import lines

MIB = 1 << 20


class Clock:
    """Seconds that pass only when they are let to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A monotonic clock, which the system's clock goes along with."""
    clock, began = Clock(), time.time()
    monkeypatch.setattr(time, "time", lambda: began + clock.now - 1000.0)
    return clock


def run(housekeeping: Housekeeping, clock: Clock, seconds: float) -> int:
    """Do what is due within that time; the count of steps."""
    end, steps = clock.now + seconds, 0
    while clock.now + housekeeping.wait(clock.now) <= end:
        clock.now += housekeeping.wait(clock.now)
        housekeeping.step()
        steps += 1
        assert steps < 20_000, "it never rests"
    clock.now = end
    return steps


def noted(importer: Importer, key: str) -> object:
    """What it left in the database."""
    value = scalar(importer.store.connection, "SELECT value FROM meta WHERE key = ?", (key,))
    return None if value is None else json.loads(value)


def verified(importer: Importer) -> dict[str, float]:
    """How far this round of verifying is, and when it began."""
    place = noted(importer, "verified")
    assert isinstance(place, dict)
    return place


def test_what_rests_is_merged(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """Ten seconds after the last commit."""
    for number in range(1, 301):
        (log_dir / "s.ndjson").write_bytes(lines(1, number))
        importer.take(final=False)
    connection = importer.store.connection
    housekeeping = Housekeeping(importer.store, clock, 0)
    run(housekeeping, clock, 9)
    assert scalar(connection, "SELECT count(*) FROM segments") == 300
    run(housekeeping, clock, 30)
    assert scalar(connection, "SELECT count(*) FROM segments") == 1


def test_many_free_pages_are_given_back(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """In steps, until few are left: those are for the next rows."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 5000, 1000))
    importer.take()
    connection = importer.store.connection
    pages = connection.pragma("page_count")
    connection.execute("DELETE FROM events")
    run(Housekeeping(importer.store, clock, 0), clock, 60)
    assert connection.pragma("freelist_count") <= 16
    assert connection.pragma("page_count") < pages / 2


def test_it_rests_once_all_is_done(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """Then each ten seconds two looks at a counter, and no statement; a new commit wakes it."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 400))
    importer.take()
    housekeeping = Housekeeping(importer.store, clock)
    run(housekeeping, clock, 60)
    statements: list[str] = []
    importer.store.connection.exec_trace = lambda cursor, sql, bindings: statements.append(sql) or True
    assert run(housekeeping, clock, 300) <= 61
    assert {sql.split()[0].lower() for sql in statements} <= {"pragma"}
    path.write_bytes(lines(1, 800))
    importer.take()
    importer.store.connection.exec_trace = None
    run(housekeeping, clock, 30)
    assert scalar(importer.store.connection, "SELECT count(*) FROM segments") == 1


def test_verifying_keeps_to_its_rate(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """So many bytes a minute, and everything once a day."""
    for number in range(20):
        (log_dir / f"{number}.ndjson").write_bytes(lines(1, 1000, 1000))
        importer.take(f"{number}.ndjson")
    housekeeping = Housekeeping(importer.store, clock, 2 * MIB)
    run(housekeeping, clock, 301)
    assert 5 <= verified(importer)["after"] <= 10
    run(housekeeping, clock, 1000)
    assert verified(importer)["after"] == 20
    began = verified(importer)["began"]
    run(housekeeping, clock, ROUND_SECONDS)
    assert verified(importer)["began"] >= began + ROUND_SECONDS


def test_a_restart_goes_on_where_it_was(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """Generations that this day's round has seen aren't looked at again."""
    for number in range(300):
        (log_dir / f"{number}.ndjson").write_bytes(lines(1, 1))
        importer.take(f"{number}.ndjson")
    run(Housekeeping(importer.store, clock), clock, 75)
    after = verified(importer)["after"]
    assert 0 < after < 300
    statements: list[object] = []
    housekeeping = Housekeeping(importer.store, clock)
    importer.store.connection.exec_trace = lambda cursor, sql, bindings: statements.append(bindings) or True
    run(housekeeping, clock, 11)
    assert (after,) in statements
    assert (0,) not in statements


def test_a_finding_is_told_once_and_kept(
    importer: Importer, log_dir: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in the database until a later look finds the generation sound again."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 100))
    importer.take()
    path.write_bytes(lines(1, 50) + lines(61, 110))
    for _ in range(2):
        run(Housekeeping(importer.store, clock), clock, ROUND_SECONDS + 60)
    (finding,) = noted(importer, "findings")  # type: ignore[misc]
    assert (finding["kind"], finding["session_id"], finding["offset"]) == (
        "source",
        "s",
        5000 + lines(51, 51).index(b"51"),
    )
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in told] == [f"verify: {finding['detail']}"]
    path.write_bytes(lines(1, 100))
    run(Housekeeping(importer.store, clock), clock, ROUND_SECONDS + 60)
    assert noted(importer, "findings") == []


def test_what_the_ledger_is_about_to_note_is_no_finding(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """A file that was truncated a moment ago is looked at again before anything is said."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 100))
    importer.take()
    housekeeping = Housekeeping(importer.store, clock)
    path.write_bytes(lines(101, 103))
    run(housekeeping, clock, 12)
    importer.take()
    run(housekeeping, clock, 60)
    assert verified(importer)["after"] == 2
    assert noted(importer, "findings") is None


def test_findings_are_bounded(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """However many there are."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 1000))
    importer.take()
    importer.store.connection.execute("DELETE FROM events WHERE seq % 2")
    run(Housekeeping(importer.store, clock), clock, 240)
    assert len(noted(importer, "findings")) == 100  # type: ignore[arg-type]


def test_a_database_that_takes_nothing_is_waited_for(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """Another program holds it: nothing is raised, and it is tried again after a minute."""
    (log_dir / "s.ndjson").write_bytes(lines(1, 400))
    importer.take()
    importer.store.connection.set_busy_timeout(0)
    housekeeping = Housekeeping(importer.store, clock)
    other = apsw.Connection(importer.store.path)
    other.execute("BEGIN IMMEDIATE")
    run(housekeeping, clock, 59)
    other.execute("ROLLBACK")
    assert scalar(importer.store.connection, "SELECT count(*) FROM segments") == 10
    run(housekeeping, clock, 120)
    assert scalar(importer.store.connection, "SELECT count(*) FROM segments") == 1


def test_steps_are_short(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """Small commits, large ones, many rows: no step holds up the next line for long."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 60_000))
    importer.take()
    (log_dir / "t.ndjson").write_bytes(lines(1, 300, 50_000))
    importer.take("t.ndjson")
    housekeeping = Housekeeping(importer.store, clock, 1 << 30)
    took: list[float] = []
    _time_steps(housekeeping, took)
    run(housekeeping, clock, 300)
    assert scalar(importer.store.connection, "SELECT count(*) FROM segments") <= 30
    assert noted(importer, "verified") is not None
    assert sorted(took)[-len(took) // 100 - 1] < 0.05, sorted(took)[-5:]


def _time_steps(housekeeping: Housekeeping, took: list[float]) -> None:
    """Have each step's seconds noted."""
    step: Callable[[], None] = housekeeping.step

    def timed() -> None:
        began = time.perf_counter()
        step()
        took.append(time.perf_counter() - began)

    housekeeping.step = timed  # type: ignore[method-assign]


def test_what_was_committed_is_indexed(importer: Importer, log_dir: Path, clock: Clock) -> None:
    """In idle time, in pieces, and what comes later as well."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 3000))
    importer.take()
    housekeeping = Housekeeping(importer.store, clock, 0)
    count = "SELECT count(*) FROM search_index_docsize"
    run(housekeeping, clock, 5)
    assert scalar(importer.store.connection, count) == 3000
    path.write_bytes(lines(1, 3001))
    importer.take()
    run(housekeeping, clock, 20)
    assert scalar(importer.store.connection, count) == 3001
