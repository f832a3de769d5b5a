"""However a file grows and however it is read, the same bytes give the same events and rejects, none left over."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codex.logging.events import Batch, Cursor, Event, Reject
from codex.logging.ingest.batches import decode_chunk
from codex.logging.ingest.formats import native
from codex.logging.ingest.reader import Limits, next_chunk

_TOKENS = [
    *(bytes([byte]) for byte in b'{}[]",:\n\r\0 \xff'),
    b"\n",
    b"\n",
    b"\xef\xbb\xbf",
    b"\0\0\0",
    b"null",
    b"{}",
    b'{"a":1}',
    b'{"message":"\xc3\xa9}{"}\n',
    b'{"message":"\\ud83d"}',
    b'{"ts":1e400,"b":[{"c":"\\\\"}]}',
]
_LIMITS = [Limits(7, 64), Limits(7, 7), Limits(64, 64), Limits(1, 20)]

Growth = list[tuple[int, bool]]  # how many bytes are there, and whether an unterminated tail may be taken


class Outcome(NamedTuple):
    """All that was committed of one file."""

    events: list[Event]
    rejects: list[Reject]
    after: Cursor


class Growing:
    """A file that shows its first `size` bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset + length <= self.size
        return self.data[offset : offset + length]


def read_through(data: bytes, growth: Growth, limits: Limits) -> Outcome:
    """Read as the engine does, at each size until nothing more comes."""
    source, cursor, scanned = Growing(data), Cursor(), 0
    outcome = Outcome([], [], cursor)
    for size, tail in growth:
        source.size = size
        while True:
            chunk = next_chunk(source, size, cursor, limits, scanned=scanned, tail=tail)
            batch = decode_chunk(chunk, cursor, native)
            if batch is None:
                scanned = chunk.scanned
                break
            _check_batch(batch, data)
            outcome.events.extend(batch.events)
            outcome.rejects.extend(batch.rejects)
            cursor, scanned = batch.after, 0
    return outcome._replace(after=cursor)


def _check_batch(batch: Batch, data: bytes) -> None:
    """A batch takes at least one byte, and exactly those between its cursors."""
    assert batch.before.offset < batch.after.offset
    assert batch.data == data[batch.before.offset : batch.after.offset]
    assert batch.after.lines - batch.before.lines == batch.after.seq - batch.before.seq


def check_accounting(data: bytes, outcome: Outcome) -> None:
    """Every byte below the cursor is in exactly one event or reject, is white space or BOM, or is being skipped."""
    spans = [(e.offset, e.length) for e in outcome.events] + [(r.offset, r.length) for r in outcome.rejects]
    after = outcome.after
    if after.skip_reason:
        spans.append((after.skip_from, after.offset - after.skip_from))
    ends = sorted((start, start + length) for start, length in spans)
    for (_, end), (start, _) in pairwise([(0, 0), *ends, (after.offset, after.offset)]):
        assert end <= start, "two spans share a byte"
        between = data[end:start].removeprefix(b"\xef\xbb\xbf" if end == 0 else b"")
        assert not between.strip(b" \t\r\n"), f"{between!r} is nowhere"
    for event in outcome.events:
        span = data[event.offset : event.offset + event.length]
        assert span[:1] == b"{"
        assert span[-1:] == b"}"
        assert event.seq == data.count(b"\n", 0, event.offset) + 1
    for reject in outcome.rejects:
        assert reject.seq == data.count(b"\n", 0, reject.offset) + 1


def check_chunking(data: bytes, sizes: list[int], limits: Limits) -> None:
    """Reading at each of these sizes ends where one read of the whole does."""
    growth = [(size, False) for size in sorted(min(size, len(data)) for size in sizes)]
    found = read_through(data, [*growth, (len(data), False)], limits)
    at_once = read_through(data, [(len(data), False)], Limits(limits.line, limits.line))
    assert found == at_once
    check_accounting(data, found)


def check_tails(data: bytes, growth: Growth, limits: Limits) -> None:
    """Taking tails on the way changes nothing, where no line is longer than the limit; no byte is lost where one is."""
    data += b"\n"
    growth = [*sorted((min(size, len(data)), tail) for size, tail in growth), (len(data), False)]
    found = read_through(data, growth, limits)
    check_accounting(data, found)
    assert found.after.offset == len(data)
    if max(map(len, data.split(b"\n"))) <= limits.line:
        assert found == read_through(data, [(len(data), False)], Limits(limits.line, limits.line))


DATA = st.lists(st.sampled_from(_TOKENS), max_size=24).map(b"".join)
SIZES = st.lists(st.integers(0, 80), max_size=12)


@given(DATA, SIZES, st.sampled_from(_LIMITS))
@example(b"\0\0{}\n", [1, 2, 3], Limits(7, 7))
def test_any_chunking_gives_the_same(data: bytes, sizes: list[int], limits: Limits) -> None:
    """Growth in steps and small batches against one read: the same events, rejects and cursor."""
    check_chunking(data, sizes, limits)


@given(DATA, st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=12), st.sampled_from(_LIMITS))
@example(b"{}\0\0", [(2, True), (4, False)], Limits(64, 64))
@example(b'{"a":1}{"b":2}', [(7, True)], Limits(64, 64))
@example(b"{}\0 \0{}", [(2, True), (3, False), (6, True)], Limits(64, 64))
def test_taking_tails_on_the_way_gives_the_same(data: bytes, growth: Growth, limits: Limits) -> None:
    """An object is self-delimiting: what is taken before its line ends is what the whole line would have given."""
    check_tails(data, growth, limits)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_a_million_inputs(seed: int) -> None:
    """The same two properties, 100,000 random inputs at a time."""
    draw = random.Random(seed)
    for _ in range(50_000):
        data = b"".join(draw.choices(_TOKENS, k=draw.randrange(24)))
        growth = [(draw.randrange(80), draw.random() < 0.5) for _ in range(draw.randrange(12))]
        check_chunking(data, [size for size, _ in growth], draw.choice(_LIMITS))
        check_tails(data, growth, draw.choice(_LIMITS))
