"""What the local database is told of a sink: its watermarks, and how it goes, for those who ask without the sink."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import apsw

from codex.logging.store.connection import immediate, translated
from codex_ingestd.forward.sink import Batch, Watermark

_EVERY_SECONDS = 5.0
_ROWS = 200  # in a transaction: an ingester waits less than a millisecond for it
_MOVE = """
INSERT OR REPLACE INTO forward_watermarks (sink, generation, event, reject, "offset", chain)
VALUES (?, ?, ?, ?, ?, ?)"""
_SENT = """
INSERT INTO forward_sinks (sink, sent_at) VALUES (?, ?)
ON CONFLICT DO UPDATE SET sent_at = excluded.sent_at, error = NULL, error_at = NULL"""
_FAILED = """
INSERT INTO forward_sinks (sink, error, error_at) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET error = excluded.error, error_at = coalesce(error_at, excluded.error_at)"""
_READ = """
SELECT k.sink, k.sent_at, k.error, k.error_at, coalesce(sum(g."offset" > coalesce(w."offset", 0)), 0),
       coalesce(sum(max(0, g."offset" - coalesce(w."offset", 0))), 0)
FROM forward_sinks AS k
LEFT JOIN generations AS g
LEFT JOIN forward_watermarks AS w ON w.sink = k.sink AND w.generation = g.id
GROUP BY k.sink"""


class SinkNotes(NamedTuple):
    """What is known of a sink: generations and bytes of their files that it lacks, 5 s ago at most; epoch seconds."""

    sink: str
    sent_at: float | None
    error: str | None
    error_at: float | None
    generations: int
    bytes: int


class Notes:
    """Writes them, seldom. Raises DatabaseError."""

    def __init__(self, connection: apsw.Connection, path: str, sink: str) -> None:
        self._connection = connection
        self._path = path
        self._sink = sink
        self._moved: dict[int, Watermark] = {}
        self._written_at = 0.0
        self._error: str | None = None

    def sent(self, batch: Batch, now: float) -> None:
        """The sink has committed it."""
        self._moved.update((part.after.generation, part.after) for part in batch.parts)
        if now >= self._written_at + _EVERY_SECONDS:
            self.write(now)

    def write(self, now: float) -> None:
        """Write what isn't written yet."""
        if self._moved or self._error is not None or not self._written_at:
            self._written_at, self._error = now, None
            rows = [(self._sink, mark.generation, *mark[2:6]) for mark in self._moved.values()]
            with translated(self._path):
                for start in range(0, len(rows), _ROWS):
                    with immediate(self._connection):
                        self._connection.executemany(_MOVE, rows[start : start + _ROWS])
                with immediate(self._connection):
                    self._connection.execute(_SENT, (self._sink, time.time()))
            self._moved.clear()

    def failed(self, error: str) -> None:
        """The sink takes nothing; told once for the same reason."""
        if error != self._error:
            self._error = error
            with translated(self._path), immediate(self._connection):
                self._connection.execute(_FAILED, (self._sink, error, time.time()))


def read_notes(connection: apsw.Connection) -> Iterable[SinkNotes]:
    """What is known of each sink that this database was ever forwarded to."""
    rows: Any = connection.execute(_READ)
    return [SinkNotes(*row) for row in rows]
