"""The exact bytes of a generation: compressed, and chained so that a change of any byte shows.

The chain at length L is a pure function of the first L bytes, whatever the batches were: with blocks of 64 KiB,
block 0 has key c0 = blake2b(""), each full block i gives c(i+1) = blake2b(c(i) + block i), and the chain at L is
blake2b(c(k) + the rest behind the last full block k). So merging, or building anew, changes no chain.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import zstandard

_MOST_BYTES = 128 << 20  # twice the longest line
BLOCK_BYTES = 64 << 10
DIGEST_BYTES = 20
START = blake2b(b"", digest_size=DIGEST_BYTES).digest()
LEVEL = 2


class _Tools(threading.local):
    """A thread's own: neither of them may be used by two at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_tools = _Tools()


class Chain:
    """The running chain of one generation."""

    __slots__ = ("_hash", "block", "offset")

    def __init__(self, offset: int = 0, block: bytes = START, rest: bytes = b"") -> None:
        """Resume at `offset` bytes: `block` is c(k), `rest` the bytes behind the last full block."""
        self.offset = offset - len(rest)
        self.block = block
        self._hash = blake2b(block, digest_size=DIGEST_BYTES)
        self.update(rest)

    def update(self, data: bytes | memoryview) -> None:
        """Take the bytes that follow."""
        start = 0
        while start < len(data):
            room = BLOCK_BYTES - self.offset % BLOCK_BYTES
            piece = data if room >= len(data) - start and not start else data[start : start + room]
            self._hash.update(piece)
            self.offset += len(piece)
            start += len(piece)
            if self.offset % BLOCK_BYTES == 0:
                self.block = self._hash.digest()
                self._hash = blake2b(self.block, digest_size=DIGEST_BYTES)

    def digest(self) -> bytes:
        """The chain at `offset`, 20 bytes."""
        return self._hash.digest()

    def copy(self) -> Chain:
        """The same state, apart from this one."""
        twin = object.__new__(Chain)
        twin.offset, twin.block, twin._hash = self.offset, self.block, self._hash.copy()
        return twin


class Linked(NamedTuple):
    """The chain behind each of some pieces, and the chain that goes on."""

    chains: tuple[bytes, ...]
    chain: Chain


def link(pieces: Sequence[bytes | memoryview], chain: Chain) -> Linked:
    """Let a chain go on with the pieces that follow it."""
    chains = []
    for piece in pieces:
        chain.update(piece)
        chains.append(chain.digest())
    return Linked(tuple(chains), chain)


def compress(data: bytes | memoryview) -> bytes:
    """One zstd frame that knows its size."""
    return _tools.compressor.compress(data)


def decompress(frame: bytes, length: int) -> bytes:
    """The `length` bytes of a frame. Raises zstandard.ZstdError when it is damaged, or says that it holds another.

    So it does for more than any segment has.
    """
    if length > _MOST_BYTES or zstandard.frame_content_size(frame) != length:  # before the memory for it is taken
        raise zstandard.ZstdError(f"the frame doesn't hold {length} bytes")
    return _tools.decompressor.decompress(frame)
