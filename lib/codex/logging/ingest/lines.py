"""Bytes to events: pure, and the same for any chunking of the same bytes.

A line is taken object by object. What is no object becomes a reject of its own, up to the next place where an
object could begin: after a run of NULs, else at the next line. So a glued line gives its objects, a torn one its
whole part, and a tail that is taken before its line ends gives what the whole line would have given.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import msgspec

from codex.logging.events import MAX_PARTS, Batch, Cursor, Event, Fields, Reject

Decode = Callable[[bytes], Sequence[Fields]]

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r"
_REPAIR_LIMIT = 16 << 20
_PIECE = 1 << 20
_SURROGATES = re.compile(
    r"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


def decode(data: bytes, cursor: Cursor, decode_object: Decode) -> Batch:
    """The batch of whole lines: `data` begins at the cursor and ends in a line feed, or lies within a skip."""
    taken = _Taken(cursor, decode_object)
    start = 0
    while start < len(data):
        if taken.skip_reason:
            start += taken.skip(data, start)
        elif taken.line_seq:
            end = data.index(b"\n", start)
            taken.close_line(data[start:end], cursor.offset + start)
            start = end + 1
        elif data.endswith(b"\n"):
            start = taken.take_lines(data, start, cursor.offset)
        else:
            taken.begin_skip(cursor.offset + start, "nul")
    return taken.batch(data, cursor)


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


class _Place(NamedTuple):
    """Where in a line the next object may begin: byte index, and why what stands there is none."""

    start: int
    reason: str = ""
    detail: str = ""


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
        self._decode = decode_object
        self._offset = cursor.offset

    def batch(self, data: bytes, before: Cursor) -> Batch:
        after = Cursor(
            before.offset + len(data),
            self.seq,
            self.lines,
            self.line_seq,
            self.parts,
            self.skip_from,
            self.skip_reason,
        )
        return Batch(data, before, after, self.events, self.rejects)

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
            end = len(data) - len(data[start:].lstrip(b"\0"))
            if end == len(data):
                return end - start
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

    def _end_skip(self, offset: int, detail: str) -> None:
        self._reject(self.skip_from, offset - self.skip_from, self.skip_reason, detail)
        self.skip_from, self.skip_reason = -1, ""

    def take_lines(self, data: bytes, start: int, origin: int) -> int:
        """Take the whole lines from `start` to the end of the data, which comes back."""
        sound = _is_utf8(data)
        events, decode_object, seq = self.events, self._decode, self.seq
        for line in data[start:].split(b"\n")[:-1]:
            seq += 1
            offset = origin + start
            start += len(line) + 1
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
        return start

    def close_line(self, rest: bytes, offset: int) -> None:
        self.objects(rest, offset)
        self.end_line()

    def _whole(self, line: bytes, offset: int) -> None:
        if offset == 0 and line.startswith(_BOM):
            line, offset = line[len(_BOM) :], len(_BOM)
        if line.strip(_BLANKS):
            self.objects(line, offset)
        else:
            self._reject(offset, len(line), "blank", "")

    def objects(self, body: bytes, offset: int) -> None:
        """Take objects from the rest of a line; `offset` is where `body` begins in the generation."""
        place = _Place(0)
        while True:
            place = _Place(len(body) - len(body[place.start :].lstrip(_BLANKS)))
            if place.start == len(body):
                return
            if body[place.start] == 0:
                end = len(body) - len(body[place.start :].lstrip(b"\0"))
                self._reject(offset + place.start, end - place.start, "nul", "a run of NUL bytes")
                place = _Place(end)
                continue
            place = self._object(body, place.start, offset)
            if place.reason:
                length = len(body.rstrip(_BLANKS)) - place.start
                self._reject(offset + place.start, length, place.reason, place.detail)
                return

    def _object(self, body: bytes, start: int, offset: int) -> _Place:
        """Take the object at `start`: where it ends, or why there is none."""
        if body[start] != ord("{"):
            return _Place(start, *_why_none(body[start:]))
        if len(body) - start > _REPAIR_LIMIT:
            return _Place(start, "json", "not one JSON object, and too long to look for the fault")
        try:
            raw = _first_object(body[start:])
            many = self._decode(_without_lone_surrogates(raw))
        except RecursionError:
            return _Place(start, "nesting", "nested too deep")
        except UnicodeDecodeError as error:
            return _Place(start, "encoding", f"not UTF-8: {error.reason} at byte {error.start}")
        except (ValueError, msgspec.MsgspecError) as error:
            return _Place(start, "json", str(error)[:200])
        if self.parts + len(many) > MAX_PARTS:
            return _Place(start, "parts", f"more than {MAX_PARTS} events on one line")
        for fields in many:
            self.events.append(Event(self.line_seq, self.parts, offset + start, len(raw), fields))
            self.parts += 1
        return _Place(start + len(raw))

    def _reject(self, offset: int, length: int, reason: str, detail: str) -> None:
        self.rejects.append(Reject(self.line_seq, offset, length, reason, detail))


def _refuse(line: bytes) -> NoReturn:
    raise AssertionError("nothing is decoded within a skip")


def _why_none(rest: bytes) -> tuple[str, str]:
    """The reason for which bytes that don't begin with `{` are no object."""
    if not _is_utf8(rest):
        return "encoding", "not UTF-8, and no JSON object"
    if len(rest) <= _REPAIR_LIMIT:
        try:
            json.loads(rest, parse_constant=_no_constant)
        except RecursionError:
            return "nesting", "nested too deep"
        except ValueError as error:
            return "json", str(error)[:200]
        return "object", "JSON, but no object"
    return "json", "no JSON object"


def _first_object(rest: bytes) -> bytes:
    """The bytes of the one object that `rest` begins with. Raises ValueError where there is none."""
    text = rest.decode("utf-8", "surrogateescape")
    _, end = _SCANNER.raw_decode(text)
    found = text[:end].encode("utf-8", "surrogateescape")
    found.decode("utf-8")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_SCANNER = json.JSONDecoder(parse_constant=_no_constant)


def _without_lone_surrogates(raw: bytes) -> bytes:
    """JSON whose \\ud83d without its other half (JavaScript agents cut texts so) reads as U+FFFD instead."""
    if b"\\u" not in raw:
        return raw
    return _SURROGATES.sub(lambda m: "\\ufffd" if m["lone"] else m[0], raw.decode()).encode()


def _is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8, in bounded memory: a decoded copy may be four times as large."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _PIECE):
            decoder.decode(data[start : start + _PIECE])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True
