"""Events as rows: JSON lines and CSV."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable
from typing import BinaryIO

from codex.logging.events import iso_time
from codex.logs.export.transcript import Transcript
from codex.logs.read.events import Event
from codex.logs.shown.delimited import write_csv

COLUMNS = (
    "session_id",
    "seq",
    "part",
    "time",
    "role",
    "kind",
    "tool",
    "model",
    "message",
    "call_id",
    "parent",
    "inherited",
    "meta",
)


def write_jsonl(file: BinaryIO, transcripts: Iterable[Transcript]) -> None:
    """One object a line, UTF-8, as `codex-logs tail --json` has them."""
    for transcript in transcripts:
        for event in transcript.events:
            file.write(_line(event))


def _line(event: Event) -> bytes:
    record = event.as_dict()
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a number that JSON hasn't; its own text is in the meta's
        record |= {"meta": event.meta, "ts": event.ts if event.ts is None or math.isfinite(event.ts) else None}
        text = json.dumps(record, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can write
        return json.dumps(record).encode() + b"\n"


def write_table(file: BinaryIO, transcripts: Iterable[Transcript]) -> None:
    """CSV with a heading; times are ISO 8601 UTC, the meta is JSON text."""
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    try:
        write_csv(text, COLUMNS, (_cells(event) for transcript in transcripts for event in transcript.events))
    finally:
        text.detach()


def _cells(event: Event) -> list[object]:
    record = event._asdict() | {
        "time": None if event.ts is None else iso_time(event.ts),
        "inherited": int(event.inherited),
    }
    return [record[column] for column in COLUMNS]
