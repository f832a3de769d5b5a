"""What generations were before something was taken out of them: their lengths, and proofs of their chains."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from codex.logging.events import Generation
from codex.logging.store.connection import has_relation
from codex.logging.store.segments import DIGEST_BYTES

_LENGTH = struct.Struct(">Q")
_KNOWN = "SELECT secrets, length, proof FROM redactions WHERE generation = ?"
_NOTE = "INSERT OR REPLACE INTO redactions VALUES (?, ?, ?, ?, ?)"
_READ = """
SELECT generation, length, proof FROM redactions
WHERE generation IN (SELECT generation FROM redacted_spans)"""


class Former(NamedTuple):
    """A generation right before something was taken out of it: its length, and a keyed hash of its chain."""

    length: int
    proof: bytes


def note(connection: apsw.Connection, generation: Generation, count: int, proof: bytes) -> None:
    """So many places are taken out of a generation, which was this until now; within the caller's transaction."""
    known: Any = connection.execute(_KNOWN, (generation.id,)).fetchone()
    if known is not None:
        before, length, proofs = known
        count, proof = count + before, proof + _LENGTH.pack(length) + proofs
    connection.execute(_NOTE, (generation.id, count, generation.cursor.offset, proof, time.time()))


def formers(connection: apsw.Connection) -> dict[int, tuple[Former, ...]]:
    """What each generation was, the latest first."""
    rows: Any = connection.execute(_READ) if has_relation(connection, "redacted_spans") else ()
    return {number: tuple(_formers(length, proofs)) for number, length, proofs in rows}


def _formers(length: int, proofs: bytes) -> Iterator[Former]:
    step = DIGEST_BYTES + _LENGTH.size
    yield Former(length, proofs[:DIGEST_BYTES])
    for start in range(DIGEST_BYTES, len(proofs) - step + 1, step):
        (length,) = _LENGTH.unpack_from(proofs, start)
        yield Former(length, proofs[start + _LENGTH.size : start + step])
