"""The one loop: marks in, files by turns through the engine, reconcile when in doubt, drain at the end."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from codex.logging.errors import DatabaseError, SourceBusyError, SourceError
from codex.logging.ingest.engine import Engine, Progress
from codex.logging.ingest.sources import Found, Location, locate, scan
from codex.logging.store.checkpoint import Checkpointer
from codex.logging.store.sqlite import Store
from codex_ingestd.scheduler import Scheduler
from codex_ingestd.watcher import Marks, Watcher

RECONCILE_SECONDS = 30.0
POLL_SECONDS = 1.0
DRAIN_SECONDS = 10.0
SWEEP_SLICE = 200
DOUBT_DELAY = 0.25
_RETRY_BUSY = (0.05, 1.0)
_RETRY_FAILED = (1.0, 60.0)
_RETRY_DATABASE = (0.1, 5.0)

log = logging.getLogger(__name__)


class Service:
    """A daemon's life over some roots and one database."""

    def __init__(self, store: Store, roots: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._roots = list(roots)
        self._clock = clock
        self._engine = Engine(store)
        self._scheduler: Scheduler[Location] = Scheduler()
        self._marks = Marks()
        self._watcher = Watcher(self._roots, self._marks, self._doubt)
        self._sweep: Iterator[Found] | None = None
        self._sweep_at = 0.0
        self._seen: set[tuple[str, str]] = set()
        self._known: set[tuple[str, str]] = set()
        self._failures: dict[Location, tuple[int, str]] = {}
        self._skipped: dict[str, str] = {}
        self._database_failures = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        """Watch and ingest until SIGTERM or SIGINT; then take what is already there, and return."""
        self._store.connection.wal_autocheckpoint(0)
        with self._signals(), Checkpointer(self._store.path) as checkpointer:
            self._begin()
            self._watcher.start(self._clock())
            log.info("watching", extra={"roots": self._roots, "database": self._store.path, "pid": os.getpid()})
            check_at = 0.0
            while not self._stopping.is_set():
                now = self._clock()
                if now >= check_at:
                    check_at = now + self._watcher.check(now)
                    self._note_state()
                self._take_marks(min(check_at, self._sweep_at) - now)
                self._turn()
                checkpointer.relieve(self._store.connection)
            self._watcher.stop()
            self._drain()
            self._store.note("daemon", None)

    def once(self) -> tuple[int, int]:
        """One full pass over every file; (events, rejects) that it brought."""
        self._begin()
        events = rejects = 0
        self._doubt()
        self._sweep_at = 0.0
        while self._sweep is not None or self._sweep_at <= self._clock() or self._due():
            progress = self._turn(final=True)
            events, rejects = events + progress.events, rejects + progress.rejects
        return events, rejects

    @property
    def failures(self) -> dict[Location, tuple[int, str]]:
        """The files that could not be read at the last try: how often in a row, and why."""
        return self._failures

    # -- one turn of the loop

    def _begin(self) -> None:
        for root in self._roots:
            os.makedirs(root, mode=0o700, exist_ok=True)
            self._engine.resume(root)
            self._known |= {(root, key) for key in self._store.live_keys(root)}

    def _take_marks(self, longest: float) -> None:
        """Wait until something is due, and note what was marked."""
        wait = self._scheduler.wait(self._clock())
        timeout = longest if wait is None else min(wait, longest)
        if self._sweep is not None:
            timeout = 0.0
        now = 0.0
        for path in self._marks.take(max(0.0, timeout)):
            location = self._locate(path)
            if location is not None:
                now = now or self._clock()
                self._scheduler.mark(location, now)

    def _turn(self, *, final: bool = False) -> Progress:
        """One batch of the file that is due longest, and a slice of the sweep."""
        now = self._clock()
        location = self._scheduler.next(now)
        progress = self._ingest(location, final) if location is not None else Progress()
        if self._sweep is not None:
            self._sweep_on()
        elif now >= self._sweep_at:
            self._sweep = self._scan()
        return progress

    def _due(self) -> bool:
        return self._scheduler.wait(self._clock()) == 0.0

    def _ingest(self, location: Location, final: bool) -> Progress:
        """Let the engine take one batch, and decide when to look again."""
        try:
            progress = self._engine.ingest(location, final=final)
        except SourceBusyError as error:
            return self._failed(location, error, _RETRY_BUSY, final)
        except SourceError as error:
            return self._failed(location, error, _RETRY_FAILED, final)
        except DatabaseError as error:
            if final:
                raise
            return self._stalled(location, error)
        if self._database_failures:
            self._database_failures = 0
            log.warning("the database takes rows again")
        if location in self._failures:
            self._recovered(location)
        now = self._clock()
        if progress.more:
            self._scheduler.mark(location, now)
        elif progress.again is not None and not final:
            self._scheduler.mark(location, now + progress.again)
        if progress.events or progress.rejects:
            log.debug("ingested", extra={"path": location.path, "rows": progress.events, "bytes": progress.taken})
        if progress.rejects:
            log.warning("lines rejected", extra={"path": location.path, "rejects": progress.rejects})
        return progress

    def _failed(self, location: Location, error: SourceError, retry: tuple[float, float], final: bool) -> Progress:
        """A file that can't be read now: the others go on, this one is tried again ever later."""
        count, former = self._failures.get(location, (0, ""))
        message = str(error)
        if message != former:
            if count or retry is not _RETRY_BUSY:
                self._note_error(location, message)
            else:
                message = ""  # a lock that is not had once is no news
        self._failures[location] = (count + 1, message)
        if not final:
            first, last = retry
            self._scheduler.mark(location, self._clock() + min(last, first * 2**count))
        return Progress()

    def _note_error(self, location: Location, message: str) -> None:
        log.warning("can't read now: %s", message, extra={"path": location.path})
        try:
            self._store.note_error(location.root, location.key, location.session_id, "native", message)
        except DatabaseError as failure:
            log.debug("not noted: %s", failure)

    def _recovered(self, location: Location) -> None:
        _, message = self._failures.pop(location)
        if message:
            log.info("reads again", extra={"path": location.path})
            self._store.note_error(location.root, location.key, location.session_id, "native", None)

    def _stalled(self, location: Location, error: DatabaseError) -> Progress:
        """The database takes nothing now: wait ever longer, lose nothing."""
        if not self._database_failures:
            log.error("stalled: %s", error, extra={"hint": error.hint})
        first, last = _RETRY_DATABASE
        delay = min(last, first * 2**self._database_failures)
        self._database_failures += 1
        self._scheduler.mark(location, self._clock())
        self._stopping.wait(delay)
        return Progress()

    # -- reconcile: what no event told

    def _doubt(self) -> None:
        """Something may have been missed: look at every file soon. From any thread."""
        self._sweep_at = min(self._sweep_at, self._clock() + DOUBT_DELAY)
        self._marks.put("")

    def _scan(self) -> Iterator[Found]:
        self._seen = set()
        self._sweep_at = float("inf")
        for root in self._roots:
            yield from scan(root)

    def _sweep_on(self) -> None:
        """Look at the next few files of the sweep; at its end, at those that are gone."""
        assert self._sweep is not None
        now = self._clock()
        for _ in range(SWEEP_SLICE):
            found = next(self._sweep, None)
            if found is None:
                self._end_sweep(now)
                return
            if found.facts is None:
                self._skip(found)
                continue
            self._seen.add((found.location.root, found.location.key))
            if not self._engine.is_settled(found.facts):
                self._scheduler.mark(found.location, now)

    def _end_sweep(self, now: float) -> None:
        self._sweep = None
        every = POLL_SECONDS if self._watcher.state == "polling" else RECONCILE_SECONDS
        self._sweep_at = min(self._sweep_at, now + every)
        for root, key in self._known - self._seen:
            self._scheduler.mark(Location(root, key, 0), now)
        self._known = self._seen

    def _skip(self, found: Found) -> None:
        path = found.location.path
        if self._skipped.get(path) != found.reason:
            self._skipped[path] = found.reason
            log.warning("skipped: it %s", found.reason, extra={"path": path})

    def _locate(self, path: str) -> Location | None:
        for root in self._roots:
            location = locate(root, path)
            if location is not None:
                return location
        return None

    # -- beginning and end

    def _drain(self) -> None:
        """Take what is already in the files, for a bounded time."""
        deadline = self._clock() + DRAIN_SECONDS
        self._take_marks(0.0)
        self._sweep = self._scan()
        while self._clock() < deadline and not self._database_failures and (self._sweep is not None or self._due()):
            self._turn()
        log.info("stopped", extra={"left": len(self._scheduler)})

    def _note_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "roots": self._roots,
            "watcher": self._watcher.state,
            "reason": self._watcher.reason,
            "rebuilds": self._watcher.rebuilds,
        }
        text = json.dumps(state)
        if text != getattr(self, "_noted", None):
            try:
                self._store.note("daemon", text)
                self._noted = text
            except DatabaseError as failure:
                log.debug("not noted: %s", failure)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the loop; the former handlers come back."""
        former = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()
        self._marks.wake()
