"""However a file grows and however it is read, the same bytes give the same events and rejects, none left over."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codex.logging.ingest.reader import Limits
from tests.property.growing import Growth, check_chunking, check_tails

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
