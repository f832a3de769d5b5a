"""What no event told: a look at every file, now and then, and soon after any doubt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from codex.logging.ingest.sources import Facts, Found, Location, scan

RECONCILE_SECONDS = 30.0
POLL_SECONDS = 1.0
DOUBT_DELAY = 0.25
SLICE = 200
# A sweep rests for so many times its own cost: 0.1 % of a core when idle, 5 % when polling, 10 % in constant doubt.
_REST_IDLE, _REST_POLLING, _REST_DOUBT = 1000.0, 20.0, 10.0
_LONGEST_REST = 300.0
_NEVER = float("inf")

log = logging.getLogger(__name__)


class Reconciler:
    """Sweeps over the roots in slices, and marks what has changed and what is gone. Times are seconds."""

    def __init__(
        self,
        roots: Sequence[str],
        known: set[tuple[str, str]],
        is_settled: Callable[[Facts], bool],
        mark: Callable[[Location, float], None],
        clock: Callable[[], float],
    ) -> None:
        self._roots = roots
        self._known = known
        self._is_settled = is_settled
        self._mark = mark
        self._clock = clock
        self._sweep: Iterator[Found] | None = None
        self._seen: set[tuple[str, str]] = set()
        self._skipped: dict[str, str] = {}
        self._skipping: dict[str, str] = {}
        self._cost = 0.0
        self._ended = -_NEVER
        self._at = 0.0

    @property
    def running(self) -> bool:
        """Whether a sweep has begun and not ended."""
        return self._sweep is not None

    @property
    def has_swept(self) -> bool:
        """Whether each file was looked at once."""
        return self._ended > -_NEVER

    def wait(self, now: float) -> float:
        """Seconds until there is something to do."""
        return 0.0 if self.running else max(0.0, self._at - now)

    def doubt(self, now: float) -> None:
        """Something may have been missed: sweep soon, and once more where a sweep is under way."""
        self._at = min(self._at, max(now + DOUBT_DELAY, self._ended + self._cost * _REST_DOUBT))

    def begin(self) -> None:
        """Begin a sweep, from the start where one is under way."""
        self._sweep = (found for root in self._roots for found in scan(root))
        self._seen, self._skipping = set(), {}
        self._cost, self._at = 0.0, _NEVER

    def step(self, now: float, *, polling: bool) -> None:
        """When it is time: look at the next few files; at a sweep's end, at those that are gone."""
        if self._sweep is None and now >= self._at:
            self.begin()
        if self._sweep is None:
            return
        for _ in range(SLICE):
            found = next(self._sweep, None)
            if found is None:
                self._end(now, polling)
                return
            self._look(found, now)
        self._cost += self._clock() - now

    def _look(self, found: Found, now: float) -> None:
        location = found.location
        if found.facts is None:
            self._skip(location.path, found.reason)
            return
        self._seen.add((location.root, location.key))
        if not self._is_settled(found.facts):
            self._mark(location, now)

    def _skip(self, path: str, reason: str) -> None:
        self._skipping[path] = reason
        if self._skipped.get(path) != reason:
            log.warning("skipped: it %s", reason, extra={"path": path})

    def _end(self, now: float, polling: bool) -> None:
        for root, key in self._known - self._seen:
            self._mark(Location(root, key, 0), now)
        self._known, self._skipped, self._sweep = self._seen, self._skipping, None
        self._ended = self._clock()
        self._cost += self._ended - now
        rest = self._cost * (_REST_POLLING if polling else _REST_IDLE)
        every = POLL_SECONDS if polling else RECONCILE_SECONDS
        self._at = min(self._at, self._ended + max(every, min(rest, _LONGEST_REST)))
