"""Scenario 7: whatever stands in a line, the lines around it arrive and its bytes come back."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import succeed
from tests.daemon import Daemon, wait_for

pytestmark = pytest.mark.scenario(7)

DEEP = 10_000
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ODD: dict[str, tuple[bytes, str | None]] = {
    "not JSON": (b"hello", "json"),
    "cut short": (b'{"role":"user","mess', "json"),
    "not an object": (b"[1,2]", "object"),
    "a string": (b'"x"', "object"),
    "empty": (b"", "blank"),
    "white space": (b" \t ", "blank"),
    "not UTF-8": (b'{"message":"\xff\xfe"}', "encoding"),
    "not UTF-8 beside the message": (b'{"message":"m","k":"\x80"}', "encoding"),
    "NULs": (b"\0" * 100, "nul"),
    "a NUL within": (b'{"message":"a\0b"}', "json"),
    "NaN": (b'{"message":NaN}', "json"),
    "deep lists": (b'{"k":' + b"[" * DEEP + b"]" * DEEP + b"}", "nesting"),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nesting"),
    "a lone surrogate": (b'{"message":"\\ud83d"}', None),
    "10^400": (b'{"message":"m","n":1e400}', None),
    "a long integer": (b'{"message":"m","n":' + b"9" * 400 + b"}", None),
    "twice the same key": (b'{"message":"a","message":"b"}', None),
    "a carriage return": (b'{"message":"m"}\r', None),
    "a wrong time": (b'{"ts":"yesterday","message":"m"}', None),
    "a time beyond all": (b'{"ts":1e300,"message":"m"}', None),
    "a message of another type": (b'{"message":{"a":[1,null]},"role":7}', None),
    "every byte": (bytes(byte for byte in range(256) if byte != 10), "encoding"),
}


def good(number: int) -> bytes:
    return json.dumps({"role": "user", "message": f"good {number}"}).encode() + b"\n"


@pytest.fixture
def take(daemon: Daemon, log_dir: Path, database: Path) -> Callable[[bytes], list[dict[str, object]]]:
    """Have the daemon take a file of these bytes, verify and restore it; its rows come back."""

    def take(content: bytes) -> list[dict[str, object]]:
        (log_dir / "s.ndjson").write_bytes(content)
        daemon.start()
        assert daemon.stop() == 0
        succeed(f"codex-ingestd verify --deep --db '{database}'", log_dir)
        succeed(f"codex-ingestd restore s --db '{database}' -o restored", log_dir)
        assert (log_dir / "restored").read_bytes() == content
        rows: list[dict[str, object]] = json.loads(succeed(f"codex-logs --db '{database}' --format json", log_dir))
        return rows

    return take


def test_odd_lines_between_good_ones(
    take: Callable[[bytes], list[dict[str, object]]], database: Path, log_dir: Path
) -> None:
    """Each odd line is one reject with its reason, or one row; every good line around it is a row, at its number."""
    content = b"".join(good(number) + line + b"\n" for number, (line, _) in enumerate(ODD.values()))
    rows = take(content)
    numbers = {row["seq"] for row in rows if str(row["message"]).startswith("good")}
    assert numbers == set(range(1, 2 * len(ODD), 2))
    query = "SELECT seq, reason FROM ingest_rejects ORDER BY seq"
    rejects = succeed(f"sqlite3 -readonly '{database}' '{query}'", log_dir).split()
    reasons = {int(seq): reason for seq, reason in (reject.split("|") for reject in rejects)}
    seen = {name: reasons.get(2 * number) for number, name in enumerate(ODD, 1)}
    assert seen == {name: reason for name, (_, reason) in ODD.items()}
    assert len(rows) == 2 * len(ODD) - len(reasons)


def test_byte_order_mark_at_the_start(take: Callable[[bytes], list[dict[str, object]]]) -> None:
    """A BOM before the first object is no part of it."""
    assert len(take(b"\xef\xbb\xbf" + good(1) + good(2))) == 2


LONG = 60 << 20
PLAIN = b"what the agent wrote, over and over "
LONG_LINES: dict[str, Callable[[], bytes]] = {
    "an emoji in it": lambda: b'{"message":"%s\xf0\x9f\x98\x80"}' % (PLAIN * (LONG // len(PLAIN))),
    "escapes": lambda: b'{"message":"%s"}' % (b'said \\"\\u00e9\\n\\ud83d\\ude00\\"' * (LONG // 33)),
    "little to compress": lambda: b'{"message":"%s"}' % base64.b64encode(os.urandom(LONG * 3 // 4)),
    "a list for a message": lambda: b'{"message":[%s{}]}' % (b"[]," * (LONG // 3)),
    "beside the message": lambda: b'{"message":"m","payload":{"text":"%s"}}' % (PLAIN * (LONG // len(PLAIN))),
    "glued": lambda: b'{"message":"%s"}' % (PLAIN * (LONG // 2 // len(PLAIN))) * 2,
}


def peak(daemon: Daemon) -> int:
    """The most memory, in bytes, that the daemon has needed so far."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


@needs_proc
@pytest.mark.scenario(6)
@pytest.mark.parametrize(
    "kind",
    [kind if number == 0 else pytest.param(kind, marks=pytest.mark.long) for number, kind in enumerate(LONG_LINES)],
)
@pytest.mark.parametrize("ending", [b"\n" + good(2), pytest.param(b"", marks=pytest.mark.long)], ids=["ended", "open"])
def test_a_long_line_is_a_row_in_bounded_memory(daemon: Daemon, log_dir: Path, kind: str, ending: bytes) -> None:
    """A line of 60 MiB is taken whole; the daemon never needs more than 200 MB for it."""
    line = LONG_LINES[kind]()
    daemon.start()
    (log_dir / "s.ndjson").write_bytes(line + ending)
    rows = (2 if kind == "glued" else 1) + bool(ending)
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM events") == rows, what="the rows")
    assert peak(daemon) < 200_000_000
    assert daemon.stop() == 0
    assert daemon.scalar("SELECT max(end_offset - start_offset) FROM segments") == 1 << 20
    assert daemon.scalar("SELECT count(*) FROM events WHERE typeof(message) || typeof(meta) NOT LIKE '%blob%'") == rows
    succeed(f"codex-ingestd verify --deep --db '{daemon.database}'", log_dir)
    succeed(f"codex-ingestd restore s --db '{daemon.database}' -o restored", log_dir)
    assert (log_dir / "restored").read_bytes() == line + ending


@needs_proc
@pytest.mark.scenario(6)
@pytest.mark.parametrize("size", [100 << 20, pytest.param(1 << 30, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["hole", "line"])
def test_larger_than_any_line(daemon: Daemon, log_dir: Path, size: int, kind: str) -> None:
    """A hole of NULs, or a line over the limit, is passed over in bounded memory; what follows arrives."""
    daemon.start()
    with (log_dir / "s.ndjson").open("wb") as log:
        log.write(good(1))
        if kind == "hole":
            log.truncate(size)
            log.seek(size)
        else:
            for _ in range(size >> 20):
                log.write(b"x" * (1 << 20))
        log.write(b"\n" + good(3))
    rows = daemon.wait_for_rows(2, seconds=60)
    assert peak(daemon) < 60_000_000
    assert [(row.seq, row.message) for row in rows] == [(1, "good 1"), (3, "good 3")]
    assert daemon.scalar("SELECT count(*) FROM ingest_rejects") == 1


@needs_proc
def test_very_short_lines_are_taken_in_bounded_memory(daemon: Daemon, log_dir: Path) -> None:
    """What is made of a line takes more memory than a line of two bytes: a batch has a bounded number of them."""
    daemon.start()
    (log_dir / "s.ndjson").write_bytes(b"{}\n" * 100_000 + b"\n" * 300_000)
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM ingest_rejects") == 300_000)
    assert peak(daemon) < 80_000_000


@needs_proc
@pytest.mark.scenario(6)
def test_an_oversize_line_alone_is_read_once(daemon: Daemon, log_dir: Path) -> None:
    """A file that is one line over the limit: one reject, one warning, and nothing of it is read again."""
    daemon.start()
    (log_dir / "s.ndjson").write_bytes(b"x" * (65 << 20) + b"\n")
    wait_for(lambda: daemon.scalar("SELECT max(length) FROM ingest_rejects") == 65 << 20)
    before, began = has_read(daemon), time.monotonic()
    os.utime(log_dir / "s.ndjson")
    wait_for(lambda: time.monotonic() - began > 1, what="a second look")
    assert has_read(daemon) - before < 1 << 20
    assert len(daemon.told("lines rejected")) == 1


def has_read(daemon: Daemon) -> int:
    """The bytes that the daemon has read so far, from whatever."""
    assert daemon.process is not None
    return int(Path(f"/proc/{daemon.process.pid}/io").read_text().split("rchar: ")[1].split()[0])
