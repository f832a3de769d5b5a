"""What the daemon does when it has nothing else to do.

It fills the search index, merges segments, gives pages back, and verifies the record slowly.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator

from codex.logging.errors import DatabaseError
from codex.logging.store import former
from codex.logging.store.connection import scalar, translated
from codex.logging.store.merge import LONG_REST_SECONDS, REST_SECONDS, merge_next
from codex.logging.store.search_index import Filler
from codex.logging.store.sqlite import Store
from codex.logging.targets import Finding, Target, next_target
from codex.logging.verify import check

VERIFY_BYTES_PER_MINUTE = 32 << 20  # a tenth of a percent of a core
ROUND_SECONDS = 86400.0
MOST_FINDINGS = 100
_FIRST_SECONDS = 10.0
_CONFIRM_SECONDS = 5.0
_RETRY_SECONDS = 60.0
_NOTE_SECONDS = 60.0
_LOOK_SECONDS = 600.0
_INDEX_SECONDS = 1.0
_INDEX_REST = 2.0  # so many times what a piece took
_LOOK_REST = 100.0  # as many times what a look at every generation took
# What a step costs besides its bytes, in bytes: many small generations cost time as well.
_STEP_BYTES = 64 << 10
_TARGET_BYTES = 1 << 20
_SPARE_PAGES = 16
_VACUUM_PAGES = 32
_META = "SELECT value FROM meta WHERE key = ?"

log = logging.getLogger(__name__)


class Housekeeping:
    """Work in steps of some 10 ms, on one store. Times are seconds of the clock that is handed in."""

    def __init__(self, store: Store, clock: Callable[[], float], verify_rate: int = VERIFY_BYTES_PER_MINUTE) -> None:
        """`verify_rate` is bytes a minute; 0 for no verifying."""
        self._clock = clock
        self._indexing = Indexing(store, clock)
        self._tidying = Tidying(store)
        self._index_at = clock() + _INDEX_SECONDS
        self._verifying = Verifying(store, verify_rate)
        self._tidy_at = clock() + _FIRST_SECONDS
        self._verify_at = clock() + _FIRST_SECONDS if verify_rate > 0 else float("inf")

    def wait(self, now: float) -> float:
        """Seconds until there is something to do."""
        return max(0.0, min(self._index_at, self._tidy_at, self._verify_at) - now)

    def step(self) -> None:
        """The next bit of work, if it is time for any."""
        now = self._clock()
        try:
            if now >= self._index_at:
                self._index_at = self._clock() + self._indexing.step()
            elif now >= self._tidy_at:
                self._tidy_at = self._clock() + self._tidying.step(now)
            elif now >= self._verify_at:
                self._verify_at = self._clock() + self._verifying.step(now)
        except DatabaseError as failure:
            log.debug("housekeeping waits: %s", failure)
            self._index_at = max(self._index_at, now + _RETRY_SECONDS)
            self._tidy_at = max(self._tidy_at, now + _RETRY_SECONDS)
            self._verify_at = max(self._verify_at, now + _RETRY_SECONDS)


class Indexing:
    """Fills the search index with what was committed since, and rests between the pieces: live rows go first."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._filler = Filler(store.connection)
        self._is_filling = False
        self._looked: tuple[int, int] | None = None
        self._look_at = 0.0

    def step(self) -> float:
        """One transaction at most; the seconds until the next. Raises DatabaseError."""
        began = self._clock()
        with translated(self._store.path):
            if not self._is_filling:
                if began < self._look_at:
                    return self._look_at - began
                found = self._look()
                self._look_at = self._clock() + max(_INDEX_SECONDS, (self._clock() - began) * _LOOK_REST)
                if not found:
                    return max(REST_SECONDS, self._look_at - began)
            self._is_filling = self._filler.step()
        return (self._clock() - began) * _INDEX_REST

    def _look(self) -> bool:
        """Whether there is anything to index, by what has changed since the last look."""
        connection = self._store.connection
        changes = (connection.total_changes(), int(connection.pragma("data_version")))
        if changes == self._looked:
            return False
        self._looked = changes
        return self._filler.look()


class Tidying:
    """Merges what rests, and gives free pages back to the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked: tuple[int, int] | None = None
        self._look_again = 0.0

    def step(self, now: float) -> float:
        """One transaction at most; the seconds until the next. Raises DatabaseError."""
        connection = self._store.connection
        with translated(self._store.path):
            changes = (connection.total_changes(), int(connection.pragma("data_version")))
            if changes == self._looked and now < self._look_again:
                return REST_SECONDS
            if merge_next(connection, time.time()) or self._give_back():
                return 0.0
            if changes == self._looked:  # all that was committed before the last look has rested since
                self._look_again = now + LONG_REST_SECONDS
            self._looked = changes
        return REST_SECONDS

    def _give_back(self) -> bool:
        """Some of the free pages, where they are many; whether any went."""
        connection = self._store.connection
        free = int(connection.pragma("freelist_count"))
        if free <= max(_SPARE_PAGES, int(connection.pragma("page_count")) // 20):
            return False
        connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        return int(connection.pragma("freelist_count")) < free


class Verifying:
    """Checks generation after generation at a bounded rate, each once a day; what is wrong is told once, and kept.

    A generation with findings is looked at a second time: the first may have come right before the ledger took note
    of what happened to its file.
    """

    def __init__(self, store: Store, rate: int) -> None:
        self._store = store
        self._rate = rate
        self._target: Target | None = None
        self._steps: Iterator[int | Finding] = iter(())
        self._found: list[Finding] = []
        self._is_second_look = False
        with translated(store.path):
            place = json.loads(scalar(store.connection, _META, ("verified",)) or "{}")
            rows = json.loads(scalar(store.connection, _META, ("findings",)) or "[]")
        self._after = int(place.get("after", 0))
        self._began = float(place.get("began", 0.0)) or time.time()
        self._noted = {"after": self._after, "began": self._began}
        self._noted_at = 0.0
        self._findings = [Finding(**row) for row in rows]

    def step(self, now: float) -> float:
        """About a MiB of one generation; the seconds until the next step. Raises DatabaseError."""
        with translated(self._store.path):
            if self._target is None:
                self._target = next_target(self._store.connection, self._after)
                if self._target is None:
                    return self._end_round()
                self._steps, self._found = check(self._store.connection, self._target), []
            step = next(self._steps, None)
            if step is None:
                return self._end_target(self._target, now)
        if isinstance(step, int):
            return self._pause(max(step, _STEP_BYTES))
        if step.kind != "unreadable" and len(self._found) < MOST_FINDINGS:  # of files that can't be read intake tells
            self._found.append(step)
        return 0.0

    def _end_target(self, target: Target, now: float) -> float:
        self._target = None
        self._is_second_look = bool(self._found) and not self._is_second_look
        if self._is_second_look:
            return _CONFIRM_SECONDS
        self._keep(target.generation.id, self._found)
        self._after = target.generation.id
        if now >= self._noted_at + _NOTE_SECONDS:
            self._noted_at = now
            self._note_place()
        return self._pause(_TARGET_BYTES)

    def _end_round(self) -> float:
        """Begin anew, a day after this round began; what is new meanwhile is checked in this one."""
        age = time.time() - self._began
        if not self._findings and (kept := former.let_go(self._store.connection, self._store.path)):
            log.info("the upgraded database is verified: the former one is let go", extra={"path": kept})
        over = not 0 <= age < ROUND_SECONDS
        if over:
            self._after, self._began = 0, time.time()
        self._note_place()
        return 0.0 if over else min(ROUND_SECONDS - age, _LOOK_SECONDS)

    def _keep(self, generation: int, found: list[Finding]) -> None:
        """These are the generation's findings now, in the place of former ones."""
        kept = [finding for finding in self._findings if finding.generation != generation] + found
        if kept == self._findings:
            return
        for finding in found:
            if finding not in self._findings:
                facts = finding._asdict()
                log.error("verify: %s", facts.pop("detail"), extra=facts)
        self._findings = kept[:MOST_FINDINGS]
        self._store.note("findings", json.dumps([finding._asdict() for finding in self._findings]))

    def _note_place(self) -> None:
        place = {"after": self._after, "began": self._began}
        if place != self._noted:
            self._store.note("verified", json.dumps(place))
            self._noted = place

    def _pause(self, cost: int) -> float:
        return cost * 60 / self._rate
