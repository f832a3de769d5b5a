"""What is to be erased, as it may stand in bytes: as it is, or escaped as JSON does, and JSON within JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from re import escape
from typing import NamedTuple

from codex.logging.ingest.reader import Bytes

_PIECE = 1 << 20
_DEPTH = 15  # backslashes before what is escaped: JSON four deep
_CHARACTER_BYTES = 2 * (_DEPTH + 5)  # the longest that one becomes: both halves of a pair
_SHORT = {"\b": b"b", "\f": b"f", "\n": b"n", "\r": b"r", "\t": b"t"}
_BARE = frozenset('"/')  # may be escaped by a backslash alone


class Hit(NamedTuple):
    """Bytes [start, end) that are one of the texts."""

    start: int
    end: int
    text: str


class Wanted:
    """Texts to find, none more than `longest` bytes. Time is linear in what is searched, whatever it is."""

    def __init__(self, texts: Sequence[str]) -> None:
        import re2

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = 256 << 20
        self._patterns = [(text, re2.compile(b"".join(map(_character, text)), options)) for text in texts]
        self.longest = max((len(text) * _CHARACTER_BYTES for text in texts), default=0)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def hits(self, source: Bytes, start: int, end: int) -> list[Hit]:
        """Where the texts stand in [start, end) of a source; one may be found again within a longer one."""
        found = dict[Hit, None]()
        place, data = start, b""
        while self._patterns and place < end and (piece := source.read(place, min(_PIECE, end - place))):
            data += piece
            place += len(piece)
            begin = place - len(data)
            found |= dict.fromkeys(hit._replace(start=begin + hit.start, end=begin + hit.end) for hit in self._in(data))
            data = data[-self.longest :]
        return sorted(found)

    def is_in(self, *texts: str | bytes | None) -> bool:
        """Whether any of these holds one."""
        return any(text and next(self._in(_encoded(text)), None) is not None for text in texts)

    def replaced(self, text: str, words: Callable[[str], str]) -> str:
        """The text with other words in the place of each that it holds."""
        data, parts, place = _encoded(text), list[bytes](), 0
        for hit in sorted(self._in(data)):
            if hit.start >= place:
                parts += [data[place : hit.start], words(hit.text).encode()]
                place = hit.end
        return b"".join([*parts, data[place:]]).decode("utf-8", "surrogatepass") if parts else text

    def _in(self, data: bytes) -> Iterator[Hit]:
        for text, pattern in self._patterns:
            for match in pattern.finditer(data):
                yield Hit(match.start(), match.end(), text)


def _encoded(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _character(character: str) -> bytes:
    """What matches a character, and each way to escape it."""
    if character == "\\":
        return rb"(?:\\{1,%d}u005[cC]|\\{1,%d})" % (_DEPTH, _DEPTH + 1)
    ways = [escape(character.encode())]
    if character in _BARE:
        ways = [rb"\\{0,%d}%b" % (_DEPTH, ways[0])]
    if character in _SHORT:
        ways.append(rb"\\{1,%d}%b" % (_DEPTH, _SHORT[character]))
    units = character.encode("utf-16-be")
    halves = (units[place : place + 2].hex() for place in range(0, len(units), 2))
    ways.append(b"".join(rb"\\{1,%d}u(?i:%b)" % (_DEPTH, half.encode()) for half in halves))
    return b"(?:%b)" % b"|".join(ways)
