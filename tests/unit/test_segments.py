"""The chain is a function of the bytes alone; a frame gives its bytes, or an error."""

from __future__ import annotations

import random
from hashlib import blake2b

import pytest
import zstandard

from codex.logging.store.segments import BLOCK_BYTES, START, Chain, compress, decompress

DATA = random.Random(3).randbytes(3 * BLOCK_BYTES + 1000)
LENGTHS = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, len(DATA)]


def plain(data: bytes) -> bytes:
    """The chain as its definition says."""
    key = blake2b(b"", digest_size=20).digest()
    while len(data) >= BLOCK_BYTES:
        key, data = blake2b(key + data[:BLOCK_BYTES], digest_size=20).digest(), data[BLOCK_BYTES:]
    return blake2b(key + data, digest_size=20).digest()


@pytest.mark.parametrize("length", LENGTHS)
def test_any_batches_give_the_same_chain(length: int) -> None:
    """One update, one for each few bytes, or of random sizes: what the definition gives."""
    choose = random.Random(length)
    for most in (len(DATA), 7000, 100_000):
        chain, offset = Chain(), 0
        while offset < length:
            size = min(choose.randint(1, most), length - offset)
            chain.update(DATA[offset : offset + size])
            offset += size
        assert (chain.offset, chain.digest()) == (length, plain(DATA[:length]))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_chain_goes_on_from_what_is_kept_of_it(length: int) -> None:
    """The last full block's key, and the bytes behind it, are enough."""
    former = Chain()
    former.update(DATA[:length])
    rest = DATA[length - length % BLOCK_BYTES : length]
    chain = Chain(length, former.block, rest)
    assert chain.digest() == former.digest()
    chain.update(DATA[length:])
    assert chain.digest() == plain(DATA)


def test_a_copy_goes_its_own_way() -> None:
    """What is tried on a copy leaves the original as it was."""
    chain = Chain()
    chain.update(b"abc")
    twin = chain.copy()
    twin.update(DATA)
    assert (chain.offset, chain.digest()) == (3, plain(b"abc"))
    assert twin.digest() == plain(b"abc" + DATA)


def test_each_byte_counts() -> None:
    """A flipped bit, two swapped blocks, a missing byte: another chain."""
    first, second = DATA[:BLOCK_BYTES], DATA[BLOCK_BYTES : 2 * BLOCK_BYTES]
    others = [bytes([DATA[0] ^ 1]) + DATA[1:], second + first + DATA[2 * BLOCK_BYTES :], DATA[:-1], DATA + b"\0"]
    assert len({plain(data) for data in (DATA, *others)}) == 5
    assert blake2b(b"", digest_size=20).digest() == START


def test_a_frame_gives_its_bytes() -> None:
    """Also of nothing."""
    for data in (b"", b"{}\n", DATA):
        assert decompress(compress(data), len(data)) == data


@pytest.mark.parametrize(
    "frame", [b"", b"text", compress(b"abc")[:-1], compress(b"abcd"), compress(b"a" * (1 << 24)), b"\0" * 40]
)
def test_a_damaged_frame_is_an_error(frame: bytes) -> None:
    """A cut one, none at all, or one of another length: before the memory that it asks for is taken."""
    with pytest.raises(zstandard.ZstdError):
        decompress(frame, 3)


def test_a_frame_of_flipped_bytes_is_no_frame_of_the_same_bytes() -> None:
    """Each flip is an error or gives other bytes, which the chain finds."""
    data = b'{"message":"some text that compresses, some text"}\n' * 20
    frame = compress(data)
    for place in range(len(frame)):
        flipped = frame[:place] + bytes([frame[place] ^ 0xFF]) + frame[place + 1 :]
        try:
            assert len(decompress(flipped, len(data))) == len(data)
        except zstandard.ZstdError:
            continue
