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

BLOCK_BYTES = 64 << 10
DIGEST_BYTES = 20
START = blake2b(b"", digest_size=DIGEST_BYTES).digest()
LEVEL = 3


class _Tools(threading.local):
    """A thread's own: neither of them may be used by two at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_tools = _Tools()


class Chain:
    """The running chain of one generation."""

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


class Packed(NamedTuple):
    """Bytes as segments keep them: the frame, where they are one piece, the chain behind each piece, and it goes on."""

    frame: bytes | None
    chains: tuple[bytes, ...]
    chain: Chain


def pack(pieces: Sequence[bytes | memoryview], chain: Chain) -> Packed:
    """The pieces that follow a chain, which goes on with them. Leaves the GIL to others for most of its time.

    More than one piece, as of a long line, are compressed only as they are written, so that their frames aren't held.
    """
    chains = []
    for piece in pieces:
        chain.update(piece)
        chains.append(chain.digest())
    return Packed(compress(pieces[0]) if len(pieces) == 1 else None, tuple(chains), chain)


def compress(data: bytes | memoryview) -> bytes:
    """One zstd frame that knows its size."""
    return _tools.compressor.compress(data)


def decompress(frame: bytes, length: int) -> bytes:
    """The `length` bytes of a frame. Raises zstandard.ZstdError when it is damaged, or says that it holds another."""
    if zstandard.frame_content_size(frame) != length:  # before the memory for it is taken
        raise zstandard.ZstdError(f"the frame doesn't hold {length} bytes")
    return _tools.decompressor.decompress(frame)
