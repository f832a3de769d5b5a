"""Runs hooks for what was committed: at least once for each event, apart from the loop, recorded in `hook_runs`.

What is due is derived from the rows, behind a watermark, so that a daemon that dies between commit and hook only delays
the hook. Each hook has a thread and a connection of its own: none waits for another, and no file waits for any.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from types import TracebackType
from typing import NamedTuple

import apsw

from codex.logging.errors import CodexLoggingError
from codex.logging.store.checkpoint import NO_THREAD_HINT
from codex.logging.store.connection import BUSY_MILLISECONDS, immediate, translated
from codex_ingestd.health.judge import Stall
from codex_ingestd.hooks.hook import Details, Hook

LOOK_SECONDS = 0.5
STOP_SECONDS = 10.0
TRIES = 100
_RETRY = (1.0, 3600.0)  # seconds; with as many tries, for three and a half days

_IS_KNOWN = "SELECT 1 FROM hook_watermarks WHERE hook = ? AND generation = 0"
_BEGIN = """
INSERT INTO hook_watermarks (hook, generation, event, "offset")
SELECT ?1, 0, 0, 0 UNION ALL
SELECT ?1, id, coalesce((SELECT max(id) FROM events WHERE id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff),
                        g.id << 40), "offset"
FROM generations AS g"""
_GROWN = """
SELECT g.id, g."offset", s.session_id, coalesce(w.event, g.id << 40),
       (SELECT max(id) FROM events WHERE id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff)
FROM generations AS g
JOIN streams AS s ON s.id = g.stream
LEFT JOIN hook_watermarks AS w ON w.hook = ? AND w.generation = g.id
WHERE g."offset" > coalesce(w."offset", 0)"""
_NEW = "SELECT id FROM events WHERE id > ? AND id <= ? AND kind = ?"
_MOVE_WATERMARK = 'INSERT OR REPLACE INTO hook_watermarks (hook, generation, event, "offset") VALUES (?, ?, ?, ?)'
_ADD = "INSERT OR IGNORE INTO hook_runs (hook, event, session_id, due_at) VALUES (?, ?, ?, ?)"
# A clock that was set back makes nobody wait longer than the longest delay.
_NEXT = """
SELECT event, session_id, tries FROM hook_runs
WHERE hook = ?1 AND state = 'due' AND NOT (due_at > ?2 AND due_at <= ?2 + ?3) ORDER BY due_at, event LIMIT 1"""
_ALL = "SELECT event FROM hook_runs WHERE hook = ? AND state = 'due'"
_DETAILS = """
SELECT e.generation, e.seq, e.part, e.kind, e.ts, e.message, e.meta, s.root, s.path
FROM events AS e JOIN generations AS g ON g.id = e.generation JOIN streams AS s ON s.id = g.stream WHERE e.id = ?"""
_TRYING = (
    "UPDATE hook_runs SET tries = tries + 1, began_at = ?, ended_at = NULL, due_at = ? WHERE hook = ? AND event = ?"
)
_DONE = "UPDATE hook_runs SET state = 'done', error = NULL, ended_at = ? WHERE hook = ? AND event = ?"
_GONE = "UPDATE hook_runs SET state = 'gone', ended_at = ? WHERE hook = ? AND event = ?"
_FAILED = """
UPDATE hook_runs SET state = CASE WHEN tries < ? THEN 'due' ELSE 'failed' END, error = ?, ended_at = ?, due_at = ?
WHERE hook = ? AND event = ?"""

log = logging.getLogger(__name__)


class _Due(NamedTuple):
    """What to run for (None: its event was purged), the tries that were made before, the events that a run covers."""

    details: Details | None
    tries: int
    covered: list[int]


class HookRunners(AbstractContextManager["HookRunners"]):
    """The hooks of one database, running within its context. Raises DatabaseError."""

    def __init__(self, database: str, hooks: Sequence[Hook]) -> None:
        self._runners = [_Runner(database, hook) for hook in hooks]

    def __enter__(self) -> HookRunners:
        for runner in self._runners:
            runner.start()
        return self

    def stalls(self) -> list[Stall]:
        """What each hook is at, or waits for."""
        return [stall for runner in self._runners if (stall := runner.stall) is not None]

    def drain(self) -> None:
        """Run what is due, for 10 s at most; the next start takes up the rest."""
        deadline = time.monotonic() + STOP_SECONDS
        for runner in self._runners:
            runner.stop()
        left = [runner.name for runner in self._runners if not runner.join(max(0.0, deadline - time.monotonic()))]
        if left:
            log.warning("hooks still at work: they are run again at the next start", extra={"hooks": left})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in self._runners:
            runner.abandon()
        for runner in self._runners:
            runner.join(1.0)


class _Runner:
    """One hook's thread."""

    def __init__(self, database: str, hook: Hook) -> None:
        self.name = hook.name
        self._database = database
        self._hook = hook
        self._stopping = threading.Event()
        self._abandoned = False
        self._connection: apsw.Connection
        self._seen = -1
        self._waiting: Stall | None = None
        self._working: Stall | None = None
        self._thread = threading.Thread(target=self._run, name=f"hook {hook.name}", daemon=True)

    @property
    def stall(self) -> Stall | None:
        """What it is at, or waits for; from any thread."""
        return self._working or self._waiting

    def start(self) -> None:
        """Take up the hook's watermark, before anything more is ingested, and start."""
        with translated(self._database):
            self._connection = _open(self._database)
            _begin(self._connection, self.name)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise CodexLoggingError(f"no thread for the hook {self.name}: {error}", hint=NO_THREAD_HINT) from error

    def stop(self) -> None:
        """Look once more, run what is due, and end."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """End after the run that is under way."""
        self._abandoned = True
        self._stopping.set()

    def _run(self) -> None:
        with closing(self._connection):
            stopping = False
            while not (stopping or self._abandoned):
                stopping = self._stopping.wait(LOOK_SECONDS)
                try:
                    self._round()
                    self._waiting = None
                except Exception as error:  # a defect must not end the thread
                    if self._waiting is None:
                        defect = None if isinstance(error, apsw.Error) else error
                        log.error(
                            "hooks wait: %s: %s", self._database, error, extra={"hook": self.name}, exc_info=defect
                        )
                        self._waiting = Stall(f"the hook {self.name} can't go on: {error}", time.monotonic())

    def _round(self) -> None:
        """Look for new events where somebody has committed since, then run what is due."""
        seen = self._connection.pragma("data_version")
        if seen != self._seen:
            _find(self._connection, self._hook, time.time())
            self._seen = seen
        while not self._abandoned and (due := self._next()):
            self._try(due)

    def _next(self) -> _Due | None:
        """What is due longest."""
        found = self._connection.execute(_NEXT, (self.name, time.time(), _RETRY[1])).fetchone()
        if found is None:
            return None
        event, session_id, tries = found
        row = self._connection.execute(_DETAILS, (event,)).fetchone()
        if row is None:
            return _Due(None, tries, [event])
        generation, seq, part, kind, ts, message, meta, root, path = row
        place = (os.path.join(root, path), self._database)
        details = Details(session_id, generation, seq, part, kind, ts, message, meta, *place, tries + 1)
        covered = [event]
        if self._hook.covers:
            covered = [row[0] for row in self._connection.execute(_ALL, (self.name,))]
        return _Due(details, tries, covered)

    def _try(self, due: _Due) -> None:
        if due.details is None:
            self._note(due, _GONE, time.time())
            return
        # The next try is set before this one, so that one that kills the daemon doesn't come at once, for ever.
        began = time.time()
        self._note(due, _TRYING, began, began + _delay(due.tries))
        facts = {"hook": self.name, "session_id": due.details.session_id, "try": due.details.tries}
        self._working = Stall(f"the hook {self.name} is at work on {due.details.session_id}", time.monotonic())
        try:
            self._hook.run(due.details)
        except Exception as error:  # whatever a hook does, the next one gets its turn
            ended = time.time()
            message = str(error) or type(error).__name__
            log.warning("hook failed: %s", message, extra=facts)
            self._note(due, _FAILED, TRIES, message, ended, ended + _delay(due.tries))
        else:
            ended = time.time()
            log.info("hook ran", extra=facts | {"events": len(due.covered), "seconds": round(ended - began, 3)})
            self._note(due, _DONE, ended)
        finally:
            self._working = None

    def _note(self, due: _Due, query: str, *values: object) -> None:
        with immediate(self._connection):
            self._connection.executemany(query, [(*values, self.name, event) for event in due.covered])


def _open(database: str) -> apsw.Connection:
    # Not by open_writer: the loop's connection has made the file what it must be, and to open and close it once more
    # as a plain file would drop this process's locks on it.
    connection = apsw.Connection(database, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.wal_autocheckpoint(0)
    connection.pragma("synchronous", "normal")
    return connection


def _begin(connection: apsw.Connection, hook: str) -> None:
    """For a hook that was never configured here: sessions that have ended before are none of its business."""
    if connection.execute(_IS_KNOWN, (hook,)).fetchone() is None:
        with immediate(connection):
            connection.execute(_BEGIN, (hook,))


def _find(connection: apsw.Connection, hook: Hook, now: float) -> None:
    """Make what was committed behind the watermark due, and move the watermark: one transaction."""
    moved, runs = [], []
    for generation, offset, session_id, after, last in connection.execute(_GROWN, (hook.name,)).fetchall():
        if last is not None:
            new = connection.execute(_NEW, (after, last, hook.when))
            runs += [(hook.name, event, session_id, now) for (event,) in new]
        moved.append((hook.name, generation, after if last is None else last, offset))
    if moved:
        with immediate(connection):
            connection.executemany(_ADD, runs)
            connection.executemany(_MOVE_WATERMARK, moved)


def _delay(tries: int) -> float:
    """Seconds until the next try, after `tries` before the present one."""
    first, longest = _RETRY
    return min(longest, first * 2.0 ** min(tries, 30))
