"""Bytes to events and rejects: every expectation here is counted by hand."""

from __future__ import annotations

import pytest

from codex.logging.events import Batch, Cursor
from codex.logging.ingest.formats import native
from codex.logging.ingest.lines import decode, decode_line, decode_oversize, decode_tail
from codex.logging.store.rows import rows_of

Span = tuple[int, int, int, int, str]
Bad = tuple[int, int, int, str]


START = Cursor()


def take(data: bytes, cursor: Cursor = START) -> Batch:
    return decode(data, cursor, native.decode)


def events(batch: Batch) -> list[Span]:
    """seq, part, offset, length, message."""
    return [(e.seq, e.part, e.offset, e.length, e.fields.message) for e in batch.events]


def rejects(batch: Batch) -> list[Bad]:
    """seq, offset, length, reason."""
    return [(r.seq, r.offset, r.length, r.reason) for r in batch.rejects]


def test_each_line_is_one_event_at_its_offset() -> None:
    """Whole lines of one object each: seq counts from the cursor's on, offset and length cover the object."""
    batch = take(b'{"message":"a"}\n{"message":"bc"}\n', Cursor(offset=100, seq=7, lines=3))
    assert events(batch) == [(8, 0, 100, 15, "a"), (9, 0, 116, 16, "bc")]
    assert rejects(batch) == []
    assert batch.after == Cursor(offset=133, seq=9, lines=5)


def test_glued_objects_are_parts_of_one_line() -> None:
    """Objects on one line, with or without white space between them, share its seq and count as parts."""
    batch = take(b'{"message":"a"}{"message":"b"} \t{"message":"c"}\r\n{"message":"d"}\n')
    assert events(batch) == [(1, 0, 0, 15, "a"), (1, 1, 15, 15, "b"), (1, 2, 32, 15, "c"), (2, 0, 49, 15, "d")]
    assert rejects(batch) == []


@pytest.mark.parametrize(
    ("line", "span", "reason"),
    [
        (b"", (0, 0), "blank"),
        (b" \t\r", (0, 3), "blank"),
        (b"not json", (0, 8), "json"),
        (b"  not json  ", (2, 8), "json"),
        (b'{"a":', (0, 5), "json"),
        (b'{"a":1', (0, 6), "json"),
        (b"{'a':1}", (0, 7), "json"),
        (b'{"a":01}', (0, 8), "json"),
        (b'{"a":"\x01"}', (0, 9), "json"),
        (b'{"a":"\\x"}', (0, 10), "json"),
        (b'{"a":NaN}', (0, 9), "json"),
        (b'{"a":-Infinity}', (0, 15), "json"),
        (b"[1,2]", (0, 5), "object"),
        (b'"text"', (0, 6), "object"),
        (b"12", (0, 2), "object"),
        (b"null", (0, 4), "object"),
        (b"1 2", (0, 3), "json"),
        (b'{"a":"\xff"}', (0, 9), "encoding"),
        (b'{"a":"\xed\xa0\x80"}', (0, 11), "encoding"),
        (b"\xff\xfe", (0, 2), "encoding"),
        (b"\xef\xbb\xbf{}", (0, 5), "json"),
        (b"\0\0\0", (0, 3), "nul"),
        (b"  \0\0 ", (2, 2), "nul"),
        (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", (0, 20_006), "nesting"),
        (b"[" * 10_000 + b"]" * 10_000, (0, 20_000), "nesting"),
    ],
)
def test_a_bad_line_is_one_reject_and_the_next_line_arrives(line: bytes, span: tuple[int, int], reason: str) -> None:
    """What is no object is a reject that covers the bad bytes alone, and wedges nothing."""
    before = b'{"message":"a"}\n'
    batch = take(before + line + b'\n{"message":"z"}\n')
    assert rejects(batch) == [(2, 16 + span[0], span[1], reason)]
    assert events(batch) == [(1, 0, 0, 15, "a"), (3, 0, 16 + len(line) + 1, 15, "z")]
    assert batch.after == Cursor(16 + len(line) + 17, 3, 3)


@pytest.mark.parametrize(
    "line",
    [
        b'{"message":"a","n":1e400}',
        b'{"message":"a","n":%s}' % (b"9" * 6000),
        b'{"message":"a","ts":1e400}',
        b'{"message":"x","message":"a"}',
        b'{"message":"a","k":"\x7f\xc2\x80\xf4\x8f\xbf\xbf"}',
        b'{"message":"a"}\r',
        b' {"message":"a"}',
    ],
)
def test_odd_objects_are_events(line: bytes) -> None:
    """Huge numbers, doubled keys, every scalar of UTF-8 and CRLF are no reason to reject: also as a glued part."""
    for data, count in ((line + b"\n", 1), (b"{}" + line + b"\n", 2)):
        batch = take(data)
        assert rejects(batch) == []
        assert [e.fields.message for e in batch.events][-1] == "a"
        assert len(batch.events) == count


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_lone_surrogate_reads_as_the_replacement_character(ending: bytes) -> None:
    """Half a pair becomes U+FFFD, a whole pair stays, an escaped backslash before `ud83d` is left alone."""
    text = rb'{"message":"\ud83d \uDE00 \ud83d\ude00 \\ud83d","\ud800":"\udfff"}'
    (event,) = take(text + ending).events
    assert event.fields.message == "\ufffd \ufffd \U0001f600 \\ud83d"
    assert event.fields.meta == '{"\ufffd":"\\ufffd"}'
    assert (event.offset, event.length) == (0, len(text))


def test_every_byte_value_is_accounted_for() -> None:
    """A line for each of the 256 bytes, alone and inside a string: one event or one reject each."""
    for value in range(256):
        byte = bytes([value])
        if byte == b"\n":
            continue
        batch = take(b'%s\n{"message":"%s"}\n{"message":"z"}\n' % (byte, byte))
        seqs = sorted([e.seq for e in batch.events] + [r.seq for r in batch.rejects])
        assert seqs == [1, 2, 3], byte
        assert batch.events[-1].fields.message == "z"
        good = value >= 0x20 and value < 0x80 and byte not in b'"\\'
        assert len(batch.events) == (2 if good else 1), byte


def test_junk_behind_an_object_is_rejected_up_to_the_line_end() -> None:
    """The object stays an event; the rest of its line is one reject, whatever stands in it."""
    batch = take(b'{"message":"a"} junk {"message":"b"} \r\n{"message":"c"}\n')
    assert events(batch) == [(1, 0, 0, 15, "a"), (2, 0, 39, 15, "c")]
    assert rejects(batch) == [(1, 16, 20, "json")]


def test_bad_utf8_behind_an_object_spares_the_object() -> None:
    """Encoding is judged for each object apart."""
    batch = take(b'{"message":"a"}{"message":"\xff"}\n')
    assert events(batch) == [(1, 0, 0, 15, "a")]
    assert rejects(batch) == [(1, 15, 15, "encoding")]


def test_objects_behind_nul_runs_are_decoded() -> None:
    """A run of NULs before or between objects is a reject of its own."""
    batch = take(b'\0\0{"message":"a"} \0{"message":"b"}\0\n\0\n{"message":"c"}\n')
    assert events(batch) == [(1, 0, 2, 15, "a"), (1, 1, 19, 15, "b"), (3, 0, 38, 15, "c")]
    assert rejects(batch) == [(1, 0, 2, "nul"), (1, 18, 1, "nul"), (1, 34, 1, "nul"), (2, 36, 1, "nul")]


def test_nul_runs_one_behind_another_are_one_reject() -> None:
    """A line of a million NUL runs makes no million rejects."""
    batch = take(b"\0 " * 1_000_000 + b"{}\n{}\n")
    assert rejects(batch) == [(1, 0, 1, "nul"), (1, 2, 2_000_000, "nul")]
    assert [e.seq for e in batch.events] == [2]


def test_the_257th_object_of_a_line_is_rejected() -> None:
    """One line makes at most 256 events; what follows them is one reject."""
    batch = take(b"{}" * 300 + b"\n{}\n")
    assert [(e.seq, e.part) for e in batch.events] == [*((1, part) for part in range(256)), (2, 0)]
    assert rejects(batch) == [(1, 512, 88, "parts")]


def test_a_bom_is_skipped_at_the_start_of_the_file_only() -> None:
    """At offset 0 it is nothing, elsewhere it is no JSON."""
    bom = b"\xef\xbb\xbf"
    batch = take(bom + b'{"message":"a"}\n' + bom + b"{}\n")
    assert events(batch) == [(1, 0, 3, 15, "a")]
    assert rejects(batch) == [(2, 19, 5, "json")]
    assert rejects(take(bom + b" \n")) == [(1, 3, 1, "blank")]
    tail = decode_tail(bom + b'{"message":"a"}', Cursor(), native.decode)
    assert tail is not None
    assert events(tail) == [(1, 0, 3, 15, "a")]


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(offset=7, seq=3, lines=3),
        Cursor(offset=7, seq=3, lines=3, line_seq=3, parts=1),
        Cursor(offset=7, seq=3, lines=3, line_seq=3, skip_from=4, skip_reason="nul"),
    ],
    ids=["at a line's begin", "within a line", "behind NULs"],
)
@pytest.mark.parametrize(
    "line", [b'{"message":"a"}', b'{"message":"a"}{"message":"b"} x', b" \r", b"\0\0{}", b'{"a":"\xff"}']
)
def test_a_line_without_its_line_feed_gives_the_same(line: bytes, cursor: Cursor) -> None:
    """Whatever stands in it, and wherever it begins."""
    batch, whole = decode_line(line, cursor, native.decode), take(line + b"\n", cursor)
    assert batch == whole
    assert batch.data == line + b"\n"


@pytest.mark.parametrize("length", [1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_the_bytes_of_a_long_line_come_in_pieces(length: int) -> None:
    """Each of a MiB at most, but for the line feed; together they are all of it."""
    line = b"x" * length
    batch = decode_line(line, START, native.decode)
    assert max(map(len, batch.pieces)) <= (1 << 20) + 1
    assert batch.data == line + b"\n"
    edges = rows_of(batch, 0).edges
    assert (edges[:1024], edges[-64:]) == (batch.data[:1024], batch.data[-64:])
    assert batch.after.offset == length + 1


def test_a_tail_of_whole_objects_is_taken_and_its_line_stays_open() -> None:
    """The line feed that comes later closes the line and gives nothing."""
    tail = decode_tail(b'{"message":"a"} {"message":"b"} ', Cursor(offset=10, seq=4, lines=4), native.decode)
    assert tail is not None
    assert events(tail) == [(5, 0, 10, 15, "a"), (5, 1, 26, 15, "b")]
    assert tail.data == b'{"message":"a"} {"message":"b"}'
    assert tail.after == Cursor(offset=41, seq=5, lines=5, line_seq=5, parts=2)
    closing = take(b' \r\n{"message":"c"}\n', tail.after)
    assert events(closing) == [(6, 0, 44, 15, "c")]
    assert rejects(closing) == []
    assert closing.after == Cursor(offset=60, seq=6, lines=6)


def test_what_follows_a_taken_tail_on_its_line_goes_on_counting_parts() -> None:
    """As if the line had been read whole."""
    tail = decode_tail(b'{"message":"a"}', Cursor(), native.decode)
    assert tail is not None
    rest = take(b'{"message":"b"}junk\n', tail.after)
    assert events(rest) == [(1, 1, 15, 15, "b")]
    assert rejects(rest) == [(1, 30, 4, "json")]
    assert rest.after == Cursor(35, 1, 1)


@pytest.mark.parametrize(
    "tail", [b'{"a":1', b'{"a":{}', b"[1]", b"12", b"", b" ", b'{"a":1} x', b"{}\0{}", b'{"\xff":1}']
)
def test_a_tail_that_is_not_whole_objects_waits(tail: bytes) -> None:
    """Nothing is taken of it, whatever follows may make sense of it."""
    assert decode_tail(tail, Cursor(), native.decode) is None


def test_a_nul_run_is_passed_over_before_its_line_ends() -> None:
    """However long it is, it needs no memory: chunk after chunk of it is one reject in the end."""
    first = take(b"\0" * 5)
    assert (events(first), rejects(first)) == ([], [])
    assert first.after == Cursor(5, 1, 1, 1, 0, 0, "nul")
    second = take(b"\0" * 3, first.after)
    assert second.after == Cursor(8, 1, 1, 1, 0, 0, "nul")
    third = take(b'\0{"message":"a"}\n{}\n', second.after)
    assert events(third) == [(1, 0, 9, 15, "a"), (2, 0, 25, 2, "")]
    assert rejects(third) == [(1, 0, 9, "nul")]
    assert third.after == Cursor(28, 2, 2)


def test_a_nul_run_behind_a_taken_tail_is_passed_over_too() -> None:
    """The line that the tail opened stays the same line."""
    tail = decode_tail(b'{"message":"a"}', Cursor(), native.decode)
    assert tail is not None
    run = take(b"\0\0", tail.after)
    assert run.after == Cursor(17, 1, 1, 1, 1, 15, "nul")
    rest = take(b'{"message":"b"}\n', run.after)
    assert events(rest) == [(1, 1, 17, 15, "b")]
    assert rejects(rest) == [(1, 15, 2, "nul")]


def test_a_line_over_the_limit_is_one_reject_of_all_its_bytes() -> None:
    """It is passed over chunk by chunk; the line after it has the next seq."""
    first = decode_oversize(b"x" * 10, Cursor(offset=5, seq=1, lines=1))
    assert first.after == Cursor(15, 2, 2, 2, 0, 5, "oversize")
    second = decode_oversize(b"x" * 10, first.after)
    third = decode_oversize(b"xx\n", second.after)
    assert rejects(third) == [(2, 5, 22, "oversize")]
    assert third.after == Cursor(28, 2, 2)
    assert [b.events for b in (first, second, third)] == [[], [], []]


def test_a_line_over_the_limit_behind_nuls_is_two_rejects() -> None:
    """The run of NULs ends where the long line's bytes begin."""
    run = take(b"\0\0")
    rest = decode_oversize(b"x" * 10 + b"\n", run.after)
    assert rejects(rest) == [(1, 0, 2, "nul"), (1, 2, 10, "oversize")]
    assert rest.after == Cursor(13, 1, 1)
