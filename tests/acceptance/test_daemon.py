"""The daemon as a whole: real sessions, many writers, kills, signals, and what it says of itself."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from codex.logging import append_ndjson
from codex.logging.store.connection import open_reader
from tests.commands import BIN, ROOT, UNPRIVILEGED, shell
from tests.daemon import Daemon, wait_for

SAMPLES = ROOT.parent / "shared" / "samples" / "claude"
GROWTH = [SAMPLES / f"entire__growth-3a782158-{number}.jsonl" for number in range(1, 6)]
WRITER = """
import sys
from codex.logging import append_ndjson
folder, writer, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    append_ndjson(f"{folder}/shared-{number % 3}.ndjson", {"message": f"{writer} {number}", "padding": "x" * 150})
"""


def line(message: str) -> bytes:
    return json.dumps({"ts": "2026-01-02T03:04:05Z", "role": "user", "message": message}).encode() + b"\n"


def spans(database: Path) -> list[tuple[int, int, int, int]]:
    """(offset, length, seq, part) of every row and every reject, by offset; a reject's part is -1."""
    query = """
    SELECT "offset", length, seq, part FROM events UNION ALL
    SELECT "offset", length, seq, -1 FROM ingest_rejects WHERE reason <> 'blank' ORDER BY 1"""
    with closing(open_reader(str(database))) as connection:
        return [tuple(row) for row in connection.execute(query)]  # type: ignore[misc]


@pytest.mark.skipif(not GROWTH[0].exists(), reason="the recorded sessions are not here")
def test_a_growing_session_is_replayed_exactly(daemon: Daemon, log_dir: Path) -> None:
    """A real session in pieces of any size, with two SIGKILLs: each line once, in order, at its own number."""
    choose = random.Random(20)
    real, whole = log_dir / "real.ndjson", GROWTH[-1].read_bytes()
    assert all(whole.startswith(path.read_bytes()) for path in GROWTH)
    daemon.start()
    real.write_bytes(GROWTH[0].read_bytes())
    size = real.stat().st_size
    kills = sorted(choose.sample(range(size, len(whole)), 2))
    while size < len(whole):
        end = min(len(whole), size + int(10 ** choose.uniform(0, 5)))
        with real.open("ab", buffering=0) as log:
            log.write(whole[size:end])
        size = end
        if choose.random() < 0.3:
            taken = whole.rfind(b"\n", 0, size) + 1
            wait_for(lambda taken=taken: (daemon.scalar('SELECT max("offset") FROM generations') or 0) >= taken)
        if kills and size >= kills[0]:
            kills.pop(0)
            daemon.kill()
            daemon.start()
    wait_for(lambda: daemon.scalar('SELECT max("offset") FROM generations') == len(whole))
    found = spans(daemon.database)
    assert all(seq == whole.count(b"\n", 0, offset) + 1 for offset, _, seq, _ in found)
    assert all(offset + length <= later for (offset, length, *_), (later, *_) in pairwise(found))
    assert {seq for _, _, seq, _ in found} == set(range(1, len(whole.splitlines()) + 1))
    left = bytearray(whole)
    for offset, length, _, _ in found:
        left[offset : offset + length] = b" " * length
    assert not left.strip(), "bytes that are neither row nor reject"
    assert daemon.stop() == 0


def test_many_writers_one_row_each(daemon: Daemon, log_dir: Path) -> None:
    """8 writers to 3 files that rotate, daemon and importer both at work: each record is one row, each line whole."""
    count = 5000
    daemon.start()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(log_dir), str(writer), str(count)],
            env={**os.environ, "NDJSON_MAX_BYTES": "1000000"},
        )
        for writer in range(8)
    ]
    importing = [str(BIN / "codex-import-ndjson"), "--all", "--log-dir", str(log_dir), "--db", str(daemon.database)]
    while any(writer.poll() is None for writer in writers):
        subprocess.run(importing, check=True, stdout=subprocess.DEVNULL)
    assert all(writer.returncode == 0 for writer in writers)
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == 8 * count)
    assert daemon.stop() == 0
    files = list(log_dir.glob("*.ndjson*"))
    assert len(files) > 3, "nothing was rotated"
    assert all("message" in json.loads(row) for path in files for row in path.read_bytes().splitlines())
    seen = defaultdict(list)
    for session in range(3):
        rows = daemon.rows(f"shared-{session}")
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        for row in rows:
            writer, number = map(int, str(row.message).split())
            seen[writer, session].append(number)
    assert seen == {(w, s): list(range(s, count, 3)) for w in range(8) for s in range(3)}
    assert daemon.scalar("SELECT count(*) FROM ingest_rejects") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_well(daemon: Daemon, log_dir: Path, number: int) -> None:
    """What is in the files when the signal comes is in the database when it has ended, with exit code 0."""
    daemon.start()
    daemon.freeze()
    for session in range(20):
        (log_dir / f"s{session}.ndjson").write_bytes(line("last words") * 50)
    daemon.send(number)
    daemon.send(signal.SIGCONT)
    assert daemon.stop(number=number) == 0
    assert len(daemon.rows()) == 1000
    assert not list(log_dir.glob(".codex*")), "the sentinel is left behind"


def test_an_abort_tells_where_each_thread_stands(daemon: Daemon, log_dir: Path) -> None:
    """SIGABRT, as systemd's watchdog sends it to a loop that stands still, leaves the threads' frames in the log."""
    daemon.start()
    assert daemon.stop(number=signal.SIGABRT) == -signal.SIGABRT
    said = daemon.log.read_text("utf-8")
    assert "Fatal Python error: Aborted" in said
    assert "in _serve" in said, "no word of the loop"


def test_status_with_and_without_a_daemon(daemon: Daemon, log_dir: Path) -> None:
    """Status tells offsets, sizes, lag and rejects; with a daemon its pid, without one what is not yet taken."""
    daemon.start()
    wait_for(lambda: daemon.status()["watcher"] == "events")
    log = log_dir / "s.ndjson"
    log.write_bytes(line("one") + b"no json\n" + line("two"))
    daemon.wait_for_rows(2)
    assert daemon.process is not None
    pid = daemon.process.pid
    status = daemon.status()
    assert (status["running"], status["pid"], status["watcher"]) == (True, pid, "events")
    [stream] = status["streams"]
    assert (stream["session_id"], stream["state"], stream["error"]) == ("s", "live", None)
    assert (stream["offset"], stream["size"], stream["lag"]) == (log.stat().st_size, log.stat().st_size, 0)
    assert (stream["lines"], stream["rejects"], status["rejects"]) == (3, 1, 1)
    assert daemon.stop() == 0
    with log.open("ab") as file:
        file.write(line("three"))
    status = daemon.status()
    assert (status["running"], status["pid"], status["watcher"]) == (False, None, "none")
    assert (status["lag"], status["streams"][0]["lag"]) == (len(line("three")), len(line("three")))


def test_status_shows_why_a_stream_stands_still(daemon: Daemon, log_dir: Path) -> None:
    """A file that may not be read: its error and lag in status, gone again once it may be."""
    log = log_dir / "secret.ndjson"
    log.write_bytes(line("one"))
    log.chmod(0)
    daemon.start(under=UNPRIVILEGED.split())
    wait_for(lambda: daemon.told("can't read now"))
    [stream] = daemon.status()["streams"]
    assert "Permission denied" in stream["error"]
    assert stream["lag"] == len(line("one"))
    log.chmod(0o600)
    daemon.wait_for_rows(1)
    wait_for(lambda: daemon.status()["streams"][0]["error"] is None)
    assert len(daemon.told("can't read now")) == len(daemon.told("reads again")) == 1


def test_every_log_line_is_json(daemon: Daemon, log_dir: Path) -> None:
    """Off a terminal each line on standard error is one JSON object with time, level, logger and message."""
    daemon.start("--log-level", "debug")
    (log_dir / "line\nbreak \udcff.ndjson").write_bytes(line("odd name"))
    (log_dir / "s.ndjson").write_bytes(line("one") + b"bad\n")
    daemon.wait_for_rows(1, "s")
    assert daemon.stop() == 0
    records = [json.loads(text) for text in daemon.log.read_text("utf-8").splitlines()]
    assert all({"ts", "level", "logger", "message"} <= record.keys() for record in records)
    assert {record["message"] for record in records} >= {
        "starting",
        "watching",
        "ingested",
        "lines rejected",
        "stopped",
    }


def test_a_root_may_be_a_link_and_lie_within_another(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """A root named by a symbolic link is watched, not polled; one named twice over is read once."""
    link = tmp_path / "link"
    link.symlink_to(log_dir)
    (log_dir / "sub").mkdir()
    daemon.log_dir = link
    daemon.start("--watch", str(log_dir), "--watch", str(log_dir / "sub"))
    (log_dir / "sub" / "s.ndjson").write_bytes(line("one"))
    daemon.wait_for_rows(1, seconds=5)
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 3 or daemon.told("went silent"), 5)
    status = daemon.status()
    assert (status["watcher"], len(status["streams"]), len(daemon.rows())) == ("events", 1, 1)
    assert not daemon.told("went silent")


@pytest.mark.long
def test_ten_thousand_files_cost_next_to_nothing(daemon: Daemon, log_dir: Path) -> None:
    """With 10,000 known files it is ready soon, and idles, verifying apart, at next to no CPU time and at 80 MB.

    On a quiet machine that is a second, and 0.2 % of a core: tests/bench measures it. Here others may be at work.
    """
    for number in range(10_000):
        (log_dir / f"s{number}.ndjson").write_bytes(line("one"))
    daemon.start()
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == 10_000, 60)
    daemon.stop()
    began = time.monotonic()
    daemon.start("--verify-rate", "0")
    assert time.monotonic() - began < 5.0
    assert daemon.process is not None
    folder = Path(f"/proc/{daemon.process.pid}")

    def used() -> float:
        fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 20, 30, "the first look at what could be merged")
    first, began = used(), time.monotonic()
    wait_for(lambda: time.monotonic() - began > 60, 70)
    share = (used() - first) / (time.monotonic() - began)
    resident = next(row for row in (folder / "status").read_text().splitlines() if row.startswith("VmRSS"))
    assert share <= 0.005, f"{share:.2%} of a core"
    assert int(resident.split()[1]) <= 80_000, resident


@pytest.mark.parametrize("command", ["run", "once", "rebuild", "purge --days 0 --rows"])
def test_test_mode_lets_nothing_begin(command: str, tmp_path: Path) -> None:
    """What does nothing but write refuses to with TEST_MODE=1, by exit code 2 and a hint, and leaves no trace."""
    result = shell(f"timeout 20 codex-ingestd {command}", tmp_path, {"TEST_MODE": "1"})
    assert (result.returncode, "Unset TEST_MODE" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_records_of_the_library_arrive(daemon: Daemon, log_dir: Path) -> None:
    """What `append_ndjson` writes is a committed row within 50 ms, with its own time and the rest in `meta`."""
    daemon.start()
    record = {"ts": "2026-01-02T03:04:05.5-05:00", "role": "tool", "message": "hello", "exit": 0}
    began = time.monotonic()
    append_ndjson(log_dir / "s.ndjson", record)
    [row] = daemon.wait_for_rows(1)
    assert time.monotonic() - began < 1.0
    assert (row.ts, row.role, row.message) == (1767341045.5, "tool", "hello")
    assert json.loads(str(row.meta)) == {"exit": 0}
