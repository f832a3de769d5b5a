"""From the watermark to the last whole line: which bytes of a file are next. Memory is bounded by the line limit."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from codex.logging.events import Cursor


class Bytes(Protocol):
    """Anything that gives bytes by offset, as Source does."""

    def read(self, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset`. Raises SourceChangedError when the file has become shorter."""
        ...


MOST_LINES = 1 << 14  # in a batch: an event takes far more memory than a very short line


class Limits(NamedTuple):
    """Bytes: what one batch reads at most, and the longest line that is decoded, no less than a batch.

    A line is measured without its line feed, from the cursor on: NULs before it, and objects that were taken from it
    as a tail, don't count.
    """

    batch: int
    line: int


class Chunk(NamedTuple):
    """The next bytes from a cursor on.

    `data` is whole lines, or the inside of a skip (`oversize` when a too long line begins or goes on here).
    `line` is one whole line that is longer than a batch, without its line feed, so that it needn't be copied.
    `tail` is the unterminated rest of the file, when it was asked for and is all there is. No line feed stands
    between the cursor and `scanned`. `more` tells that there is more to look at behind these bytes.
    """

    data: bytes = b""
    oversize: bool = False
    line: bytes = b""
    tail: bytes = b""
    scanned: int = 0
    more: bool = False

    @property
    def content(self) -> bytes:
        """The data, the line or the tail, whichever there is."""
        return self.data or self.line or self.tail


def next_chunk(
    source: Bytes, size: int, cursor: Cursor, limits: Limits, *, scanned: int = 0, tail: bool = False
) -> Chunk:
    """The chunk that follows the cursor in a file of `size` bytes: one batch, or one longer line.

    No line feed stood before `scanned` at an earlier look. One may do by now: the file may have been cut and have grown
    anew since.
    """
    start = cursor.offset
    if cursor.skip_reason == "oversize":
        return _inside_skip(source, size, start, limits)
    if scanned > start and not tail:
        found = _longer_line(source, size, start, scanned, limits)
        if not found.oversize and b"\n" not in found.line:
            return found
    data = source.read(start, min(limits.batch, size - start))
    while data.count(b"\n") > MOST_LINES:
        data = data[: len(data) // 2]
    end = data.rfind(b"\n") + 1
    if not end and (data[:1] == b"\0" or cursor.skip_reason == "nul"):
        end = len(data) - len(data.lstrip(b"\0"))
    if end:
        return Chunk(data[:end], more=start + (end if tail else len(data)) < size)
    found = _longer_line(source, size, start, start + len(data), limits)
    if tail and found.scanned > start:
        return found._replace(tail=source.read(start, found.scanned - start))
    return found


def _longer_line(source: Bytes, size: int, start: int, scanned: int, limits: Limits) -> Chunk:
    """Look for the line's end behind `scanned`, reading the line again only once its end is there."""
    while scanned < size and scanned - start <= limits.line:
        piece = source.read(scanned, min(limits.batch, size - scanned))
        end = piece.find(b"\n")
        scanned += len(piece) if end < 0 else end
        if end >= 0 and scanned - start <= limits.line:
            return Chunk(line=source.read(start, scanned - start), more=scanned + 1 < size)
    if scanned - start > limits.line:
        return _inside_skip(source, size, start, limits)
    return Chunk(scanned=scanned)


def _inside_skip(source: Bytes, size: int, start: int, limits: Limits) -> Chunk:
    """The next bytes of a too long line, at most to its end."""
    data = source.read(start, min(limits.batch, size - start))
    data = data[: data.find(b"\n") + 1] or data
    return Chunk(data, oversize=True, more=start + len(data) < size)
