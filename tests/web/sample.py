"""Logs of some weeks of work by made-up agents, as Claude Code and Codex CLI write theirs."""

from __future__ import annotations

import json
import random
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_DAY = 86400.0
_OPUS, _SONNET = "claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929"
_TASKS = (
    ("parser", "main", "Why does the parser reject a BOM in the middle of a file?"),
    ("parser", "fix/utf8", "Make the error name the byte offset, not the character"),
    ("harbour", "main", "Draw the tide table as SVG instead of PNG"),
    ("harbour", "tides", "The forecast is an hour late after the clocks change"),
    ("ledger-api", "main", "Add an index so that /accounts stays under 50 ms"),
    ("ledger-api", "retry", "Retry the webhook with backoff, and say so in the log"),
    ("atlas", "main", "Read GeoJSON of 2 GB without loading it whole"),
    ("atlas", "dark-mode", "Dark mode for the map's legend"),
)
_ASKED = "The test `test_late_lines` fails about once in fifty runs. Find out why, and mend it where it is wrong."
_THOUGHT = (
    "It fails only sometimes, so something races. The test writes two lines and waits for the second; if the reader"
    " wakes between the two writes, it sees half a line. I'll look at how the tail is held back."
)
_FOUND = """\
$ pytest tests/test_tail.py -q --count 200
FAILED tests/test_tail.py::test_late_lines[137] - AssertionError: assert ['a'] == ['a', 'b']
FAILED tests/test_tail.py::test_late_lines[161] - AssertionError: assert ['a'] == ['a', 'b']
2 failed, 198 passed in 31.40s
"""
_SOURCE = '''\
def whole_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """The lines that are complete, and what is left of the last one."""
    lines = data.split(b"\\n")
    return lines, b""
'''
_PATCH = '''\
*** Begin Patch
*** Update File: src/tail.py
@@ def whole_lines(data: bytes) -> tuple[list[bytes], bytes]:
     """The lines that are complete, and what is left of the last one."""
     lines = data.split(b"\\n")
-    return lines, b""
+    rest = lines.pop()
+    return lines, rest
*** End Patch
'''
_ANSWER = """\
The reader took an unfinished line for a whole one: `whole_lines` gave the tail back as if it ended there.

```python
lines = data.split(b"\\n")
rest = lines.pop()          # no newline yet: it is not a line
return lines, rest
```

What I did:
- **src/tail.py** keeps the rest until its newline has come
- **tests/test_tail.py** now writes a line in two pieces, which failed each time before

400 runs, no failure."""


def write(folder: Path, now: float) -> None:
    """Fill `folder/claude` and `folder/codex`; the last event is at `now`, epoch seconds."""
    rng = random.Random(7)
    for number in range(26):
        project, branch, title = _TASKS[number % len(_TASKS)]
        at = now - _DAY * (0.2 + number * 0.8 + rng.random() * 0.5)
        if number % 3:
            _claude(folder, project, branch, title, at, rng)
        else:
            _codex(folder, project, branch, title, at, rng, ended=number > 2)
    _mended(folder, now)


def _claude(folder: Path, project: str, branch: str, title: str, at: float, rng: random.Random) -> None:
    session = _Claude(project, branch, at, rng.choice((_OPUS, _OPUS, _SONNET)), rng)
    for _ in range(rng.randint(1, 5)):
        session.say(title)
        for _ in range(rng.randint(1, 6)):
            session.call(
                "Bash", {"command": rng.choice(("pytest -q", "git diff --stat", "rg -n TODO src"))}, "ok\n" * 9
            )
        session.answer("Done: see the diff.")
    session.write(folder)


def _codex(folder: Path, project: str, branch: str, title: str, at: float, rng: random.Random, *, ended: bool) -> None:
    thread = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    total = {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}

    def line(kind: str, payload: Record, after: float) -> Record:
        return {"timestamp": _iso(at + after), "type": kind, "payload": payload}

    meta = {"id": thread, "timestamp": _iso(at), "cwd": f"/home/ada/{project}", "git": {"branch": branch}}
    records = [
        line("session_meta", meta, 0),
        line("turn_context", {"model": "gpt-5.2-codex", "cwd": f"/home/ada/{project}"}, 0.1),
        line("event_msg", {"type": "task_started"}, 0.15),
        line("response_item", _said("user", "input_text", title), 0.2),
    ]
    for number in range(rng.randint(3, 30)):
        call = {"type": "function_call", "name": "exec_command", "call_id": f"c{number}"}
        arguments = json.dumps({"cmd": rng.choice(("cargo test", "ls -la src", "sed -n 1,80p src/lib.rs"))})
        total = {key: value + rng.randint(200, 9000) for key, value in total.items()}
        total["input_tokens"] += 9000
        info = {"total_token_usage": dict(total)}
        records += [
            line("response_item", {**call, "arguments": arguments}, number * 9 + 1),
            line(
                "response_item",
                {"type": "function_call_output", "call_id": f"c{number}", "output": "ok"},
                number * 9 + 3,
            ),
            line("event_msg", {"type": "token_count", "info": info}, number * 9 + 4),
        ]
    records.append(line("response_item", _said("assistant", "output_text", "All of it passes."), 400))
    if ended:
        records.append(line("event_msg", {"type": "task_complete"}, 401))
    _lines(folder / "codex" / f"rollout-2026-01-01T00-00-00-{thread}.jsonl", records)


def _said(role: str, kind: str, text: str) -> Record:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def _mended(folder: Path, now: float) -> None:
    """The session that the picture shows."""
    rng = random.Random(1)
    session = _Claude("tailer", "fix/late-lines", now - 190, _OPUS, rng, step=15)
    session.say(_ASKED)
    session.think(_THOUGHT)
    session.answer("I'll run it often enough to see it fail, then read the code that splits lines.", ends=False)
    session.call("Bash", {"command": "pytest tests/test_tail.py -q --count 200"}, _FOUND, failed=True)
    session.call("Read", {"file_path": "/home/ada/tailer/src/tail.py"}, _SOURCE)
    session.call("apply_patch", {"input": _PATCH}, "Success. Updated src/tail.py")
    session.call("Bash", {"command": "pytest tests/test_tail.py -q --count 400"}, "400 passed in 60.11s\n")
    session.answer(_ANSWER, ends=False)
    session.write(folder)


class _Claude:
    """One transcript, line by line."""

    def __init__(self, project: str, branch: str, at: float, model: str, rng: random.Random, step: float = 40) -> None:
        self._rng, self._at, self._step, self._model = rng, at, step, model
        self._session = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._records: list[Record] = []
        self._common = {"sessionId": self._session, "cwd": f"/home/ada/{project}", "gitBranch": branch}

    def say(self, text: str) -> None:
        self._add("user", {"role": "user", "content": text})

    def think(self, text: str) -> None:
        self._assistant({"type": "thinking", "thinking": text, "signature": ""}, "tool_use")

    def answer(self, text: str, *, ends: bool = True) -> None:
        self._assistant({"type": "text", "text": text}, "end_turn" if ends else "tool_use")

    def call(self, tool: str, given: Record, gave: str, *, failed: bool = False) -> None:
        name = f"toolu_{len(self._records)}"
        self._assistant({"type": "tool_use", "id": name, "name": tool, "input": given}, "tool_use")
        block = {"type": "tool_result", "tool_use_id": name, "content": gave, "is_error": failed}
        self._add("user", {"role": "user", "content": [block]})

    def write(self, folder: Path) -> None:
        _lines(folder / "claude" / f"{self._session}.jsonl", self._records)

    def _assistant(self, block: Record, stop: str) -> None:
        number, rng = len(self._records), self._rng
        usage = {
            "input_tokens": rng.randint(4, 900),
            "cache_read_input_tokens": rng.randint(9_000, 90_000),
            "cache_creation_input_tokens": rng.randint(200, 20_000),
            "output_tokens": rng.randint(80, 4_000),
        }
        message = {"id": f"m{number}", "role": "assistant", "model": self._model, "content": [block], "usage": usage}
        self._add("assistant", {**message, "stop_reason": stop}, requestId=f"{self._session}{number}")

    def _add(self, kind: str, message: Record, **more: object) -> None:
        self._at += self._rng.random() * self._step
        head = {"type": kind, "uuid": f"u{len(self._records)}", "timestamp": _iso(self._at)}
        self._records.append({**head, **self._common, **more, "message": message})


def _lines(path: Path, records: list[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
