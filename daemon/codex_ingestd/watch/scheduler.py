"""Which file next: pure, with the time handed in. Times are seconds of one monotonic clock."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

_SPARE = 64


class Scheduler(Generic[Item]):
    """Each item is due at most once; what was due first goes first, so that nobody starves."""

    def __init__(self) -> None:
        self._due: dict[Item, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Item]] = []
        self._turn = 0

    def __len__(self) -> int:
        return len(self._due)

    def items(self) -> list[Item]:
        """What is due now or later; may be asked from any thread."""
        return list(self._due)

    def mark(self, item: Item, at: float) -> None:
        """The item is due at that time, or earlier where it already was."""
        known = self._due.get(item)
        if known is not None and known[0] <= at:
            return
        self._turn += 1
        self._due[item] = (at, self._turn)
        heappush(self._heap, (at, self._turn, item))
        if len(self._heap) > 2 * len(self._due) + _SPARE:
            self._heap = [(at, turn, item) for item, (at, turn) in self._due.items()]
            heapify(self._heap)

    def next(self, now: float) -> Item | None:
        """The item that is due longest, which then is due no more; None when none is."""
        while self._heap and self._heap[0][0] <= now:
            at, turn, item = heappop(self._heap)
            if self._due.get(item) == (at, turn):
                del self._due[item]
                return item
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until the next item is due, 0 for now; None when there is none at all."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][:2]:
            heappop(self._heap)
        return max(0.0, self._heap[0][0] - now) if self._heap else None
