"""The bytes of a log that its agent has compressed with zstd, read as if it were still plain.

Memory is bounded whatever the file holds: it is unpacked as it is read, a KiB of it at a time, which is 32 MiB of text
at the very most; frames that ask for a window over 128 MiB are refused. So is what takes time without end: text of more
than 256 MiB that is over 250 times its file, and frames upon frames without any.
"""

from __future__ import annotations

import os

import portalocker
import zstandard

from codex.logging.errors import SourceError

_PIECE = 1 << 10
_HEAD = 1 << 10  # looked at before each batch, by which the file is known again
_WINDOW = 128 << 20
_AMPLE = 256 << 20
_RATIO = 250
_EMPTY_FRAMES = 1000
_decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
_parked: list[Unpacked] = []


class Unpacked:
    """One compressed file's text. Reading on from where the last read ended unpacks nothing twice.

    Takes over the descriptor, and closes it where it raises SourceError: the file is no whole zstd file.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path
        status = os.fstat(descriptor)
        self._state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        self._head = b""
        self._restart()
        try:
            self.size = self._measure()
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, descriptor: int, path: str) -> Unpacked:
        """The text of an open file: the one that was parked, if it is this file, unchanged."""
        status = os.fstat(descriptor)
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        while _parked:
            former = _parked.pop()
            if former._state == state:
                os.close(descriptor)
                return former
            former.close()
        return cls(descriptor, path)

    def read(self, offset: int, length: int) -> bytes:
        """The text's bytes from `offset`, at most `length` of them; fewer only at its end."""
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        if offset < self._start:
            self._restart()
        pieces = []
        while length:
            end = self._start + len(self._text)
            if offset < end:
                piece = bytes(self._text[offset - self._start : offset - self._start + length])
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
            elif not self._unpack():
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def park(self) -> None:
        """Keep it for the next read of the same file, without the lock on it."""
        portalocker.unlock(self._descriptor)
        _parked.append(self)
        while len(_parked) > 1:
            _parked.pop(0).close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _restart(self) -> None:
        self._place, self._start, self._text = 0, 0, memoryview(b"")
        self._frame = _decompressor.decompressobj()

    def _unpack(self) -> bool:
        """Go on to the next piece of text; False at the end."""
        empty = 0
        while True:
            data = os.pread(self._descriptor, _PIECE, self._place)
            if not data:
                if self._place and not self._frame.eof:
                    raise SourceError(f"{self._path}: its last zstd frame isn't whole")
                return False
            if self._frame.eof:
                empty += 1
                if empty > _EMPTY_FRAMES:
                    raise SourceError(f"{self._path}: more than {_EMPTY_FRAMES} zstd frames without text")
                self._frame = _decompressor.decompressobj()
            try:
                text = self._frame.decompress(data)
            except zstandard.ZstdError as error:
                raise SourceError(f"{self._path}: {error}") from error
            self._place += len(data) - len(self._frame.unused_data)
            if text:
                self._start += len(self._text)
                self._text = memoryview(text)
                return True

    def _measure(self) -> int:
        while self._unpack():
            if self._start + len(self._text) > max(_AMPLE, _RATIO * self._place):
                raise SourceError(f"{self._path}: its text is more than {_RATIO} times its size")
            if len(self._head) < _HEAD:
                self._head += bytes(self._text[: _HEAD - len(self._head)])
        size = self._start + len(self._text)
        self._restart()
        return size
