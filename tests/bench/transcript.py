"""Lines as Claude Code writes them: turns of a person, calls of its model, and what its tools gave back."""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

LONGEST = 961_000
_TURN = 20
_CALLS = 4
_MODEL = "claude-opus-4-5-20251101"


def transcript_length(rng: random.Random) -> int:
    """Bytes of a line as in real transcripts: half of them over 1 KB, one in a hundred over 51 KB, at most 961 KB."""
    return min(LONGEST, max(200, round(rng.lognormvariate(6.957, 1.67))))


def transcript_records(rng: random.Random, text: str) -> Iterator[dict[str, Any]]:
    """The records of one session, without end; messages are cut out of `text`."""
    session = _Session(rng, text)
    while True:
        yield from session.turn()


class _Session:
    """What the lines of a session share, and how each kind of them looks."""

    def __init__(self, rng: random.Random, text: str) -> None:
        self._rng = rng
        self._text = text
        self._session = self._uuid()
        self._last: str | None = None
        self._seconds = 0

    def turn(self) -> Iterator[dict[str, Any]]:
        """A prompt, some calls with their results, and an answer. The lengths of all are drawn together.

        The longest go to what tools gave back, the shortest to what is bookkeeping, as in real ones.
        """
        rng = self._rng
        lengths = sorted(transcript_length(rng) for _ in range(_TURN))
        short, small, spoken, long = lengths[:3], lengths[3:6], lengths[6:15], lengths[15:]
        for some in (short, spoken, long):
            rng.shuffle(some)
        yield self._snapshot(short[0])
        yield self._line("user", short[1], message={"role": "user", "content": ""})
        for number in range(_CALLS):
            call = {"id": self._id("msg_"), "requestId": self._id("req_"), "usage": self._usage()}
            if number < 3:
                yield self._thinking(call, spoken.pop())
            if number == 0:
                yield self._assistant(call, spoken.pop(), {"type": "text", "text": ""})
            tool = self._id("toolu_")
            command = {"command": "", "description": "Look at it"}
            yield self._assistant(
                call, spoken.pop(), {"type": "tool_use", "id": tool, "name": "Bash", "input": command}
            )
            yield self._progress(tool, small.pop() if small else long.pop())
            yield self._result(tool, long.pop())
        call = {"id": self._id("msg_"), "requestId": self._id("req_"), "usage": self._usage()}
        yield self._assistant(call, spoken.pop(), {"type": "text", "text": ""}, "end_turn")
        yield self._line("system", short[2], subtype="turn_duration", durationMs=rng.randint(1000, 90_000))

    def _line(self, kind: str, length: int, **fields: object) -> dict[str, Any]:
        """A record with what every line carries; each empty text in it is filled so that all have that length."""
        self._seconds += self._rng.randint(0, 9)
        day, second = divmod(self._seconds, 86_400)
        own = self._uuid()
        record = {
            "parentUuid": self._last,
            "isSidechain": False,
            "userType": "external",
            "cwd": "/home/dev/work/project",
            "sessionId": self._session,
            "version": "2.1.33",
            "gitBranch": "main",
            "type": kind,
            **fields,
            "uuid": own,
            "timestamp": f"2026-01-{day % 28 + 1:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z",
        }
        self._last = own
        bare = json.dumps(record, separators=(",", ":"))
        empty = bare.count('""')
        if not empty:
            return record
        # A line break, or a quotation mark, is two bytes in JSON.
        room = max(12, round((length - len(bare)) / empty * 0.95))
        filled = _fill(record, self._words(room))
        assert isinstance(filled, dict)
        return filled

    def _assistant(
        self, call: dict[str, Any], length: int, block: dict[str, Any], ended: str | None = None
    ) -> dict[str, Any]:
        """One block of what the model said; all lines of a call repeat its id and its usage."""
        message = {"model": _MODEL, "id": call["id"], "type": "message", "role": "assistant", "content": [block]}
        message |= {"stop_reason": ended, "stop_sequence": None, "usage": call["usage"]}
        return self._line("assistant", length, message=message, requestId=call["requestId"])

    def _thinking(self, call: dict[str, Any], length: int) -> dict[str, Any]:
        """A third of what it holds is a signature, which doesn't compress."""
        signature = base64.b64encode(self._rng.randbytes(max(150, (length - 1000) // 4))).decode()
        return self._assistant(call, length, {"type": "thinking", "thinking": "", "signature": signature})

    def _progress(self, tool: str, length: int) -> dict[str, Any]:
        data = {"type": "bash_progress", "output": "", "elapsedTimeSeconds": 2, "totalLines": 0}
        return self._line("progress", length, data=data, toolUseID="bash-progress-0", parentToolUseID=tool)

    def _result(self, tool: str, length: int) -> dict[str, Any]:
        """What a tool gave back: once for the model, and once for whoever shows it."""
        block = {"tool_use_id": tool, "type": "tool_result", "content": "", "is_error": False}
        shown = {"stdout": "", "interrupted": False, "isImage": False}
        return self._line("user", length, message={"role": "user", "content": [block]}, toolUseResult=shown)

    def _snapshot(self, length: int) -> dict[str, Any]:
        """A line without session, id or time."""
        backups = {self._words(30): {"version": 1} for _ in range(max(0, length - 240) // 60)}
        snapshot = {"messageId": self._uuid(), "trackedFileBackups": backups, "timestamp": "2026-01-01T00:00:00.000Z"}
        return {"type": "file-history-snapshot", "messageId": self._uuid(), "snapshot": snapshot}

    def _usage(self) -> dict[str, Any]:
        rng = self._rng
        written = rng.randint(0, 5000)
        return {
            "input_tokens": rng.randint(1, 10),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": rng.randint(10_000, 150_000),
            "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
            "output_tokens": rng.randint(1, 2000),
            "service_tier": "standard",
        }

    def _words(self, length: int) -> str:
        start = self._rng.randrange(len(self._text) - length)
        return self._text[start : start + length]

    def _id(self, prefix: str) -> str:
        return prefix + "".join(self._rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz123456789", k=24))

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))


def _fill(value: object, text: str) -> object:
    """The same value with each empty text replaced."""
    if isinstance(value, dict):
        return {key: _fill(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, text) for inner in value]
    return text if value == "" else value
