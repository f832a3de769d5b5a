"""Orders to a terminal, in every name and text that a log can bring: shown by every command, obeyed by none."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import BIN, succeed

ORDERS = "\x1b]0;owned\x07\x9b31m\u202egnp\x7f\u2028z"
FORGED = f"s{ORDERS}\nerror: forged"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
OURS = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\r")  # colour and progress
RECORDS = [
    {"type": "session_start", "session_id": ORDERS, "cwd": f"/w{ORDERS}", "argv": [ORDERS]},
    {"role": "user", "message": f"hello {ORDERS}", "tool": ORDERS, "model": ORDERS, "title": ORDERS},
    {"role": "assistant", "message": f"error: AKIAZ7QXJ4WDN2RVT5KM {ORDERS}"},
    {"type": "session_end", "summary": ORDERS, "exit_code": 1},
]
CODEX = [
    {"type": "session_meta", "payload": {"id": f"c{ORDERS}", "cwd": f"/w{ORDERS}", "git": {"branch": ORDERS}}},
    {"type": "turn_context", "payload": {"model": f"m{ORDERS}", "cwd": ORDERS}},
    {
        "type": "event_msg",
        "payload": {
            "type": "token_count",
            "info": {"last_token_usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}},
        },
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hostile logs, by name and content, and their database."""
    work = tmp_path_factory.mktemp("work")
    logs = work / ".codex" / "sessions"
    logs.mkdir(parents=True)
    (logs / f"{FORGED}.ndjson").write_text("".join(json.dumps(record) + "\n" for record in RECORDS) + f'{{"a{ORDERS}\n')
    (logs / f"c{ORDERS}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in CODEX))
    (logs / f"l{ORDERS}.ndjson").symlink_to("/nowhere")
    succeed("git init -q . && codex-import-ndjson --all", work)
    return work


def on_terminal(command: str, folder: Path) -> str:
    """What a command prints to a terminal, without our own colour; `$S` is a session, `$H` are orders."""
    variables = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "S": FORGED, "H": ORDERS, "PAGER": "cat"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, **variables, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    with suppress(OSError):  # EIO: nobody has the other end any more
        while piece := os.read(ours, 1 << 16):
            said += piece
    os.close(ours)
    process.wait(60)
    return OURS.sub(b"", said).decode("utf-8", "replace")


@pytest.mark.parametrize(
    "command",
    [
        "codex-import-ndjson --all",
        "codex-logs --tail 9 --show-meta",
        "codex-logs tail -n 9",
        "codex-logs sessions",
        'codex-logs show "$S"',
        'codex-logs show "x$H"',
        'codex-logs search "$H("',
        "codex-logs errors",
        "codex-logs usage",
        "codex-logs secrets",
        'codex-logs sql "SELECT session_id, path FROM streams"',
        'codex-logs sql "SELECT $H"',
        'codex-logs "no$H"',
        'codex-logs sessions --db "no$H.db"',
        'codex-logs pack "$S" -o "p$H.zip"',
        'codex-logs export "$S" -o "o$H.md"',
        'codex-logs erase "$S" --dry-run',
        "codex-ingestd verify",
        "codex-ingestd verify --json",
        "codex-ingestd status",
        "codex-ingestd status --json",
        "codex-ingestd doctor --no-append",
        'codex-ingestd config --watch "w$H"',
        'codex-ingestd validate "x$H"',
        "codex-ingestd purge --days 0 --sources --dry-run",
        'codex-ingestd restore "x$H" --output y',
        "codex-ingestd checkpoint",
        "codex-ingestd finalize",
        "codex-ingestd once",
    ],
)
def test_no_order_reaches_a_terminal(command: str, folder: Path) -> None:
    """No control character but our own colour, no mark that reorders text, no line that a name begins."""
    said = on_terminal(command, folder)
    assert "Traceback" not in said
    assert [line for line in said.split("\n") if OBEYED.search(line)] == []
    assert [line for line in said.split("\n") if line.startswith("error: forged")] == []
