"""How fast to go: when to try again, how much at once, how much a second. Pure: time and chance are handed in."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

_RETRY = (0.2, 30.0)  # seconds
_QUICK, _SLOW = 0.25, 1.0  # seconds that one may take
_DEARER = 1.5  # an event of a batch half as large, by which a smaller batch is no way out
_BURST_SECONDS = 1.0


class BackOff:
    """Seconds to wait before the next try: ever longer, and never the same for many hosts that lost the same server."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._tries = 0

    def next(self) -> float:
        """After one more try that failed: from 0.1 to 30 s."""
        first, longest = _RETRY
        delay = min(longest, first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return delay * (0.5 + self._chance() / 2)

    def reset(self) -> None:
        """It went well."""
        self._tries = 0


class Batches(NamedTuple):
    """What suits an engine: how many events of a batch, at first, at least and at most; about how many bytes of text;
    seconds that it is left alone after a batch behind which there was nothing more."""

    first: int = 5000
    least: int = 500
    most: int = 20_000
    bytes: int = 8 << 20
    gather: float = 0.0


class BatchSize:
    """Events in a transaction: as many as it takes in a quarter of a second to a second.

    Where most of that goes to the transaction itself, whatever its size, as where many nodes take part in it, half as
    many events take as long: there is no halving below the size at which that was seen.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.events = batches.first
        self._least = batches.least
        self._halved: tuple[int, float] | None = None  # the events, and the seconds for each, before the last halving

    def took(self, events: int, seconds: float) -> None:
        """A batch of so many events took so long."""
        if seconds > _SLOW:
            each = seconds / events if events >= self.events else None
            if each is not None and self._halved is not None and each > self._halved[1] * _DEARER:
                self._least = self.events = self._halved[0]
                self._halved = None
            elif self.events > self._least:
                self._halved = None if each is None else (self.events, each)
                self.events = max(self._least, self.events // 2)
        elif seconds < _QUICK and events >= self.events:
            self._least, self._halved = self._batches.least, None
            self.events = min(self._batches.most, self.events * 2)


class Rate:
    """At most so many bytes a second, with a burst of one second's; None for no limit."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self._rate = bytes_per_second
        self._free_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next batch may go."""
        return max(0.0, self._free_at - now)

    def sent(self, count: int, now: float) -> None:
        """So many bytes went."""
        if self._rate is not None:
            self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / self._rate
