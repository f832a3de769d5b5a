"""The recorded bytes of a generation, read back from its segments, row by row.

Each call is a short read of its own: rows may be merged between two calls, and no reader holds up a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw
import zstandard

from codex.logging.errors import DatabaseError
from codex.logging.store import segments, spans
from codex.logging.store.spans import Span

_AT = """
SELECT id & 0xffffffffff, CAST(end_offset AS INTEGER), chain, lines, CAST(bytes AS BLOB),
       (SELECT min(n.id) & 0xffffffffff FROM segments AS n WHERE n.id > s.id AND n.id <= ?3)
FROM segments AS s WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1"""
_AFTER = "SELECT min(id) & 0xffffffffff FROM segments WHERE id > ? AND id <= ?"
_BREAKS = """
SELECT start, first_seq FROM (
    SELECT id & 0xffffffffff AS start, first_seq, lag(first_seq + lines) OVER (ORDER BY id) AS expected
    FROM segments WHERE id BETWEEN ? AND ?)
WHERE first_seq <> expected ORDER BY start"""


class Segment(NamedTuple):
    """One row: the bytes of [start, end) and the chain at `end`; `data` is None when the frame is damaged.

    `following` is where the next row's segment starts, None where this is the last one.
    """

    start: int
    end: int
    chain: bytes
    lines: int
    data: bytes | None
    following: int | None


class Record:
    """A generation's bytes as an object that gives them by offset; keeps the last segment decompressed."""

    def __init__(self, connection: apsw.Connection, generation: int) -> None:
        self._connection = connection
        self._low = generation << 40
        self._high = self._low | 0xFFFFFFFFFF
        self._last = Segment(0, 0, b"", 0, b"", None)
        self._has_spans: bool | None = None

    @property
    def database(self) -> str:
        """The file that it is in."""
        return self._connection.db_filename("main")

    def segment(self, offset: int) -> Segment | None:
        """The segment that holds the byte at `offset`, None where there is none."""
        row: Any = self._connection.execute(_AT, (self._low, self._low | offset, self._high)).fetchone()
        if row is None or row[1] <= offset:
            return None
        start, end, chain, lines, frame, following = row
        try:
            data: bytes | None = segments.decompress(frame, end - start)
        except (zstandard.ZstdError, TypeError):  # TypeError: somebody put a text, or NULL, where the frame was
            data = None
        return Segment(start, end, chain, lines, data, following)

    def next_start(self, offset: int) -> int | None:
        """Where the first segment behind `offset` starts."""
        row = self._connection.execute(_AFTER, (self._low | offset, self._high)).fetchone()
        found = row[0] if row else None
        return found if isinstance(found, int) else None

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of [offset, offset + length). Raises DatabaseError where the record has a hole."""
        pieces = []
        end = offset + length
        while offset < end:
            if not self._last.start <= offset < self._last.end:
                found = self.segment(offset)
                if found is None or found.data is None:
                    raise DatabaseError(
                        f"the record of generation {self._low >> 40} has no sound bytes at offset {offset}",
                        hint="`codex-ingestd verify` shows what is wrong; `codex-ingestd rebuild` mends it.",
                    )
                self._last = found
            data = self._last.data
            assert data is not None
            piece = data[offset - self._last.start : end - self._last.start]
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def spans_in(self, start: int, end: int) -> list[Span]:
        """The generation's spans that have a byte in [start, end), in order."""
        if self._has_spans is None:
            self._has_spans = spans.is_any(self._connection, self._low >> 40)
        return spans.read(self._connection, self._low >> 40, start, end) if self._has_spans else []

    def chunks(self, length: int, size: int = 1 << 20) -> Iterator[bytes]:
        """The first `length` bytes, in pieces of at most `size`. Raises DatabaseError as `read`."""
        for start in range(0, length, size):
            yield self.read(start, min(size, length - start))

    def breaks(self) -> list[tuple[int, int]]:
        """(offset, seq) where the numbering doesn't go on from the segment before: late lines of a rotated file."""
        rows = self._connection.execute(_BREAKS, (self._low, self._high))
        return [(start, first_seq) for start, first_seq in rows]
