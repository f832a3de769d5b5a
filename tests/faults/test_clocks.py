"""Clocks that are wrong: of records, of files."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions

pytestmark = pytest.mark.scenario(18)


def test_time_stamps_change_no_order(daemon: Daemon, sessions: Sessions) -> None:
    """Time stamps missing, wrong, in other zones, set back an hour: every line is a row, in the file's order."""
    stamps = {
        "2026-11-01T12:00:00Z": 1793534400.0,
        "2026-11-01T11:00:00Z": 1793530800.0,  # the clock was set back
        "2026-11-01T12:00:00-05:00": 1793552400.0,
        "2026-11-01T12:00:00.123456+05:30": 1793514600.123456,
        "2026-11-01T12:00:00": 1793534400.0,
        "2026-11-01": 1793491200.0,
        1793534400: 1793534400.0,
        1793534400123: 1793534400.123,
        "yesterday": None,
        "": None,
        "2026-13-45T99:99:99Z": None,
        True: None,
        1e300: None,
    }
    daemon.start()
    with (sessions.log_dir / "s.ndjson").open("w") as log:
        for stamp in stamps:
            log.write(json.dumps({"ts": stamp, "message": repr(stamp)}) + "\n")
        log.write('{"message":"none at all"}\n')
    rows = daemon.wait_for_rows(len(stamps) + 1, "s")
    assert [row.seq for row in rows] == list(range(1, len(stamps) + 2))
    assert [row.message for row in rows] == [*map(repr, stamps), "none at all"]
    found = [row.ts for row in rows]
    assert found == [pytest.approx(value) if value is not None else None for value in [*stamps.values(), None]]


@pytest.mark.parametrize("hours", [-1, 24 * 365 * 20])
def test_a_file_from_another_time_is_read(daemon: Daemon, sessions: Sessions, hours: int) -> None:
    """A file whose time of change is set back or lies in the future: appends and an open tail arrive all the same."""
    daemon.start()
    moment = time.time() + hours * 3600
    for number in range(3):
        os.utime(sessions.append("s", number), (moment, moment))
        sessions.arrive(2)
    log = sessions.log_dir / "s.ndjson"
    with log.open("ab") as file:
        file.write(b'{"message":"open"}')
    os.utime(log, (moment, moment))
    sessions.written["s"].append("open")
    sessions.arrive(5)
    wait_for(lambda: daemon.status()["lag"] == 0)
