"""Scenario 7: whatever stands in a line, the lines around it arrive and its bytes come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import succeed

DEEP = 10_000
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
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
def take(log_dir: Path, database: Path) -> Callable[[bytes], list[dict[str, object]]]:
    """Import a file of these bytes, verify and restore it; its rows come back."""

    def take(content: bytes) -> list[dict[str, object]]:
        (log_dir / "s.ndjson").write_bytes(content)
        succeed(f"codex-ingestd once --watch '{log_dir}' --db '{database}'", log_dir)
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


@pytest.mark.parametrize("size", [100 << 20, pytest.param(1 << 30, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["hole", "line"])
def test_larger_than_any_line(log_dir: Path, database: Path, size: int, kind: str) -> None:
    """A hole of NULs, or a line over the limit, is passed over in bounded memory; what follows arrives."""
    with (log_dir / "s.ndjson").open("wb") as log:
        log.write(good(1))
        if kind == "hole":
            log.truncate(size)
            log.seek(size)
        else:
            for _ in range(size >> 20):
                log.write(b"x" * (1 << 20))
        log.write(b"\n" + good(3))
    command = [sys.executable, "-m", "codex.logging.import_ndjson", "--all", "--json", "--log-dir", str(log_dir)]
    process = subprocess.Popen([*command, "--db", str(database)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    summary = json.loads(process.stdout.read())
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, summary["rows"], summary["rejects"]) == (0, 2, 1)
    assert usage.ru_maxrss * RSS_UNIT < 200 << 20
    rows = json.loads(succeed(f"codex-logs --db '{database}' --format json", log_dir))
    assert [(row["seq"], row["message"]) for row in rows] == [(1, "good 1"), (3, "good 3")]
