"""Bytes that are recorded without what they said.

A span lies within one line, and within one event or reject of it; none overlaps another. The segments hold filler of
the same length there, so that every offset is the source's; chains are of the filler. What the bytes said only the
holder of the key can tell: by the placeholder's hash, or by the proof.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

import apsw

from codex.logging.store.connection import has_relation, scalar

ERASED = "erased"  # the rule of what was taken out later, on purpose
_PROOF_BYTES = 20
_FILLER = bytes(byte if byte in b"\n\0" else 0x2A for byte in range(256))  # lines and runs of NULs are what they were
_OBJECT = re.compile(rb"\{ *\}")
_READ = """
SELECT "offset", length, rule, hash, proof, redacted_at FROM redacted_spans
WHERE generation = ?1 AND "offset" >= coalesce(
    (SELECT max("offset") FROM redacted_spans WHERE generation = ?1 AND "offset" <= ?2), ?2)
  AND "offset" < ?3 AND "offset" + length > ?2 ORDER BY "offset\""""
_IS_ANY = "SELECT EXISTS (SELECT 1 FROM redacted_spans WHERE generation = ?)"
_WRITE = "INSERT OR REPLACE INTO redacted_spans VALUES (?, ?, ?, ?, ?, ?, ?)"
_FORGET = 'DELETE FROM redacted_spans WHERE generation = ? AND "offset" >= ? AND "offset" + length <= ?'
_END = 1 << 40


class Span(NamedTuple):
    """Bytes [offset, offset + length) of a generation, by which rule, and when (epoch seconds).

    `hash` is the placeholder's 8 hex digits.
    """

    offset: int
    length: int
    rule: str
    hash: str
    proof: bytes
    redacted_at: float

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.offset + self.length


def proof(key: bytes, said: bytes) -> bytes:
    """The keyed hash that proves later what a span's bytes said."""
    return blake2b(said, key=key, digest_size=_PROOF_BYTES, person=b"redacted span").digest()


def filler(said: bytes, *, whole: bool = False) -> bytes:
    """What stands in the place of a span's bytes, as long as they are; a `whole` object stays an object, an empty one.

    Only what was a whole object begins with a brace: its placeholder is an object as well.
    """
    if whole and len(said) > 1 and said[:1] == b"{" and said[-1:] == b"}":
        return b"{" + b" " * (len(said) - 2) + b"}"
    return said.translate(_FILLER)


def masked(data: bytes, start: int, spans: Iterable[Span], read: Callable[[int, int], bytes]) -> bytes:
    """A generation's bytes from `start` on, with filler in the spans; `read` gives what it has elsewhere."""
    stored = bytearray(data)
    for span in spans:
        first, last = max(span.offset, start), min(span.end, start + len(data))
        if span.length > 1 and read(span.offset, 1) + read(span.end - 1, 1) == b"{}":
            part = b"{" * (first == span.offset)
            part += b" " * (last - first - len(part) - (last == span.end)) + b"}" * (last == span.end)
        else:
            part = filler(data[first - start : last - start])
        stored[first - start : last - start] = part
    return bytes(stored)


def is_object(stored: bytes) -> bool:
    """Whether a span's recorded bytes stand for a whole object."""
    return _OBJECT.fullmatch(stored) is not None


def is_filler(stored: bytes) -> bool:
    """Whether bytes say nothing."""
    return filler(stored) == stored or is_object(stored)


def read(connection: apsw.Connection, generation: int, start: int = 0, end: int = _END) -> list[Span]:
    """The spans of a generation that have a byte in [start, end), in order; none where the schema is an older one."""
    if not has_relation(connection, "redacted_spans"):
        return []
    rows: Any = connection.execute(_READ, (generation, start, end))
    return [Span(*row) for row in rows]


def is_any(connection: apsw.Connection, generation: int) -> bool:
    """Whether a generation has spans."""
    return bool(scalar(connection, _IS_ANY, (generation,))) if has_relation(connection, "redacted_spans") else False


def write(connection: apsw.Connection, generation: int, spans: Iterable[Span]) -> None:
    """Add spans to a generation's, within the transaction that writes its segments."""
    connection.executemany(_WRITE, [(generation, *span) for span in spans])


def forget(connection: apsw.Connection, generation: int, start: int = 0, end: int = _END) -> None:
    """Forget the spans that lie within [start, end): others take their place, or the generation is purged."""
    connection.execute(_FORGET, (generation, start, end))
