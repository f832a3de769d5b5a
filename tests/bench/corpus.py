"""Session files to measure with: made anew each time, and the same each time; or copies of real ones."""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench.transcript import transcript_records

MIB = 1 << 20
SUFFIXES = (".ndjson", ".jsonl")
_POOL_BYTES = 8 << 20


class Shape(NamedTuple):
    """One kind of session file: what its name ends in, and its records, without end."""

    suffix: str
    records: Callable[[random.Random, str], Iterator[dict[str, object]]]


class Corpus(NamedTuple):
    """Session files: the folder that they are in, their lines without blank ones, their bytes, how many they are."""

    folder: Path
    lines: int
    size: int
    files: int


def native_records(rng: random.Random, text: str) -> Iterator[dict[str, object]]:
    """Records as our own writer makes them: lines of 500 bytes in the mean."""
    number = 0
    while True:
        number += 1
        length = rng.randint(250, 750) - 140
        start = rng.randrange(len(text) - length)
        yield {
            "ts": f"2026-01-31T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z",
            "type": "message",
            "session_id": "session",
            "role": ("user", "assistant", "tool")[number % 3],
            "message": text[start : start + length],
            "call": number,
        }


SHAPES = {"native": Shape(".ndjson", native_records), "transcript": Shape(".jsonl", transcript_records)}


def make_corpus(folder: Path, shape: str, size: int, sessions: int) -> Corpus:
    """Write about `size` bytes of that shape's lines in that many session files."""
    rng = random.Random(shape)
    text = _text(rng)
    lines = 0
    for _ in range(sessions):
        name = uuid.UUID(int=rng.getrandbits(128), version=4)
        with open(folder / f"{name}{SHAPES[shape].suffix}", "wb") as file:
            for record in SHAPES[shape].records(rng, text):
                lines += 1
                file.write(encode(record))
                if file.tell() >= size / sessions:
                    break
    return _corpus(folder, lines)


def copy_corpus(folder: Path, real: Path) -> Corpus:
    """Copy every session file below `real`, each to the same place below `folder`, without a begun last line."""
    lines = 0
    for path in session_files(real):
        copy = folder / path.relative_to(real)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as source, open(copy, "wb") as target:
            for line in source:
                if line.endswith(b"\n"):
                    target.write(line)
                    lines += bool(line.strip())
    return _corpus(folder, lines)


def session_files(folder: Path) -> list[Path]:
    """Every session file below the folder, by name."""
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.suffix in SUFFIXES)


def make_sessions(folder: Path, count: int) -> None:
    """Write that many session files of one line each."""
    for number in range(count):
        path = folder / f"other-{number:05}.ndjson"
        path.write_bytes(b'{"ts":"2026-01-31T09:00:00Z","role":"user","message":"hello"}\n')


def encode(record: dict[str, object]) -> bytes:
    """One line of compact JSON. Not the product's: a measurement must also run beside another checkout's code."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _corpus(folder: Path, lines: int) -> Corpus:
    files = session_files(folder)
    return Corpus(folder, lines, sum(path.stat().st_size for path in files), len(files))


def _text(rng: random.Random) -> str:
    """Words, lines and a quotation mark here and there: it compresses, and escapes, about as real text does."""
    words = list(_words(rng))
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    return " ".join(rng.choices(words, weights, k=_POOL_BYTES // 6))


def _words(rng: random.Random) -> Iterator[str]:
    yield from ("the", "to", "\n    ", 'a "b"', "=", "é")
    for _ in range(4000):
        yield "".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz_", k=rng.randint(2, 11)))
