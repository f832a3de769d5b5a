"""What the loop counts for the metrics, where somebody wants them: plain numbers, read from another thread."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable

import apsw

from codex.logging.ingest.engine import Progress

BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Meter:
    """Rows and rejects since the start of the process; commits, and how long they took, in seconds.

    `buckets` counts the commits that took no longer than each of BUCKETS and longer than the one before; its last one
    is of those that took longer than all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = 0.0
        self.rows = 0
        self.rejects = 0
        self.commit_seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def add(self, progress: Progress) -> None:
        """The loop has come round, and this is what it did."""
        self.rows += progress.events
        self.rejects += progress.rejects

    def time_commits(self, connection: apsw.Connection) -> None:
        """Measure each commit of a connection, from its begin until it is in the log."""
        connection.set_commit_hook(self._begin)
        connection.set_wal_hook(self._end)

    def _begin(self) -> bool:
        self._began = self._clock()
        return False  # and let it go on

    def _end(self, connection: apsw.Connection, name: str, pages: int) -> int:
        seconds = self._clock() - self._began
        self.commit_seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        return apsw.SQLITE_OK
