"""Files by turns through the engine: who is next, who failed and waits, and whether the database takes rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from codex.logging.config import BATCH_BYTES, LINE_LIMIT
from codex.logging.errors import DatabaseError, SourceBusyError, SourceError
from codex.logging.ingest.engine import Engine, Progress
from codex.logging.ingest.reader import Limits
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.sources import Location
from codex.logging.store.sqlite import Store
from codex_ingestd.health.judge import Stall
from codex_ingestd.watch.scheduler import Scheduler

_RETRY_BUSY = (0.05, 1.0)
_RETRY_FAILED = (1.0, 60.0)
_RETRY_DATABASE = (0.1, 5.0)
_DATABASE_SECONDS = 3.0  # what a stall of the database counts after
_TELL_REJECTS = 60.0
_GROUP_SECONDS = 0.005
_GROUP_BYTES = 64 << 10
_ALONE = Limits(BATCH_BYTES, LINE_LIMIT)
_BESIDE = Limits(128 << 10, LINE_LIMIT)  # while other files grow: their lines wait for one such batch at most
_LIVE_SECONDS = 1.0  # since a file's last lines were taken

log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """A file that could not be read at the last try: how often in a row, why, and whether its lock wasn't had.

    `told` is whether a person heard of it, `since` when it began.
    """

    tries: int
    message: str
    busy: bool
    told: bool
    since: float


class Intake:
    """One store, and the files that wait for it. Times are seconds of the clock that is handed in."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        formats: Mapping[str, str] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.engine = Engine(store, formats=formats, redactor=redactor)
        self.failures: dict[Location, Failure] = {}
        self._store = store
        self._clock = clock
        self._scheduler: Scheduler[Location] = Scheduler()
        self._rejects: dict[Location, tuple[float, int]] = {}
        self._ignored: set[Location] = set()
        self._backlogs: set[Location] = set()
        self._live_until = 0.0
        self._at_work: Location | None = None
        self._stalls = 0
        self._stall: Stall | None = None
        self._stalled_until = 0.0

    @property
    def stalled(self) -> bool:
        """Whether the database took nothing at the last try."""
        return self._stalls > 0

    def stalls(self) -> Iterator[Stall]:
        """The database that takes nothing, and the files that can't be read: the one that waits longest is named."""
        if self._stall is not None:
            yield self._stall
        if self.failures:
            longest = next(iter(self.failures.values()))
            others = f", and {len(self.failures) - 1} more files" if len(self.failures) > 1 else ""
            yield Stall(f"can't read: {longest.message}{others}", longest.since)

    def line(self) -> list[Location]:
        """The files that wait, and the one that is at work; may be asked from any thread."""
        at_work = self._at_work
        return list(dict.fromkeys([*([] if at_work is None else [at_work]), *self._scheduler.items()]))

    def __len__(self) -> int:
        return len(self._scheduler)

    def mark(self, location: Location, at: float) -> None:
        """Look at the file at that time. One whose lock isn't had keeps its turn: each try waits for the lock."""
        failure = self.failures.get(location)
        if failure is None or not failure.busy:
            self._scheduler.mark(location, at)

    def wait(self, now: float) -> float | None:
        """Seconds until a file is due; None when no file waits."""
        wait = self._scheduler.wait(now)
        return None if wait is None else max(wait, self._stalled_until - now)

    def is_due(self) -> bool:
        """Whether a file could be taken now."""
        return self.wait(self._clock()) == 0.0

    def turn(self, *, final: bool = False) -> Progress:
        """One batch of the file that is due longest, if one is; small ones of other files that are due go with it.

        With `final` a DatabaseError is raised.
        """
        now = self._clock()
        if now < self._stalled_until:
            return Progress()
        location = self._scheduler.next(now)
        if location is None:
            self._at_work = None
            if self.stalled:
                self._try_database()
            return Progress()
        if location in self._backlogs or self._scheduler.wait(now) != 0.0:
            return self._ingest(location, final)
        return self._group(location, final)

    def _group(self, location: Location | None, final: bool) -> Progress:
        """Batches that commit together, for a few milliseconds or up to one that isn't small."""
        taken: list[Location] = []
        events = rejects = bytes_taken = 0
        until = self._clock() + _GROUP_SECONDS
        try:
            with self.engine.group():
                while location is not None:
                    taken.append(location)
                    progress = self._ingest(location, final)
                    events, rejects = events + progress.events, rejects + progress.rejects
                    bytes_taken += progress.taken
                    now = self._clock()
                    if now >= until or bytes_taken >= _GROUP_BYTES or self.stalled:
                        break
                    location = self._scheduler.next(now)
                    if location in self._backlogs:  # the others' rows would wait for it
                        self._scheduler.mark(location, now)
                        break
        except DatabaseError as error:
            if final:
                raise
            for location in taken:
                self._stalled(location, error)
            return Progress()
        return Progress(events, rejects, bytes_taken)

    def _ingest(self, location: Location, final: bool) -> Progress:
        self._at_work = location
        self.engine.limits = _BESIDE if self._clock() < self._live_until else _ALONE
        self._backlogs.discard(location)
        try:
            progress = self.engine.ingest(location, final=final)
        except SourceError as error:
            return self._failed(location, error, final)
        except DatabaseError as error:
            if final:
                raise
            return self._stalled(location, error)
        except Exception as error:  # a defect that one file shows must not stop the others
            if location not in self.failures:
                log.exception("a defect", extra={"path": location.path})
            return self._failed(location, SourceError(f"{type(error).__name__}: {error}"), final)
        self._succeeded(location, progress)
        now = self._clock()
        if progress.more:
            self._backlogs.add(location)
            self._scheduler.mark(location, now)
        elif progress.taken:
            self._live_until = now + _LIVE_SECONDS
        if progress.again is not None and not progress.more and not final:
            self._scheduler.mark(location, now + progress.again)
        if progress.events or progress.rejects:
            log.debug("ingested", extra={"path": location.path, "rows": progress.events, "bytes": progress.taken})
        if progress.rejects:
            self._tell_rejects(location, progress.rejects, now)
        if progress.ignored and location not in self._ignored:
            self._ignored.add(location)
            log.warning("ignored: %s", progress.ignored, extra={"path": location.path})
        return progress

    def _tell_rejects(self, location: Location, rejects: int, now: float) -> None:
        """Tell of the first ones at once, of those that follow in one sum a minute."""
        quiet_until, untold = self._rejects.get(location, (now, 0))
        untold += rejects
        if now >= quiet_until:
            log.warning("lines rejected", extra={"path": location.path, "rejects": untold})
            quiet_until, untold = now + _TELL_REJECTS, 0
        self._rejects[location] = (quiet_until, untold)

    def _succeeded(self, location: Location, progress: Progress) -> None:
        if progress.taken:
            self._flows()
        failure = self.failures.pop(location, None)
        if failure is not None and failure.told:
            log.info("reads again", extra={"path": location.path})
            self._note(location, None)

    def _failed(self, location: Location, error: SourceError, final: bool) -> Progress:
        """A file that can't be read now: the others go on, this one is tried again ever later."""
        former = self.failures.get(location, Failure(0, "", False, False, self._clock()))
        message, busy = str(error), isinstance(error, SourceBusyError)
        told = former.told and message == former.message
        if not told and (not busy or former.busy):  # a lock that isn't had once is no news
            log.warning("can't read now: %s", message, extra={"path": location.path})
            self._note(location, message)
            told = True
        self.failures[location] = Failure(former.tries + 1, message, busy, told, former.since)
        if not final:
            first, last = _RETRY_BUSY if busy else _RETRY_FAILED
            self._scheduler.mark(location, self._clock() + _delay(first, last, former.tries))
        return Progress()

    def _note(self, location: Location, message: str | None) -> None:
        """Keep a file's error where `status` finds it."""
        try:
            self._store.note_error(location.root, location.key, location.session_id, "native", message)
        except (DatabaseError, UnicodeError) as failure:
            log.debug("not noted: %s", failure)

    def _stalled(self, location: Location, error: DatabaseError) -> Progress:
        """The database takes nothing now: wait ever longer, lose nothing."""
        self._hold_off(error)
        self._scheduler.mark(location, self._clock())
        return Progress()

    def _try_database(self) -> None:
        """What it was to take is gone, and no commit will tell when it takes something again."""
        try:
            with self.engine.group():
                pass
        except DatabaseError as error:
            self._hold_off(error)
        else:
            self._flows()

    def _flows(self) -> None:
        if self._stalls:
            self._stalls, self._stall = 0, None
            log.warning("the database takes rows again")

    def _hold_off(self, error: DatabaseError) -> None:
        if not self._stalls:
            log.error("stalled: %s", error, extra={"hint": error.hint})
        now = self._clock()
        self._stall = self._stall or Stall(f"the database takes nothing: {error}", now, counts_after=_DATABASE_SECONDS)
        self._stalled_until = now + _delay(*_RETRY_DATABASE, self._stalls)
        self._stalls += 1


def _delay(first: float, last: float, count: int) -> float:
    """The wait before the next try, after `count` that failed before this one."""
    return min(last, first * 2.0 ** min(count, 30))
