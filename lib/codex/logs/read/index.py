"""What an engine's full-text index is asked: the hits of a query, and what isn't indexed yet."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from codex.logs.query import Query
from codex.logs.read.filters import Life

RANKED = 5000  # hits that are ranked, the newest of them
SCANNED = 50_000  # hits of the words that filters are asked about, the newest of them


class Candidate(NamedTuple):
    """An event that has the words; a lower `rank` is a better hit. `ts` is None also where it isn't known yet."""

    event: int
    rank: float
    ts: float | None


class Pending(NamedTuple):
    """A generation's events that are not indexed: those behind `after`, up to `last`; `length` bytes of its file."""

    generation: int
    after: int
    last: int
    length: int


class Index(Protocol):
    """The one of an engine."""

    def candidates(self, query: Query, lives: list[Life] | None, *, exhaustive: bool) -> tuple[list[Candidate], bool]:
        """Of these lives, or of all; and whether there are more than were looked at."""

    def pending(self) -> list[Pending]:
        """What is to be indexed, the oldest generation first."""
