"""A file that grows, read through as the engine does, and what must hold of all that comes of it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from codex.logging.events import Batch, Cursor, Event, Reject, Summary
from codex.logging.ingest.batches import decode_chunk
from codex.logging.ingest.formats import Format, native
from codex.logging.ingest.reader import Limits, next_chunk
from codex.logging.ingest.summary import fold

Growth = list[tuple[int, bool]]  # how many bytes are there, and whether an unterminated tail may be taken


class Outcome(NamedTuple):
    """All that was committed of one file."""

    events: list[Event]
    rejects: list[Reject]
    after: Cursor
    summary: Summary


class Growing:
    """A file that shows its first `size` bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset + length <= self.size
        return self.data[offset : offset + length]


def read_through(data: bytes, growth: Growth, limits: Limits, form: Format = native) -> Outcome:
    """Read as the engine does, at each size until nothing more comes."""
    source, cursor, scanned = Growing(data), Cursor(), 0
    outcome = Outcome([], [], cursor, Summary())
    for size, tail in growth:
        source.size = size
        while True:
            chunk = next_chunk(source, size, cursor, limits, scanned=scanned, tail=tail)
            batch = decode_chunk(chunk, cursor, form)
            if batch is None:
                scanned = chunk.scanned
                break
            batch = fold(form, outcome.summary, batch)
            _check_batch(batch, data)
            outcome.events.extend(batch.events)
            outcome.rejects.extend(batch.rejects)
            outcome, cursor, scanned = outcome._replace(summary=batch.summary), batch.after, 0
    return outcome._replace(after=cursor)


def _check_batch(batch: Batch, data: bytes) -> None:
    """A batch takes at least one byte, and exactly those between its cursors."""
    assert batch.before.offset < batch.after.offset
    assert batch.data == data[batch.before.offset : batch.after.offset]
    assert batch.after.lines - batch.before.lines == batch.after.seq - batch.before.seq


def check_accounting(data: bytes, outcome: Outcome) -> None:
    """Every byte below the cursor is in exactly one object or reject, is white space or BOM, or is being skipped."""
    spans = [*{(e.offset, e.length) for e in outcome.events}, *((r.offset, r.length) for r in outcome.rejects)]
    after = outcome.after
    if after.skip_reason:
        spans.append((after.skip_from, after.offset - after.skip_from))
    ends = sorted((start, start + length) for start, length in spans)
    for (_, end), (start, _) in pairwise([(0, 0), *ends, (after.offset, after.offset)]):
        assert end <= start, "two spans share a byte"
        between = data[end:start].removeprefix(b"\xef\xbb\xbf" if end == 0 else b"")
        assert not between.strip(b" \t\r\n"), f"{between!r} is nowhere"
    numbers = [(event.seq, event.part) for event in outcome.events]
    assert all(former < latter for former, latter in pairwise(numbers))
    for event in outcome.events:
        span = data[event.offset : event.offset + event.length]
        assert span[:1] == b"{"
        assert span[-1:] == b"}"
        assert event.seq == data.count(b"\n", 0, event.offset) + 1
    for reject in outcome.rejects:
        assert reject.seq == data.count(b"\n", 0, reject.offset) + 1


def check_chunking(data: bytes, sizes: list[int], limits: Limits, form: Format = native) -> Outcome:
    """Reading at each of these sizes ends where one read of the whole does."""
    growth = [(size, False) for size in sorted(min(size, len(data)) for size in sizes)]
    found = read_through(data, [*growth, (len(data), False)], limits, form)
    at_once = read_through(data, [(len(data), False)], Limits(limits.line, limits.line), form)
    assert found == at_once
    check_accounting(data, found)
    return found


def check_tails(data: bytes, growth: Growth, limits: Limits, form: Format = native) -> Outcome:
    """Taking tails on the way changes nothing, where no line is longer than the limit; no byte is lost where one is."""
    data += b"\n"
    growth = [*sorted((min(size, len(data)), tail) for size, tail in growth), (len(data), False)]
    found = read_through(data, growth, limits, form)
    check_accounting(data, found)
    assert found.after.offset == len(data)
    if max(map(len, data.split(b"\n"))) <= limits.line:
        assert found == read_through(data, [(len(data), False)], Limits(limits.line, limits.line), form)
    return found
