"""Which life of which stream a file is: pure, over what a look at the file gave."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple, Protocol

from codex.logging.events import Cursor, Ending, Generation, Stream
from codex.logging.ingest.reader import Bytes
from codex.logging.ingest.sources import Facts

HEAD_BYTES = 1024
MARKER_BYTES = 64
_PIECE = 64 << 10


class Recording(Protocol):
    """What generations' bytes were recorded as."""

    def recorded(self, generation: int, start: int, end: int) -> bytes:
        """The recorded bytes in [start, end)."""
        ...

    def as_recorded(self, generation: int, start: int, data: bytes) -> bytes:
        """What a file has from `start` on, as it would have been recorded."""
        ...


class Glance(NamedTuple):
    """How a file compares with a generation: its first bytes, and those right before the watermark.

    `head` holds the bytes the file begins with, as many as the generation's head has; `before` those that the
    marker is of. `alike_head` and `alike_marker` tell whether they are the generation's.
    """

    head: bytes
    before: bytes
    alike_head: bool
    alike_marker: bool

    @property
    def same(self) -> bool:
        """The file goes on where the watermark stands."""
        return self.alike_head and self.alike_marker


NOTHING = Glance(b"", b"", True, True)


def digest(data: bytes) -> bytes:
    """The fingerprint of a head or of a marker."""
    return blake2b(data, digest_size=16).digest()


def glance(generation: Generation, source: Bytes, size: int) -> Glance:
    """Compare an open file of `size` bytes with a generation."""
    offset = generation.cursor.offset
    start = max(0, offset - MARKER_BYTES)
    before = source.read(start, offset - start) if size >= offset else b""
    head = source.read(0, min(size, generation.head_length))
    return Glance(head, before, digest(head) == generation.head, digest(before) == generation.marker)


def recognised(generation: Generation, seen: Glance, recording: Recording) -> Glance:
    """The same look, where a file is alike in spans, whatever it has there, if it is in all else.

    It may still say what was erased from the record, or say it no more; whoever erases may die before both are done.
    """
    if seen.same or not generation.head_length:
        return seen
    start = max(0, generation.cursor.offset - MARKER_BYTES)
    lengths = (generation.head_length, generation.cursor.offset - start)
    head, before = (
        len(data) == length
        and recording.as_recorded(generation.id, place, data)
        == recording.recorded(generation.id, place, place + length)
        for place, data, length in zip((0, start), (seen.head, seen.before), lengths, strict=True)
    )
    return seen._replace(alike_head=seen.alike_head or head, alike_marker=seen.alike_marker or before)


def is_edited(generation: Generation, seen: Glance, recording: Recording) -> bool:
    """Whether a file that doesn't go on where the watermark stands is the generation's content, edited.

    It has the marker or the first line in common. The first line alone counts, not the whole head: a file that grows
    beyond its first line, or was cut within it, must not be judged otherwise than when it was of another length.
    """
    head = recording.recorded(generation.id, 0, generation.head_length)
    first_line = head[: head.find(b"\n") + 1] or head
    begins = recording.as_recorded(generation.id, 0, seen.head)
    return seen.alike_marker or begins.startswith(first_line) or first_line.startswith(begins)


def is_prefix(generation: Generation, source: Bytes, size: int, recording: Recording) -> bool:
    """Whether a file holds only the generation's first bytes: a copy being made, or made before the rest."""
    if not 0 < size <= generation.cursor.offset:
        return False
    start = max(0, size - HEAD_BYTES)
    return all(
        recording.as_recorded(generation.id, first, source.read(first, last - first))
        == recording.recorded(generation.id, first, last)
        for first, last in ((0, min(size, HEAD_BYTES)), (start, size))
    )


def end_of_lines(source: Bytes, size: int) -> int:
    """Where the last whole line of a file of `size` bytes ends; 0 where there is none."""
    end = size
    while end > 0:
        start = max(0, end - _PIECE)
        found = source.read(start, end - start).rfind(b"\n") + 1
        if found:
            return start + found
        end = start
    return 0


def live(stream: Stream) -> Generation | None:
    """The generation that the stream's live file is."""
    return next((generation for generation in reversed(stream.standing) if generation.is_live), None)


def former(stream: Stream) -> Generation | None:
    """The generation that the stream's live file is, or was when it went."""
    last = stream.standing[-1] if stream.standing else None
    return live(stream) or (last if last is not None and last.how in {"deleted", "replaced"} else None)


def base_of_rewrite(stream: Stream, former: Generation) -> int:
    """Where the numbering begins anew: at the superseded generation's base, behind what other files' lines took."""
    others = [generation.cursor.seq for generation in stream.standing if generation is not former]
    return max([former.base_seq, *others])


class Life(NamedTuple):
    """The generation that a file is, before its next batch. `generation.id` is 0 where one begins."""

    stream: Stream
    generation: Generation
    glance: Glance
    ending: Ending | None = None

    @property
    def cursor(self) -> Cursor:
        """Where the next batch begins: its lines take the stream's next numbers."""
        cursor, seq = self.generation.cursor, self.stream.seq
        return cursor._replace(seq=seq) if self.generation.id and cursor.seq != seq else cursor


def begin(stream: Stream, facts: Facts, start: bytes, ending: Ending | None, base_seq: int, now: float) -> Life:
    """A new generation of the stream, numbered from `base_seq`; `start` is the chain's start."""
    is_rotated = facts.location.number > 0
    generation = Generation(
        id=0,
        stream=stream.id,
        device=facts.identity[0],
        inode=facts.identity[1],
        head_length=0,
        head=b"",
        marker=b"",
        cursor=Cursor(seq=base_seq),
        base_seq=base_seq,
        chain=start,
        block=start,
        modified=0,
        began=now,
        ended=now if is_rotated else None,
        how="rotated" if is_rotated else None,
    )
    return Life(stream, generation, NOTHING, ending)


def advance(life: Life, data: bytes, after: Cursor, chain: bytes, block: bytes, modified: int) -> Generation:
    """The generation's fingerprints and watermark once `data` has been taken, of a file with that time stamp."""
    generation, seen = life.generation, life.glance
    head_length, head = generation.head_length, generation.head
    if head_length < HEAD_BYTES:
        first = seen.head + data[: HEAD_BYTES - head_length]
        head_length, head = len(first), digest(first)
    marker = digest((seen.before + data[-MARKER_BYTES:])[-MARKER_BYTES:])
    return generation._replace(
        head_length=head_length, head=head, marker=marker, cursor=after, chain=chain, block=block, modified=modified
    )
