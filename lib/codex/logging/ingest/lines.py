"""Bytes to events: pure, and the same for any chunking of the same bytes.

A line is taken object by object. A run of NULs is a reject of its own, and what follows it is decoded; anything else
that is no object is rejected up to the end of its line. So a glued line gives its objects, a torn one its whole part,
and a tail that is taken before its line ends gives what the whole line would have given.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import NoReturn

import msgspec

from codex.logging.events import MAX_PARTS, Batch, Cursor, Event, Fields, Reject

Decode = Callable[[bytes], Sequence[Fields]]
PIECE_BYTES = 1 << 20

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r"
_BLANK_RUN = re.compile(rb"[ \t\r]*+")
_NUL_RUN = re.compile(rb"\0*+")
# Up to the next half of a surrogate pair: other characters, whole pairs, and other escapes are passed over.
_LONE_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?!\\u[dD][89a-fA-F][0-9a-fA-F]{2})\\.)*+"
    rb"(?P<escape>\\u[dD]...)",
    re.DOTALL,
)
_VALUE = msgspec.json.Decoder(msgspec.Raw)
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


def decode(data: bytes, cursor: Cursor, decode_object: Decode) -> Batch:
    """The batch of whole lines: `data` begins at the cursor and ends in a line feed, or lies within a skip."""
    taken = _Taken(cursor, decode_object)
    start = 0
    while start < len(data):
        if taken.skip_reason:
            start += taken.skip(data, start)
        elif not data.endswith(b"\n"):
            taken.begin_skip(cursor.offset + start, "nul")
        elif taken.line_seq:
            end = data.index(b"\n", start)
            taken.close_line(data[start:end], cursor.offset + start)
            start = end + 1
        else:
            start = taken.take_lines(data, start, cursor.offset)
    return taken.batch(data, cursor)


def decode_line(line: bytes, cursor: Cursor, decode_object: Decode) -> Batch:
    """The batch of one whole line, which is given without its line feed, so that a long one needn't be copied."""
    if cursor.skip_reason or cursor.line_seq:
        return decode(line + b"\n", cursor, decode_object)
    taken = _Taken(cursor, decode_object)
    taken.take([line], cursor.offset, sound=_is_utf8(line))
    return taken.batch(line, cursor, closed=True)


def decode_oversize(data: bytes, cursor: Cursor) -> Batch:
    """The batch of the first bytes of a line that is over the limit: they are passed over from here on."""
    taken = _Taken(cursor, _refuse)
    if taken.skip_reason != "oversize":
        taken.end_nul_run(cursor.offset)
        taken.begin_skip(cursor.offset, "oversize")
    taken.skip(data, 0)
    return taken.batch(data, cursor)


def decode_tail(data: bytes, cursor: Cursor, decode_object: Decode) -> Batch | None:
    """The batch of an unterminated tail, if it is whole objects and nothing else; its line stays open."""
    body = data.rstrip(_BLANKS)
    if not body.endswith(b"}"):
        return None
    taken = _Taken(cursor, decode_object)
    taken.end_nul_run(cursor.offset)
    taken.open_line()
    known = len(taken.rejects)
    taken.objects(body, cursor.offset)
    if len(taken.rejects) > known or not taken.events:
        return None
    return taken.batch(body, cursor)


def first_object(line: bytes) -> bytes:
    """The object that a line begins with, behind blanks, NULs and a mark of byte order; the line itself if none is."""
    start = line.lstrip(_BOM + _BLANKS + b"\0")
    try:
        return _first_object(memoryview(_without_lone_surrogates(start)))
    except _MALFORMED:
        return start


def pieces(data: bytes, ending: bytes = b"") -> list[bytes | memoryview]:
    """The data with what ends it, in pieces of at most a MiB; all but the last share the memory of the data."""
    if len(data) <= PIECE_BYTES:
        return [data + ending]
    view, last = memoryview(data), (len(data) - 1) // PIECE_BYTES * PIECE_BYTES
    return [*(view[start : start + PIECE_BYTES] for start in range(0, last, PIECE_BYTES)), data[last:] + ending]


class _NoObjectError(ValueError):
    """What stands here is no object, for `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Taken:
    """What has been taken from one chunk so far."""

    def __init__(self, cursor: Cursor, decode_object: Decode) -> None:
        self.seq, self.lines, self.line_seq, self.parts = (
            cursor.seq,
            cursor.lines,
            cursor.line_seq,
            cursor.parts,
        )
        self.skip_from, self.skip_reason = cursor.skip_from, cursor.skip_reason
        self.events: list[Event] = []
        self.rejects: list[Reject] = []
        self._behind_nul = False
        self._decode = decode_object
        self._offset = cursor.offset

    def batch(self, data: bytes, before: Cursor, *, closed: bool = False) -> Batch:
        """What was taken, with its bytes; `closed` where a line feed stands behind them."""
        after = Cursor(
            before.offset + len(data) + closed,
            self.seq,
            self.lines,
            self.line_seq,
            self.parts,
            self.skip_from,
            self.skip_reason,
        )
        return Batch(pieces(data, b"\n" * closed), before, after, self.events, self.rejects)

    def open_line(self) -> None:
        if not self.line_seq:
            self.seq += 1
            self.lines += 1
            self.line_seq, self.parts = self.seq, 0

    def end_line(self) -> None:
        self.line_seq = self.parts = 0

    def begin_skip(self, offset: int, reason: str) -> None:
        self.open_line()
        self.skip_from, self.skip_reason = offset, reason

    def skip(self, data: bytes, start: int) -> int:
        """Pass over what the skip covers; the count of bytes that this consumed."""
        if self.skip_reason == "nul":
            end = _end_of(_NUL_RUN, data, start)
            if end < len(data):
                self.end_nul_run(self._offset + end)
            return end - start
        end = data.find(b"\n", start)
        if end < 0:
            return len(data) - start
        self._end_skip(self._offset + end, "longer than the line limit; its bytes are kept")
        self.end_line()
        return end + 1 - start

    def end_nul_run(self, offset: int) -> None:
        if self.skip_reason == "nul":
            self._end_skip(offset, "a run of NUL bytes")
            self._behind_nul = True

    def _end_skip(self, offset: int, detail: str) -> None:
        self._reject(self.skip_from, offset - self.skip_from, self.skip_reason, detail)
        self.skip_from, self.skip_reason = -1, ""

    def take_lines(self, data: bytes, start: int, origin: int) -> int:
        """Take the whole lines from `start` to the end of the data, which comes back."""
        self.take(data[start:].split(b"\n")[:-1], origin + start, sound=_is_utf8(data))
        return len(data)

    def take(self, lines: list[bytes], following: int, *, sound: bool) -> None:
        """Take whole lines, of which the first begins at that offset; sound ones are known to be UTF-8."""
        events, decode_object, seq = self.events, self._decode, self.seq
        for line in lines:
            seq += 1
            offset = following
            following += len(line) + 1
            try:
                if line[:1] != b"{" or line[-1:] != b"}" or not (sound or _is_utf8(line)):
                    raise ValueError
                many = decode_object(line)
            except _MALFORMED:
                self.line_seq = seq
                self._whole(line, offset)
                self.end_line()
                continue
            for part, fields in enumerate(many):
                events.append(Event(seq, part, offset, len(line), fields))
        self.lines += seq - self.seq
        self.seq = seq

    def close_line(self, rest: bytes, offset: int) -> None:
        self.objects(rest, offset)
        self.end_line()

    def _whole(self, line: bytes, offset: int) -> None:
        bom = len(_BOM) if offset == 0 and line.startswith(_BOM) else 0
        if line[bom:].strip(_BLANKS):
            self.objects(line, offset)
        else:
            self._reject(offset + bom, len(line) - bom, "blank", "")

    def objects(self, body: bytes, offset: int) -> None:
        """Take objects from the rest of a line; `offset` is where `body` begins in the generation."""
        body = body.rstrip(_BLANKS)
        sound = memoryview(_without_lone_surrogates(body))
        start = len(_BOM) if offset == 0 and body.startswith(_BOM) else 0
        while (start := _end_of(_BLANK_RUN, body, start)) < len(body):
            try:
                if body[start] == 0:
                    start = self._nul_run(body, start, offset)
                else:
                    start += self._object(sound[start:], offset + start)
            except _MALFORMED as error:
                self._reject(offset + start, len(body) - start, *_why_none(body[start:], error))
                break
        self._behind_nul = False

    def _nul_run(self, body: bytes, start: int, offset: int) -> int:
        """Reject the run at `start`: where it ends. One behind another is no place for an object any more."""
        if self._behind_nul:
            raise _NoObjectError("nul", "run after run of NUL bytes")
        end = _end_of(_NUL_RUN, body, start)
        self._reject(offset + start, end - start, "nul", "a run of NUL bytes")
        self._behind_nul = True
        return end

    def _object(self, rest: memoryview, offset: int) -> int:
        """Take the object that `rest` begins with: its length."""
        raw = _first_object(rest)
        many = self._decode(raw)
        if self.parts + len(many) > MAX_PARTS:
            raise _NoObjectError("parts", f"more than {MAX_PARTS} events on one line")
        for fields in many:
            self.events.append(Event(self.line_seq, self.parts, offset, len(raw), fields))
            self.parts += 1
        self._behind_nul = False
        return len(raw)

    def _reject(self, offset: int, length: int, reason: str, detail: str) -> None:
        self.rejects.append(Reject(self.line_seq, offset, length, reason, detail))


def _refuse(line: bytes) -> NoReturn:
    raise AssertionError("nothing is decoded within a skip")


def _end_of(run: re.Pattern[bytes], data: bytes, start: int) -> int:
    """Where the run that begins at `start`, if any, ends."""
    found = run.match(data, start)
    assert found is not None
    return found.end()


def _first_object(rest: memoryview) -> bytes:
    """The bytes of the one object that `rest` begins with; no copy where it is all that `rest` is a view of.

    Raises msgspec.DecodeError, RecursionError or _NoObjectError where there is none.
    """
    try:
        _VALUE.decode(rest)
        found = rest.obj if isinstance(rest.obj, bytes) and len(rest.obj) == len(rest) else bytes(rest)
    except msgspec.DecodeError as error:
        trailing = _TRAILING.search(str(error))  # a decoder that stops behind the first value doesn't exist
        if trailing is None:
            raise
        found = bytes(rest[: int(trailing[1]) - 1]).rstrip(_BLANKS)
    if found[:1] != b"{":
        whole = len(found) == len(rest)
        raise _NoObjectError("object" if whole else "json", "JSON, but no object" if whole else "no JSON object")
    if not _is_utf8(found):
        raise _NoObjectError("encoding", "not UTF-8")
    return found


def _why_none(rest: bytes, error: Exception) -> tuple[str, str]:
    """Reason and detail of a reject: the span, and what went wrong at its first byte."""
    if isinstance(error, _NoObjectError) and error.reason in {"nul", "parts"}:
        return error.reason, str(error)
    if not _is_utf8(rest):
        return "encoding", "not UTF-8"
    if isinstance(error, RecursionError):
        return "nesting", "nested too deep"
    return getattr(error, "reason", "json"), str(error)[:200]


def _without_lone_surrogates(raw: bytes) -> bytes:
    """JSON whose \\ud83d without its other half (JavaScript agents cut texts so) reads as U+FFFD; length unchanged."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    sound, start = BytesIO(raw), 0
    while found := _LONE_SURROGATE.match(raw, start):
        start = found.end()
        sound.seek(found.start("escape"))
        sound.write(b"\\ufffd")
    return sound.getvalue()


def _is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8, in bounded memory: a decoded copy may be four times as large."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), PIECE_BYTES):
            decoder.decode(data[start : start + PIECE_BYTES])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True
