"""How far behind each root is, by what waits in line: in bytes, and in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import apsw

from codex.logging.errors import SourceError
from codex.logging.ingest.sources import Facts, Location, survey
from codex.logging.store.connection import scalar

_OFFSET = 'SELECT "offset" FROM generations WHERE device = ? AND inode = ? ORDER BY id DESC LIMIT 1'

Identity = tuple[int, int]


class Behind(NamedTuple):
    """A file with bytes behind its watermark: its length and watermark in bytes, its last change in epoch seconds."""

    root: str
    size: int
    offset: int
    modified: float


class Lag(NamedTuple):
    """Bytes that aren't committed; for how many seconds the oldest of them has been there, as far as was seen."""

    bytes: int = 0
    seconds: float = 0.0


class Lags:
    """Remembers, between two looks, which bytes were there and not committed, and since when."""

    def __init__(self) -> None:
        self._waiting: dict[Identity, tuple[int, float]] = {}

    def of(self, roots: Sequence[str], behind: dict[Identity, Behind], now: float) -> dict[str, Lag]:
        """Each root's lag at that time, in epoch seconds.

        What was there at an earlier look keeps its time until it is committed: later appends make it no younger.
        """
        lags = dict.fromkeys(roots, Lag())
        waiting = {}
        for identity, file in behind.items():
            seen = self._waiting.get(identity)
            if seen is None or not file.offset < seen[0] <= file.size:
                seen = (file.size, min(file.modified, now))
            waiting[identity] = seen
            former = lags.get(file.root, Lag())
            lags[file.root] = Lag(former.bytes + file.size - file.offset, max(former.seconds, now - seen[1]))
        self._waiting = waiting
        return lags


def behind(connection: apsw.Connection, line: Iterable[Location]) -> dict[Identity, Behind]:
    """The files of the streams in line that hold more than the database has."""
    found = {}
    for root, key in {location.stream for location in line}:
        for facts in _files(Location(root, key, 0)):
            offset = scalar(connection, _OFFSET, facts.identity) or 0
            if facts.size > offset:
                found[facts.identity] = Behind(root, facts.size, offset, facts.modified / 1e9)
    return found


def _files(location: Location) -> list[Facts]:
    """Of one that is packed the text's size isn't known from outside, and it grows no more."""
    try:
        return [facts for place, facts in survey(location) if not place.packed]
    except SourceError:  # intake tells of it
        return []
