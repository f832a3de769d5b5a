"""Recorded bytes as they are decoded: with a placeholder in each span's place, and back from there. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from codex.logging.secrets.placeholder import placeholder
from codex.logging.store.spans import Span, is_object


class Placed:
    """The recorded bytes from `start` on; of the spans only what lies within them counts."""

    def __init__(self, stored: bytes, start: int, spans: Sequence[Span]) -> None:
        self._places, self._origins = [0], [start]
        pieces, place, done = list[bytes](), 0, start
        for span in spans:
            if span.offset < done or span.end > start + len(stored):
                continue
            before = stored[done - start : span.offset - start]
            words = placeholder(span.rule, span.hash).encode()
            if is_object(stored[span.offset - start : span.end - start]):
                words = b'{"redacted":"%b"}' % words
            pieces += (before, words)
            self._places += (place + len(before), place + len(before) + len(words))
            self._origins += (span.offset, span.end)
            place, done = self._places[-1], span.end
        pieces.append(stored[done - start :])
        self.text = b"".join(pieces)

    def origin(self, place: int) -> int:
        """The offset in the generation of what is at this place of the text; of a placeholder's inside, its end's."""
        at = bisect_right(self._places, place) - 1
        within = place - self._places[at]
        if at % 2 and within:  # pieces of the record and placeholders take turns
            return self._origins[at + 1]
        return self._origins[at] + within
