"""Is the source what the record says? And does the record say nothing where it is to say nothing?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from codex.logging.errors import SourceError
from codex.logging.secrets.placeholder import known_key
from codex.logging.store.record import Record
from codex.logging.store.spans import Span, is_filler, proof
from codex.logging.targets import Finding, SourceFile, Target

_EDITED = "the source was changed after it was ingested"
_EDITED_SPAN = (
    "the source was changed where the record has filler, or its key isn't the one that lies beside the database"
)


def check_filler(record: Record, target: Target, start: int, end: int) -> Iterator[Finding]:
    """The spans that begin in [start, end) hold nothing but filler."""
    for span in record.spans_in(start, end):
        if span.offset >= start and not is_filler(record.read(span.offset, span.length)):
            yield target.finding("span", span.offset, span.end, "the record says what was taken out of it")


class Beside:
    """The source as it is compared with the record, up to the first difference."""

    def __init__(self, record: Record, target: Target) -> None:
        self._record = record
        self._target = target
        self._file: SourceFile | None = None
        self._done = False

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def compare(self, piece: bytes, offset: int) -> Iterator[Finding]:
        """The source must have this piece of the record at this offset."""
        if self._done:
            return
        end = offset + len(piece)
        try:
            if self._file is None:
                self._file = SourceFile(self._target)
            other = self._file.read(offset, len(piece)) if self._file.is_there else piece
            if other != piece:
                found = self._difference(piece, other, offset)
                self._done = found is not None
                if found is not None:
                    yield found
        except SourceError as error:
            self._done = True
            yield self._target.finding("unreadable", offset, end, str(error))

    def _difference(self, piece: bytes, other: bytes, offset: int) -> Finding | None:
        """The first one, besides what the spans account for."""
        end, same = offset + len(piece), bytearray(other)
        spans = self._record.spans_in(offset, end)
        for span in spans:
            first, last = max(0, span.offset - offset), min(len(other), span.end - offset)
            same[first:last] = piece[first:last]
        if same != piece:
            place = offset + _alike(piece, bytes(same))
            cut = place == offset + len(other)
            detail = f"the source ends at {place}, before what was ingested" if cut else _EDITED
            return self._target.finding("source", place, end, detail)
        for span in spans:
            if span.offset >= offset and not self._is_proven(span):
                return self._target.finding("source", span.offset, span.end, _EDITED_SPAN)
        return None

    def _is_proven(self, span: Span) -> bool:
        """Whether the source has what was recorded as filler, or filler as well; without the key nobody can tell."""
        assert self._file is not None
        said = self._file.read(span.offset, span.length)
        if self._key is None or said == self._record.read(span.offset, span.length):
            return True
        return proof(self._key, said) == span.proof

    @cached_property
    def _key(self) -> bytes | None:
        return known_key(self._record.database)


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
