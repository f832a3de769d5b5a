"""Session files to measure with: made anew each time, and the same each time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

_POOL_BYTES = 8 << 20
_LONGEST = 961_000


def native_length(rng: random.Random) -> int:
    """Bytes of a line as our own writer makes them: 500 in the mean."""
    return rng.randint(250, 750)


def transcript_length(rng: random.Random) -> int:
    """Bytes of a line as in real transcripts: half of them over 1 KB, one in a hundred over 51 KB, at most 961 KB."""
    return min(_LONGEST, max(200, round(rng.lognormvariate(6.957, 1.67))))


SHAPES: dict[str, Callable[[random.Random], int]] = {"native": native_length, "transcript": transcript_length}


def make_corpus(folder: Path, shape: str, size: int, sessions: int) -> int:
    """Write about `size` bytes of native records in that many session files; the count of lines."""
    rng = random.Random(shape)
    text = _text(rng)
    lines = 0
    for number in range(sessions):
        with open(folder / f"session-{number:05}.ndjson", "wb") as file:
            while file.tell() < size / sessions:
                lines += 1
                file.write(_line(rng, text, lines, SHAPES[shape](rng)))
    return lines


def make_sessions(folder: Path, count: int) -> None:
    """Write that many session files of one line each."""
    for number in range(count):
        path = folder / f"other-{number:05}.ndjson"
        path.write_bytes(b'{"ts":"2026-01-31T09:00:00Z","role":"user","message":"hello"}\n')


def _line(rng: random.Random, text: str, number: int, length: int) -> bytes:
    start = rng.randrange(len(text) - length)
    record: dict[str, object] = {
        "ts": f"2026-01-31T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z",
        "type": "message",
        "session_id": "session",
        "role": ("user", "assistant", "tool")[number % 3],
        "message": text[start : start + max(20, length - 140)],
        "call": number,
    }
    return encode(record)


def encode(record: dict[str, object]) -> bytes:
    """One line of compact JSON. Not the product's: a measurement must also run beside another checkout's code."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _text(rng: random.Random) -> str:
    """Words, lines and a quotation mark here and there: it compresses, and escapes, about as real text does."""
    words = list(_words(rng))
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    return " ".join(rng.choices(words, weights, k=_POOL_BYTES // 6))


def _words(rng: random.Random) -> Iterator[str]:
    yield from ("the", "to", "\n    ", 'a "b"', "=", "é")
    for _ in range(4000):
        yield "".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz_", k=rng.randint(2, 11)))
