"""Events as a Parquet file, by way of pyarrow where it is installed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from codex.logging.errors import ConfigError
from codex.logs.export.transcript import Transcript
from codex.logs.read.events import Event

_ROWS = 10_000
_BYTES = 16 << 20  # of messages, in a batch
_YEARS = 9e9  # seconds: times beyond the year 2255 have no timestamp


def write_parquet(file: BinaryIO, transcripts: Iterable[Transcript]) -> None:
    """One row an event, zstd; `time` is a UTC timestamp, `ts` epoch seconds. Raises ConfigError without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which isn't installed",
            hint="pip install 'codex-ingestd[parquet]', or choose another --format.",
        ) from error
    schema = _schema(pyarrow)
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(transcripts):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


def _schema(pyarrow: Any) -> Any:
    text, whole = pyarrow.string(), pyarrow.int64()
    return pyarrow.schema(
        [
            ("session_id", text),
            ("seq", whole),
            ("part", whole),
            ("time", pyarrow.timestamp("us", "UTC")),
            ("ts", pyarrow.float64()),
            ("role", text),
            ("kind", text),
            ("tool", text),
            ("model", text),
            ("message", pyarrow.large_string()),
            ("call_id", text),
            ("parent", text),
            ("inherited", pyarrow.bool_()),
            ("meta", pyarrow.large_string()),
            ("generation", whole),
            ("offset", whole),
            ("length", whole),
        ]
    )


def _batches(transcripts: Iterable[Transcript]) -> Iterator[list[dict[str, object]]]:
    batch: list[dict[str, object]] = []
    size = 0
    for transcript in transcripts:
        for event in transcript.events:
            batch.append(_record(event))
            size += len(event.message) + len(event.meta or "")
            if len(batch) >= _ROWS or size >= _BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _record(event: Event) -> dict[str, object]:
    record = event._asdict()
    del record["position"]
    ts = event.ts
    micros = round(ts * 1e6) if ts is not None and math.isfinite(ts) and abs(ts) < _YEARS else None
    return record | {"time": micros, "inherited": bool(event.inherited)}
