"""What the writers of `live` append, and how."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from codex.logging import append_ndjson
from codex.logging.writer import Appender
from tests.bench.corpus import encode

Call = Callable[[dict[str, object]], object]
WRITERS: dict[str, Callable[[Path], Call]] = {
    "append_ndjson": lambda path: partial(append_ndjson, path),
    "appender": lambda path: Appender(path).append,
    "write": lambda path: _raw_writer(path),
}
_PADDING = "the quick brown fox jumps over the lazy dog " * 8


class Load(NamedTuple):
    """What the writers do: so many, so many lines a second each, by which call of WRITERS, of which format."""

    writers: int
    rate: float
    call: str
    form: str

    def path(self, folder: Path, number: int) -> Path:
        """The file of one writer."""
        return folder / f"writer-{number}.{'ndjson' if self.form == 'native' else 'jsonl'}"


def _native() -> dict[str, object]:
    """A record of about 500 bytes whose message begins with the moment at which it was made."""
    record: dict[str, object] = {"ts": "2026-01-31T09:00:00.000Z", "type": "message", "role": "assistant"}
    record["message"] = f"{time.monotonic_ns()} {_PADDING}"
    return record


def _claude() -> dict[str, object]:
    """The same as a line of a transcript, about 1 KB long, that tells of a call's tokens."""
    now = time.monotonic_ns()
    usage = {"input_tokens": 3, "cache_read_input_tokens": 40_000, "output_tokens": 200}
    content = [{"type": "text", "text": f"{now} {_PADDING}"}]
    message = {"id": f"msg_{now}", "role": "assistant", "model": "m", "content": content, "usage": usage}
    about = {"cwd": "/work", "gitBranch": "main", "timestamp": "2026-01-31T09:00:00.000Z", "isSidechain": False}
    ids = {"uuid": f"u-{now}", "parentUuid": f"p-{now}", "sessionId": "s", "requestId": f"req_{now}"}
    return {"type": "assistant", **ids, **about, "message": message}


RECORDS: dict[str, Callable[[], dict[str, object]]] = {"native": _native, "claude": _claude}


def _raw_writer(path: Path) -> Call:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return lambda record: os.write(descriptor, encode(record))
