"""The one loop: marks in, files by turns through the engine, reconcile when in doubt, drain at the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import Literal, NamedTuple

from codex.logging.errors import CodexLoggingError
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.sources import Location, locate
from codex.logging.store.sqlite import Store
from codex_ingestd.database import Database
from codex_ingestd.forward.children import Forwarders, Forwarding
from codex_ingestd.health.judge import Facts, judge
from codex_ingestd.health.meter import Meter
from codex_ingestd.health.notify import Notifier
from codex_ingestd.hooks.hook import Hook
from codex_ingestd.hooks.runner import HookRunners
from codex_ingestd.housekeeping import VERIFY_BYTES_PER_MINUTE, Housekeeping
from codex_ingestd.intake import Failure, Intake
from codex_ingestd.watch.marks import EVERYTHING, Marks
from codex_ingestd.watch.reconcile import Reconciler
from codex_ingestd.watch.watcher import Watcher

DRAIN_SECONDS = 10.0

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What a daemon goes by, and can take up anew while it runs: see Service.reload.

    `formats` names the format of all logs of a root, `verify_rate` is bytes a minute. `redact` is whether secrets are
    taken out, None for as before.
    """

    roots: Sequence[str]
    formats: Mapping[str, str] = {}
    hooks: Sequence[Hook] = ()
    verify_rate: int = VERIFY_BYTES_PER_MINUTE
    redact: bool | None = None
    forwarding: Forwarding = Forwarding()


class Service:
    """A daemon's life over one database. On SIGHUP `reread` says what it is to go by from then on."""

    def __init__(
        self,
        database: str,
        plan: Plan,
        reread: Callable[[], Plan] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._plan = plan
        self._reread = reread
        self._clock = clock
        self._marks = Marks()
        self._notifier = Notifier(os.environ)
        self._watcher: Watcher
        self._hook_runners: HookRunners
        self._forwarders: Forwarders
        self._intake: Intake
        self._reconciler: Reconciler
        self._stopping = False
        self._reload_asked = False
        self.meter: Meter | None = None
        self.facts = Facts(os.getpid(), clock())

    def run(self, on_open: Callable[[], None]) -> None:
        """Watch and ingest until SIGTERM or SIGINT; then take what is already there, and return.

        `on_open` is called once the database is had. Raises DaemonRunningError and DatabaseError where it isn't.
        """
        with self._signals():
            while not self._stopping:
                self._notifier.status(f"opening {self._database}")
                with Database(self._database) as database:
                    if self.meter is not None:
                        self.meter.time_commits(database.store.connection)
                    on_open()
                    self._attend(database)
                on_open = _nothing

    def _attend(self, database: Database) -> None:
        """One database, until it is to stop, or until its file is another one."""
        while not self._stopping:
            roots, hooks, forwarding = self._plan.roots, self._plan.hooks, self._plan.forwarding
            with (
                closing(Watcher(roots, self._marks)) as self._watcher,
                HookRunners(database.path, hooks) as self._hook_runners,
                Forwarders(database.path, forwarding) as self._forwarders,
            ):
                self._watcher.start(self._clock())
                log.info("watching", extra={"roots": list(roots), "database": database.path, "pid": os.getpid()})
                self._serve(database)
            if self._reload_asked:
                self.reload()
            elif not self._stopping:
                log.warning(
                    "the database file was deleted or replaced: opening it anew", extra={"database": database.path}
                )
                return

    def reload(self) -> None:
        """Go by what `reread` says now; where it raises, by what was in force."""
        self._reload_asked = False
        self._notifier.reloading(self._clock())
        try:
            self._plan = self._reread() if self._reread is not None else self._plan
        except CodexLoggingError as error:
            log.error("not reloaded: %s", error, extra={"hint": error.hint})
        else:
            log.info("reloaded")

    def once(self) -> tuple[int, int]:
        """One full pass over every file; (events, rejects) that it brought."""
        events = rejects = 0
        with closing(Store(self._database)) as store:
            self._begin(store)
            self._reconciler.begin()
            while self._reconciler.running or self._intake.is_due():
                progress = self._intake.turn(final=True)
                self._reconciler.step(self._clock(), polling=False)
                events, rejects = events + progress.events, rejects + progress.rejects
        return events, rejects

    @property
    def failures(self) -> Mapping[Location, Failure]:
        """The files that could not be read at the last try."""
        return self._intake.failures

    def line(self) -> list[Location]:
        """The files that wait to be read, and the one that is at work; may be asked from any thread."""
        return self._intake.line() if hasattr(self, "_intake") else []

    def _begin(self, store: Store) -> None:
        """Take up what the store already has."""
        self._intake = Intake(store, self._clock, self._plan.formats, Redactor.of(store, wanted=self._plan.redact))
        known: set[tuple[str, str]] = set()
        for root in self._plan.roots:
            self._intake.engine.resume(root)
            known.update((root, key) for key in store.live_keys(root))
        is_settled = self._intake.engine.is_settled
        self._reconciler = Reconciler(self._plan.roots, known, is_settled, self._intake.mark, self._clock)

    def _serve(self, database: Database) -> None:
        """The loop, until it is to stop or to reload, or until the database's file is another one."""
        self._begin(database.store)
        housekeeping = Housekeeping(database.store, self._clock, self._plan.verify_rate)
        check_at = 0.0
        while not self._stopping:
            if self._reload_asked:
                return
            now = self._clock()
            if now >= check_at:
                if database.is_replaced():
                    return
                check_at = now + self._watcher.check(now)
                self._report(database)
            self._take_marks(self._wait(now, check_at, housekeeping))
            self._turn()
            if self._is_idle:
                housekeeping.step()
            database.relieve()
            self._tell()
        self._notifier.stopping()
        self._report(database, "stopping")
        self._drain()

    def _tell(self) -> None:
        """Let systemd know that the loop goes round; and, once each file was looked at, that it is ready."""
        self._notifier.feed(self._clock())
        if self._reconciler.has_swept and not self._notifier.is_ready:
            self._notifier.ready()
            self._notifier.status(self._condition)

    @property
    def _condition(self) -> str:
        """For people, in one line."""
        if reasons := judge(self.facts, self._clock()).reasons:
            return "; ".join(reasons)
        means = "polling" if self._watcher.state == "polling" else "watching"
        return f"{means} {len(self._plan.roots)} folders, {len(self._intake)} files wait"

    def _turn(self) -> None:
        """One batch of one file, and one slice of the sweep."""
        progress = self._intake.turn()
        if self.meter is not None:
            self.meter.add(progress)
        self._reconciler.step(self._clock(), polling=self._watcher.state == "polling")

    @property
    def _is_idle(self) -> bool:
        """Whether no file waits and no sweep runs, and the database takes rows."""
        return not (self._intake.stalled or self._intake.is_due() or self._reconciler.running)

    def _wait(self, now: float, check_at: float, housekeeping: Housekeeping) -> float:
        """Seconds until something is to be done."""
        idle = housekeeping.wait(now) if self._is_idle else None
        waits = (check_at - now, self._notifier.wait(now), self._reconciler.wait(now), self._intake.wait(now), idle)
        return max(0.0, min(wait for wait in waits if wait is not None))

    def _take_marks(self, timeout: float) -> None:
        paths = self._marks.take(timeout)
        now = self._clock()
        for path in paths:
            if path == EVERYTHING:
                self._reconciler.doubt(now)
            elif location := self._locate(path):
                self._intake.mark(location, now)

    def _locate(self, path: str) -> Location | None:
        for root in self._plan.roots:
            if location := locate(root, path):
                return location
        return None

    def _drain(self) -> None:
        """Take what is already in the files, for a bounded time."""
        self._watcher.close()
        deadline = self._clock() + DRAIN_SECONDS
        self._take_marks(0.0)
        self._reconciler.begin()
        while self._clock() < deadline and not self._intake.stalled:
            if not self._reconciler.running and not self._intake.is_due():
                break
            self._turn()
        self._hook_runners.drain()
        log.info("stopped", extra={"left": len(self._intake)})

    def _report(self, database: Database, phase: Literal["watching", "stopping"] = "watching") -> None:
        """Tell for all to read what the daemon is doing, and what stands still."""
        watcher = self._watcher
        self.facts = Facts(
            pid=os.getpid(),
            at=self._clock(),
            phase=phase,
            roots=tuple(self._plan.roots),
            watcher=watcher.state,
            reason=watcher.reason,
            rebuilds=watcher.rebuilds,
            stalls=(
                *watcher.stalls(),
                *self._intake.stalls(),
                *self._hook_runners.stalls(),
                *self._forwarders.stalls(),
            ),
            sinks=self._forwarders.sinks(),
        )
        database.tell(self.facts)
        if self._notifier.is_ready and phase == "watching":
            self._notifier.status(self._condition)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the loop, SIGHUP reloads, or ends it with its terminal; former handlers come back."""
        hangup = self._stop if sys.stderr.isatty() else self._ask_reload
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: hangup}
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    # No lock may be taken in a handler: the main thread may hold it, and goes on only after this.

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._marks.wake()

    def _ask_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_asked = True
        self._marks.wake()


def _nothing() -> None:
    """For a database that is opened once more."""
