"""Which bytes come next: batches of whole lines, longer lines, skips and tails, at small limits."""

from __future__ import annotations

import pytest

from codex.logging.events import Cursor
from codex.logging.ingest.reader import MOST_LINES, Chunk, Limits, next_chunk

LIMITS = Limits(batch=8, line=16)


class Memory:
    """A file's bytes, and how many of them were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken = 0

    def read(self, offset: int, length: int) -> bytes:
        found = self.data[offset : offset + length]
        assert len(found) == length, "asked for what isn't there"
        self.taken += length
        return found


def chunk(data: bytes, cursor: Cursor | None = None, *, scanned: int = 0, tail: bool = False) -> Chunk:
    return next_chunk(Memory(data), len(data), cursor or Cursor(), LIMITS, scanned=scanned, tail=tail)


def test_a_batch_ends_at_its_last_line_feed() -> None:
    """The rest is for the next one."""
    assert chunk(b"ab\ncd\nef\n") == Chunk(b"ab\ncd\n", more=True)
    assert chunk(b"ab\ncd\nef\n", Cursor(6)) == Chunk(b"ef\n")


def test_a_batch_of_very_short_lines_is_a_smaller_one() -> None:
    """What is made of a line takes more memory than the line: their number is bounded too."""
    data = b"\n" * (3 * MOST_LINES)
    limits = Limits(len(data), len(data))
    found = next_chunk(Memory(data), len(data), Cursor(), limits)
    assert found.more
    assert 0 < len(found.data) <= MOST_LINES


def test_an_unterminated_line_gives_nothing() -> None:
    """It is remembered how far there is no line feed."""
    assert chunk(b"ab\ncd", Cursor(3)) == Chunk(scanned=5)


def test_nothing_behind_the_cursor_gives_nothing() -> None:
    """Neither with nor without its tail."""
    assert chunk(b"ab\n", Cursor(3)) == Chunk(scanned=3)
    assert chunk(b"ab\n", Cursor(3), tail=True) == Chunk(scanned=3)


@pytest.mark.parametrize("length", [8, 9, 15, 16])
def test_a_line_longer_than_a_batch_comes_whole(length: int) -> None:
    """Up to the line limit itself, its line feed not counted; without that, so that it needn't be copied."""
    line = b"x" * length + b"\n"
    assert chunk(line + b"ab\n") == Chunk(line=line[:-1], more=True)


@pytest.mark.parametrize("length", [17, 23, 24, 25, 100])
@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_line_over_the_limit_is_skipped_a_batch_at_a_time(length: int, ending: bytes) -> None:
    """Also before its end is there; each skip ends at the line's end at the latest."""
    data = b"x" * length + ending + b"ab\n" * bool(ending)
    first = chunk(data)
    assert first == Chunk(b"x" * 8, oversize=True, more=True)
    cursor, skipped = Cursor(8, skip_from=0, skip_reason="oversize"), 8
    while skipped < length + len(ending):
        found = chunk(data, cursor)
        assert found.oversize
        skipped += len(found.data)
        cursor = cursor._replace(offset=skipped)
    assert data[skipped:] in (b"", b"ab\n")


def test_a_search_goes_on_where_it_ended() -> None:
    """A line that grows slowly is not read again from its start each time."""
    source = Memory(b"x" * 12)
    assert next_chunk(source, 12, Cursor(), LIMITS, scanned=10) == Chunk(scanned=12)
    assert source.taken == 2
    source = Memory(b"x" * 12 + b"\n")
    assert next_chunk(source, 13, Cursor(), LIMITS, scanned=12) == Chunk(line=b"x" * 12)


@pytest.mark.parametrize("data", [b"ab\ncd\nef\n", b"ab\n" + b"x" * 12 + b"\n", b"ab\n" + b"x" * 20])
def test_what_was_scanned_may_have_been_cut_and_have_grown_anew(data: bytes) -> None:
    """Several lines stand where a part of one stood: they are lines of their own, none of them over the limit."""
    assert chunk(data, scanned=4) == chunk(data)
    assert chunk(b"ab\n" + b"x" * 20, scanned=22) == Chunk(b"ab\n", more=True)


def test_a_tail_is_given_when_it_is_asked_for_and_all_there_is() -> None:
    """Whole lines come first; a line over the limit has no tail."""
    assert chunk(b"{}", tail=True).tail == b"{}"
    assert chunk(b"ab\n{}", tail=True) == Chunk(b"ab\n", more=True)
    assert chunk(b"ab\n{}") == Chunk(b"ab\n")
    assert chunk(b"x" * 16, tail=True).tail == b"x" * 16
    assert chunk(b"x" * 17, tail=True).oversize


def test_nuls_are_given_before_their_line_ends() -> None:
    """So a hole of any size passes in batches; what follows it is looked at as a line of its own."""
    hole = b"\0" * 20 + b"ab"
    assert chunk(hole) == Chunk(b"\0" * 8, more=True)
    inside = Cursor(16, line_seq=1, skip_from=0, skip_reason="nul")
    assert chunk(hole, inside) == Chunk(b"\0" * 4)
    assert chunk(hole, inside._replace(offset=20)) == Chunk(scanned=22)
    assert chunk(hole + b"\n", inside._replace(offset=20)) == Chunk(b"ab\n")
