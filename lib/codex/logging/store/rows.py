"""Batches as the tables take them: plain tuples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from codex.logging.events import Batch, Cursor, Event, Reject, Summary
from codex.logging.store.spans import Span

Row = tuple[Any, ...]


class Rows(NamedTuple):
    """What one transaction commits: the exact bytes between two cursors and all that was made of them.

    `events` and `usage` are rows of those tables whose ids have `key` in them, the generation's id << 40: 0 for one
    that begins. `pieces` are the bytes, at most a MiB each, and `chains` the generation's chain behind each; `frame` is
    the only piece compressed, where that was done already. `summary` is the generation's after this batch, and
    the pieces have filler in the `spans`. The commit takes pieces and events out of their lists: a long line would else
    lie in memory beside what SQLite needs for it.
    """

    key: int
    pieces: list[bytes | memoryview]
    before: Cursor
    after: Cursor
    events: list[Row]
    usage: list[Row]
    rejects: list[Reject]
    summary: Summary = Summary()
    chains: tuple[bytes, ...] = ()
    frame: bytes | None = None
    spans: Sequence[Span] = ()

    @property
    def length(self) -> int:
        """Bytes that the watermark moves on by."""
        return self.after.offset - self.before.offset

    @property
    def edges(self) -> bytes:
        """The bytes; of more than one piece only the first KiB and the last."""
        if len(self.pieces) == 1:
            return bytes(self.pieces[0])
        return b"".join([self.pieces[0][:1024], self.pieces[-2][-1024:], self.pieces[-1][-1024:]])

    def of(self, key: int) -> Rows:
        """The same rows as another generation's."""
        if key == self.key:
            return self
        more = key - self.key
        self.events[:] = [(row[0] + more, *row[1:]) for row in self.events]
        self.usage[:] = [(key >> 40, row[1], row[2] + more, *row[3:]) for row in self.usage]
        return self._replace(key=key)


def rows_of(batch: Batch, key: int) -> Rows:
    """A folded batch's rows."""
    events = [event_row(key, event) for event in batch.events]
    usage = [
        (key >> 40, note.usage.key, row[0], row[1], *note.usage[1:])
        for row, event in zip(events, batch.events, strict=True)
        if (note := event.fields.note) is not None and note.usage is not None
    ]
    return Rows(key, batch.pieces, batch.before, batch.after, events, usage, batch.rejects, batch.summary)


def event_row(key: int, event: Event) -> Row:
    """The row of an event."""
    seq, part, offset, length, fields = event
    return (key | seq << 8 | part, *fields[:10], offset, length)


def reject_row(key: int, session_id: str, reject: Reject) -> Row:
    """The row of a reject."""
    seq, offset, length, reason, detail = reject
    return (key | offset, session_id, seq, length, reason, detail)


def summary_row(generation: int, summary: Summary) -> Row:
    """The row of a generation's summary."""
    return (generation, *summary[:5], _as_json(summary.models), *summary[6:])


@lru_cache(256)
def _as_json(words: tuple[str, ...]) -> str:
    return json.dumps(words, ensure_ascii=False)
