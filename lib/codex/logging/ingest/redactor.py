"""Secrets, taken out of what was read before anything of it is written: the database never has them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import apsw

from codex.logging import config
from codex.logging.events import Cursor
from codex.logging.ingest.reader import Bytes, Chunk
from codex.logging.secrets.placeholder import digest
from codex.logging.secrets.scan import OVERLAP_BYTES
from codex.logging.secrets.search import Search
from codex.logging.store.connection import scalar
from codex.logging.store.spans import Span, masked, proof
from codex.logging.store.sqlite import Store

_NOTE = "redact"
_INGEST = "ingest"
_WINDOW = 1 << 20
_NAME_BYTES = 1024  # what a secret is assigned to stands no further before it
_EDGE_BYTES = 1024
_BLANKS = b" \t\r"
_EMPTY = _BLANKS + b"\0"  # a run of NULs is no line's part: it must stay what it is
_MOST = 512
# A key as it lies in its own file, line by line: no JSON is in it. The lines may come one at a time.
_KEY_BYTES = 16 << 10
_KEY_HEAD = b"-----BEGIN "
_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?P<body>(?:[^-\"{\\]|-(?!----)){0,%d}+)" % _KEY_BYTES
)
_KEY_RULE = "private-key"


def carry(former: apsw.Connection, new: Store) -> None:
    """Let a database that takes another's place take secrets out where that one did."""
    new.note(_NOTE, scalar(former, "SELECT value FROM meta WHERE key = ?", (_NOTE,)))


Place = tuple[int, int, str]  # bytes [start, end) of a text, and by which rule


class Hidden(NamedTuple):
    """A chunk with filler in the spans; `edges` are the first and the last bytes of what was read, as read."""

    chunk: Chunk
    spans: list[Span]
    edges: bytes


class Redactor:
    """Takes secrets out of chunks, whatever they are cut into. Not for sharing between threads."""

    def __init__(self, store: Store, search: Search) -> None:
        self._store = store
        self._search = search
        self._keys_begun: dict[int, tuple[int, bytes]] = {}

    @classmethod
    def of(cls, store: Store, database: str | None = None, wanted: bool | None = None) -> Redactor | None:
        """The one for a store of this database (the store's own, where none is named); None where nothing is hidden.

        Where nobody says what is `wanted`, it is as it was the last time. Raises ConfigError, DatabaseError.
        """
        wanted = config.redacts() if wanted is None else wanted
        noted = store.noted(_NOTE) == _INGEST
        if wanted is None or wanted == noted:
            wanted = noted
        else:
            store.note(_NOTE, _INGEST if wanted else None)
        return cls(store, Search.of(database or store.path)) if wanted else None

    def whole(self, source: Bytes, size: int, chunk: Chunk, cursor: Cursor, *, tail: bool) -> Chunk:
        """The inside of a too long line, cut where no secret is cut; what may be one's beginning waits for the rest.

        With `tail` there is no rest to wait for.
        """
        data, end = chunk.data, cursor.offset + len(chunk.data)
        if not chunk.oversize or data.endswith(b"\n"):
            return chunk
        ahead = source.read(end, min(OVERLAP_BYTES, size - end))
        line, feed, _ = ahead.partition(b"\n")
        if not feed and end + len(ahead) == size and not tail:
            data, line = data[: len(data) + len(ahead) - OVERLAP_BYTES], b""
            return chunk._replace(data=data, more=False) if data else Chunk()
        behind = data[-OVERLAP_BYTES:]
        place = len(behind)
        for match, _hashed in self._search.find(behind + line):
            if match.start < place + _NAME_BYTES:
                place = max(place, match.end)
        more = line[: place - len(behind)]
        return chunk._replace(data=data + more, more=end + len(more) < size)

    def hide(self, chunk: Chunk, cursor: Cursor, generation: int, found: list[Place] | None = None) -> Hidden | None:
        """The chunk of a generation (0 for one that begins) without its secrets; None where it has none.

        `found` is what `find` gave for its content, where that was done already.
        """
        chunk = chunk._replace(tail=chunk.tail.rstrip(_BLANKS)) if chunk.tail else chunk
        said = chunk.content
        if not said:
            return None
        found = self.find(said) if found is None else found
        found = merged([*found, *self._keys(said, cursor.offset, generation)])
        if not found:
            return None
        now, key, spans = time.time(), self._search.key, list[Span]()
        for start, end, rule in in_lines(said, found):
            part = said[start:end]
            spans.append(Span(cursor.offset + start, end - start, rule, digest(key, part), proof(key, part), now))
        if not spans:
            return None
        stored = masked(said, cursor.offset, spans, lambda offset, length: b"")
        edges = said[:_EDGE_BYTES] + said[max(_EDGE_BYTES, len(said) - _EDGE_BYTES) :] + b"\n" * bool(chunk.line)
        if chunk.line:
            return Hidden(chunk._replace(line=stored), spans, edges)
        return Hidden(chunk._replace(data=stored) if chunk.data else chunk._replace(tail=stored), spans, edges)

    def find(self, said: bytes) -> list[Place]:
        """What the rules find, in any thread; of what a window cuts off the next one has the whole."""
        found = list[Place]()
        for begin in range(0, max(1, len(said)), _WINDOW):
            first = max(0, begin - OVERLAP_BYTES)
            window = said if len(said) <= _WINDOW else said[first : begin + _WINDOW]
            for match, _hashed in self._search.find(window):
                found.append((first + match.start, first + match.end, match.rule))
        return found

    def _keys(self, said: bytes, offset: int, generation: int) -> Iterator[Place]:
        """Lines of a private key that began in an earlier chunk, or doesn't end in this one."""
        begun = self._begun(generation, offset)
        if begun:
            found = _KEY.match(begun + said)
            assert found is not None
            yield 0, found.end() - len(begun), _KEY_RULE
        still = _unended(begun + said)
        if still and len(still) <= len(said):
            found = _KEY.match(still)
            assert found is not None
            yield len(said) - len(still) + found.start("body"), len(said), _KEY_RULE
        if len(self._keys_begun) >= _MOST:
            self._keys_begun.clear()
        if generation:
            self._keys_begun[generation] = (offset + len(said), still)

    def _begun(self, generation: int, offset: int) -> bytes:
        """The recorded lines, from its head on, of a private key that goes on at the offset."""
        known = self._keys_begun.get(generation)
        if known is not None and known[0] == offset:
            return known[1]
        start = max(0, offset - _KEY_BYTES)
        return _unended(self._store.recorded(generation, start, offset)) if generation and offset else b""


def _unended(text: bytes) -> bytes:
    """The private key, from its head on, that a text ends within."""
    start = text.rfind(_KEY_HEAD, max(0, len(text) - _KEY_BYTES))
    found = _KEY.match(text, start) if start >= 0 else None
    return text[start:] if found is not None and found.end() == len(text) else b""


def merged(found: list[Place]) -> list[Place]:
    """Starts, ends and rules, in order: what overlaps as one, by the rule of the first."""
    apart = list[Place]()
    for start, end, rule in sorted(found, key=lambda one: (one[0], -one[1])):
        if apart and start < apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end), apart[-1][2])
        else:
            apart.append((start, end, rule))
    return apart


def in_lines(said: bytes, found: list[Place]) -> Iterator[Place]:
    """Each line's part of what was found by itself; a line that is an object isn't a part of what began before it."""
    for start, end, rule in found:
        first = start
        while first < end:
            last = said.find(b"\n", first, end)
            last = end if last < 0 else last
            part = said[first:last]
            if part[:1] == b"{" and said[first - 1 : first] == b"\n":
                break
            first += len(part) - len(part.lstrip(_EMPTY + b"{"))  # a span that begins with a brace was an object
            if part := said[first:last].rstrip(_EMPTY):
                yield first, first + len(part), rule
            first = last + 1
