"""Files that are recreated, replaced, cut, copied and written in pieces, beside a running daemon or a stopped one."""

from __future__ import annotations

import gzip
import json
import os
import time
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Sessions
from tests.files import copytruncate, create_at_inode, rotate, shift

HEAD = "h" * 1100  # more than what a generation is known by


def lines(*messages: object) -> bytes:
    return b"".join(json.dumps({"message": str(message)}).encode() + b"\n" for message in messages)


def pause(seconds: float) -> None:
    """Let the daemon have so much time."""
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began >= seconds)


@pytest.mark.scenario(1)
def test_recreated_at_the_same_inode_while_stopped(daemon: Daemon, sessions: Sessions) -> None:
    """Stopped, a log is deleted and another one made at its inode: the old rows stay, all new ones arrive."""
    daemon.start()
    log = sessions.append("s", "one", "two")
    sessions.arrive()
    assert daemon.stop() == 0
    inode = log.stat().st_ino
    log.unlink()
    create_at_inode(log, inode, lines("three", "four", "five", "six"))
    sessions.written["s"] += ["three", "four", "five", "six"]
    daemon.start()
    sessions.prove()


@pytest.mark.scenario(2)
def test_replaced_by_a_shorter_one_that_grows(daemon: Daemon, sessions: Sessions) -> None:
    """A shorter log takes a log's place, and grows past the old watermark, with and without a look in between."""
    daemon.start()
    for turn, looked_at in enumerate([True, False] * 5):
        log = sessions.append("s", *(f"{turn} old {number}" for number in range(10)))
        sessions.arrive()
        fresh = log.with_name("fresh")
        fresh.write_bytes(lines(f"{turn} new"))
        fresh.replace(log)
        sessions.written["s"].append(f"{turn} new")
        if looked_at:
            sessions.arrive()
        sessions.append("s", *(f"{turn} grown {number}" for number in range(30)))
        sessions.arrive()
    sessions.prove()


@pytest.mark.scenario(3)
def test_files_with_the_same_beginning(daemon: Daemon, sessions: Sessions) -> None:
    """100 logs share their first 4 KiB, two of each are alike to the last byte: each is a session of its own."""
    daemon.start()
    for number in range(100):
        sessions.append(f"s{number}", "x" * 4096, number // 2)
    sessions.arrive()
    for number in range(100):
        sessions.append(f"s{number}", "and on")
    sessions.prove()


@pytest.mark.scenario(4)
def test_copied_and_cut_while_stopped(daemon: Daemon, sessions: Sessions) -> None:
    """Stopped: copied, cut, begun anew with the same first KiB, and grown past the old watermark."""
    daemon.start()
    log = sessions.append("s", HEAD, "one")
    sessions.arrive()
    assert daemon.stop() == 0
    copytruncate(log)
    sessions.append("s", HEAD, "two", "three", "four")
    daemon.start()
    sessions.prove()


@pytest.mark.scenario(4)
@pytest.mark.parametrize("rounds", [15, pytest.param(200, marks=pytest.mark.long)])
def test_copied_and_cut_at_any_phase_of_a_look(daemon: Daemon, sessions: Sessions, rounds: int) -> None:
    """Running: the same again and again, each time a millisecond later after the last append."""
    daemon.start()
    for phase in range(rounds):
        log = sessions.append("s", HEAD, *(f"{phase} {number}" for number in range(20)))
        pause(phase % 40 / 1000)
        shift(log)
        copytruncate(log)
    sessions.append("s", HEAD, "last")
    sessions.prove()


@pytest.mark.scenario(4)
@pytest.mark.parametrize("rounds", [10, pytest.param(300, marks=pytest.mark.long)])
def test_cut_and_filled_at_once(daemon: Daemon, sessions: Sessions, rounds: int) -> None:
    """Running: ten lines cut off and a hundred written within a millisecond, without a copy."""
    daemon.start()
    for turn in range(rounds):
        log = sessions.append("s", *(f"{turn} old {number}" for number in range(10)))
        sessions.arrive()
        new = [f"{turn} new {number}" for number in range(100)]
        log.write_bytes(lines(*new))
        sessions.written["s"] += new
        sessions.arrive()
    sessions.prove()


@pytest.mark.scenario(5)
def test_half_a_line_before_a_stop_and_the_rest_after(daemon: Daemon, sessions: Sessions) -> None:
    """SIGTERM between the halves of a line: exactly one row."""
    daemon.start()
    log = sessions.append("s", "before")
    sessions.arrive()
    line = lines("whole")
    with log.open("ab", buffering=0) as file:
        file.write(line[:8])
        assert daemon.stop() == 0
        file.write(line[8:])
    sessions.written["s"].append("whole")
    daemon.start()
    sessions.prove()


@pytest.mark.scenario(5)
def test_one_byte_a_write(daemon: Daemon, sessions: Sessions) -> None:
    """However a line comes, its row has the offset and the length of its bytes."""
    daemon.start()
    log = sessions.append("s", "first")
    messages = [f"line {number}" for number in range(10)]
    with log.open("ab", buffering=0) as file:
        for byte in lines(*messages):
            file.write(bytes([byte]))
            daemon.scalar("SELECT 1")
    sessions.written["s"] += messages
    sessions.prove()
    query = "SELECT group_concat(\"offset\" || ' ' || length, ',') FROM events"
    ends = accumulate((len(lines(message)) for message in sessions.written["s"]), initial=0)
    assert daemon.scalar(query) == ",".join(f"{start} {end - start - 1}" for start, end in pairwise(ends))


@pytest.mark.scenario(5)
@pytest.mark.parametrize("seconds", [0.02, pytest.param(1.0, marks=pytest.mark.long)])
def test_a_long_line_in_pieces(daemon: Daemon, sessions: Sessions, seconds: float) -> None:
    """A line of 2 MB in 64 pieces, with time between them: one row."""
    daemon.start()
    message = "x" * 2_000_000
    line = lines(message)
    size = len(line) // 63
    with (sessions.log_dir / "s.ndjson").open("ab", buffering=0) as file:
        for place in range(0, len(line), size):
            file.write(line[place : place + size])
            pause(seconds)
    sessions.written["s"] = [message]
    sessions.prove()


@pytest.mark.scenario(13)
def test_rotated_and_packed_in_the_watched_folder(daemon: Daemon, sessions: Sessions) -> None:
    """a, then a.1, then a.1.gz: each line once."""
    daemon.start()
    for turn in range(5):
        log = sessions.append("a", *(f"{turn} {number}" for number in range(20)))
        if turn % 2:
            sessions.arrive()
        rotate(log)
        sessions.append("a", f"{turn} live")
        sessions.arrive()
        old = Path(f"{log}.1")
        with gzip.open(f"{old}.gz", "wb") as packed:
            packed.write(old.read_bytes())
        os.rename(f"{old}.gz", f"{log}.{turn}.old.gz")
        old.unlink()
    sessions.append("a", "end")
    sessions.prove()
