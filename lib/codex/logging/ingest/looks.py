"""What earlier looks at the files told. It only spares looking again: all of it can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from codex.logging.events import Stream
from codex.logging.ingest.sources import Facts, Location, survey
from codex.logging.store.streams import Watermark

QUIET_SECONDS = 2.0
# File systems take the time from a clock that goes on in steps: 1 to 10 ms on Linux.
_GRAIN_NANOSECONDS = 20_000_000

Identity = tuple[int, int]


class _Look(NamedTuple):
    """A file's size and time stamp, whether it was live, and since when (monotonic seconds) we know it by that size.

    `changed` is when anything happened to it, a renaming for one.

    No line feed stands between the watermark and `scanned`. A settled file has nothing more to give; one that isn't in
    the ledger, as long as the stream's files are those `beside` it; one with a `home`, as long as the stream of that
    root and key has it. A `fresh` look was taken so soon after a change that another one may have left the same time
    stamp.
    """

    size: int
    modified: int
    live: bool
    changed: int
    since: float
    scanned: int = 0
    settled: bool = False
    fresh: bool = False
    postponed: bool = False
    beside: tuple[tuple[int, Identity], ...] | None = None
    home: tuple[str, str] | None = None


class Looks:
    """The last look at each file of each stream."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._streams: dict[tuple[str, str], dict[Identity, _Look]] = {}
        self._resumed: dict[tuple[str, str], dict[Identity, Watermark]] = {}

    def resume(self, root: str, taken: Watermark) -> None:
        """A former process took this much of a file."""
        self._resumed.setdefault((root, taken.key), {})[taken.identity] = taken

    def resumed(self, facts: Facts) -> Watermark | None:
        """What a former process took, at the first look at a file that has nothing more than that."""
        taken = self._resumed.get(facts.location.stream, {}).pop(facts.identity, None)
        if taken is None or (taken.modified, taken.live) != (facts.modified, facts.location.number == 0):
            return None
        return taken if facts.location.packed or taken.offset == facts.stored else None

    def is_settled(self, facts: Facts) -> bool:
        """Whether the last look found nothing more to do, and the file has not changed, nor been rotated, since."""
        look = self._last(facts)
        if look is None or not look.settled or look.fresh or look[:4] != _seen(facts):
            return False
        return look.beside is None or look.beside == _beside(facts)

    def home(self, facts: Facts) -> tuple[str, str] | None:
        """The root and key of the stream that had the file at the last look, where that must be asked again."""
        look = self._last(facts)
        return None if look is None else look.home

    def settle(self, facts: Facts, *, begun: bool = True, home: tuple[str, str] | None = None) -> None:
        """Nothing more is to be had of the file as it is.

        `begun` tells whether the ledger has it, `home` which stream has it, where that must be asked again.
        """
        fresh = facts.location.number == 0 and abs(self._wall() * 1e9 - facts.changed) < _GRAIN_NANOSECONDS
        beside = None if begun else _beside(facts)
        look = _Look(*_seen(facts), self._monotonic(), settled=True, fresh=fresh, beside=beside, home=home)
        self._note(facts, look)

    def postpone(self, facts: Facts) -> None:
        """The file is to be looked at once nothing more is to be had of the stream's others."""
        self._note(facts, _Look(*_seen(facts), self._monotonic(), postponed=True))

    def turn(self, facts: Facts) -> int:
        """When an unsettled file is to be looked at: 0; 1 once it was postponed; 2 where the last look may do."""
        look = self._last(facts)
        if look is None or look[:4] != _seen(facts):
            return 0
        return 2 if look.fresh else int(look.postponed)

    def scanned(self, facts: Facts) -> int:
        """How far from the watermark on the file is known to have no line feed."""
        look = self._last(facts)
        return look.scanned if look is not None and look.scanned <= facts.size else 0

    def note_scanned(self, facts: Facts, scanned: int) -> None:
        """Remember how far the file was searched."""
        look = self._last(facts) or _Look(*_seen(facts), self._monotonic())
        self._note(facts, look._replace(scanned=scanned, settled=False))

    def is_quiet(self, facts: Facts) -> bool:
        """Whether the file has not grown for 2 s, by its own time stamp or by our clock."""
        look = self._last(facts)
        if look is not None and look.size == facts.stored:
            return self._monotonic() - look.since >= QUIET_SECONDS
        self._note(facts, _Look(*_seen(facts), self._monotonic(), self.scanned(facts)))
        return self._wall() - facts.modified / 1e9 >= QUIET_SECONDS

    def keep(self, location: Location, identities: Iterable[Identity]) -> None:
        """Forget what was told of the stream's other files."""
        there = set(identities)
        for known in (self._streams.get(location.stream, {}), self._resumed.get(location.stream, {})):
            for identity in known.keys() - there:
                del known[identity]

    def forget(self, location: Location) -> None:
        """Forget a stream."""
        self._streams.pop(location.stream, None)
        self._resumed.pop(location.stream, None)

    def _last(self, facts: Facts) -> _Look | None:
        return self._streams.get(facts.location.stream, {}).get(facts.identity)

    def _note(self, facts: Facts, look: _Look) -> None:
        self._streams.setdefault(facts.location.stream, {})[facts.identity] = look


def certified(facts: Facts, offset: int) -> int:
    """The time stamp to record with so many bytes taken: 0 for a part of a compressed file, whose size can't tell."""
    return facts.modified if facts.size == offset or not facts.location.packed else 0


def home_of(stream: Stream, facts: Facts) -> tuple[str, str] | None:
    """The root and key of the stream that has a file, where it may lose it while the file stays as it is.

    It lies where another stream's file would, or is compressed, and a plain one may come and go in its place.
    """
    home = (stream.root, stream.key)
    return home if facts.location.packed or home != facts.location.stream else None


def _seen(facts: Facts) -> tuple[int, int, bool, int]:
    return facts.stored, facts.modified, facts.location.number == 0, facts.changed


def _beside(facts: Facts) -> tuple[tuple[int, Identity], ...]:
    return tuple((place.number, there.identity) for place, there in survey(facts.location))
