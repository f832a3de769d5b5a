"""What is no log under a log's name: told of once, and nobody else is held up."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest

from codex.logging.import_ndjson import import_streams, stream_locations
from codex.logging.ingest.engine import Engine, Progress
from codex.logging.ingest.sources import Location, locate, scan
from codex.logging.store.sqlite import Store
from codex_ingestd.intake import Intake
from tests.commands import UNPRIVILEGED
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions

pytestmark = pytest.mark.scenario(14)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: reading it would never end
    except PermissionError:
        pytest.skip("may not make devices here")


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def make_link_loop(path: Path) -> None:
    path.symlink_to(path)


def make_link_out(path: Path) -> None:
    outside = path.parents[1] / "outside.txt"
    outside.write_bytes(b'{"message":"not ours"}\n')
    path.symlink_to(outside)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("live", [False, True], ids=["at start", "live"])
def test_odd_files_are_skipped_with_one_warning_each(daemon: Daemon, sessions: Sessions, live: bool) -> None:
    """Pipe, socket, device, links and a folder named x.ndjson, there at the start or made later; others flow."""
    makers = [make_fifo, make_socket, make_device, make_dangling_link, make_link_loop, make_link_out, make_folder]
    odd = [sessions.log_dir / f"{make.__name__}.ndjson" for make in makers]
    if live:
        daemon.start()
    for make, path in zip(makers, odd, strict=True):
        make(path)
    if not live:
        daemon.start()
    sessions.append("s", "one")
    sessions.arrive(5)
    assert daemon.stop() == 0
    told = [(record["path"], record["level"]) for record in daemon.told("skipped: it is")]
    assert sorted(told) == sorted((str(path), "warning") for path in odd)


def test_a_forbidden_file_is_told_of_once(daemon: Daemon, sessions: Sessions) -> None:
    """A file of mode 000: one warning, though it is tried again; the others flow."""
    log = sessions.append("secret", "one")
    log.chmod(0)
    daemon.start(under=UNPRIVILEGED.split())
    del sessions.written["secret"]
    for number in range(3):
        os.utime(log)
        sessions.append("s", number)
        sessions.arrive(5)
    assert daemon.stop() == 0
    assert len(daemon.told("can't read now", path=str(log))) == 1


def test_a_name_that_is_not_utf8(daemon: Daemon, sessions: Sessions) -> None:
    """Its lines are rows, or it is told of once; either way no defect, and the others flow."""
    (sessions.log_dir / "odd-\udcff.ndjson").write_bytes(b'{"message":"odd"}\n')
    daemon.start()
    sessions.append("s", "one")
    wait_for(lambda: daemon.rows("s"))
    assert not daemon.told("a defect")
    assert len(daemon.rows()) == 2 or len(daemon.told("skipped")) == 1


def test_an_event_and_a_sweep_agree(sessions: Sessions) -> None:
    """What a sweep passes over is no log when an event tells of it either."""
    for folder in ("", "sub/", "named.ndjson/", "named.ndjson.1/", ".hidden/", "sub/.hidden/", "sub/x.ndjson/deep/"):
        (sessions.log_dir / folder).mkdir(exist_ok=True, parents=True)
        for name in ("s.ndjson", "s.ndjson.2", ".s.ndjson", "s.txt", ".ndjson"):
            (sessions.log_dir / folder / name).touch()
    swept = {found.location for found in scan(str(sessions.log_dir)) if found.facts is not None}
    told = {locate(str(sessions.log_dir), str(path)) for path in sessions.log_dir.rglob("*") if path.is_file()}
    assert told - {None} == swept
    assert {os.path.join(*place.stream) for place in swept} == {
        str(sessions.log_dir / name) for name in ("s.ndjson", "sub/s.ndjson")
    }


def test_one_defect_stops_no_other_file(store: Store, sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    """A file that shows a defect of the program: its traceback is told once, it is tried later, the others flow."""
    intake = Intake(store, time.monotonic)
    ingest = intake.engine.ingest

    def ingest_all_but_one(location: Location, *, final: bool = False) -> Progress:
        if location.session_id == "bad":
            raise ZeroDivisionError
        return ingest(location, final=final)

    intake.engine.ingest = ingest_all_but_one  # type: ignore[method-assign]
    for turn in range(3):
        for name in ("bad", "good"):
            location = locate(str(sessions.log_dir), str(sessions.append(name, turn)))
            assert location is not None
            intake.mark(location, 0.0)
            intake.turn()
    del sessions.written["bad"]
    assert sessions.rows() == {"good": [(1, "0"), (2, "1"), (3, "2")]}
    assert [record.message for record in caplog.records if record.exc_info] == ["a defect"]
    assert 0 < (intake.wait(time.monotonic()) or 0) <= 4


def test_one_defect_stops_no_other_import(store: Store, sessions: Sessions) -> None:
    """Where no daemon runs it is that file's failure alone as well, and says where to look."""
    engine = Engine(store, lock_seconds=5.0)
    ingest = engine.ingest

    def ingest_all_but_one(location: Location, *, final: bool = False) -> Progress:
        if location.session_id == "bad":
            raise ZeroDivisionError
        return ingest(location, final=final)

    engine.ingest = ingest_all_but_one  # type: ignore[method-assign]
    for name in ("bad", "good"):
        sessions.append(name, 1)
    results = {one.session_id: one for one in import_streams(engine, stream_locations(str(sessions.log_dir)))}
    assert (results["good"].rows, results["good"].error) == (1, None)
    assert "this is a defect: CODEX_DEBUG=1" in (results["bad"].error or "")


def test_a_file_of_bad_lines_does_not_fill_the_log(daemon: Daemon, sessions: Sessions) -> None:
    """Bad lines without end are told of at once, and then by their sum each minute; status has their number."""
    daemon.start()
    with (sessions.log_dir / "bad.ndjson").open("ab", buffering=0) as log:
        for number in range(1, 51):
            log.write(b"no json\n")
            wait_for(lambda number=number: daemon.scalar("SELECT count(*) FROM ingest_rejects") == number)
    assert daemon.status()["rejects"] == 50
    assert [record["rejects"] for record in daemon.told("lines rejected")] == [1]
