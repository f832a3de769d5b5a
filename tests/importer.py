"""One importer in this process: a real engine and a real store on real files; and what is in a database by now."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from codex.logging.ingest.engine import Engine, Progress
from codex.logging.ingest.reader import Limits
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.sources import Location, locate, scan, survey
from codex.logging.store.connection import open_reader
from codex.logging.store.sqlite import Store
from codex.logging.verify import Finding, check, targets

LIMITS = Limits(batch=1 << 20, line=64 << 20)


class Importer:
    """An engine with its store over one folder; `now` is what its clock shows, epoch seconds.

    The wall's is so many seconds `ahead`. `redact` is whether secrets are taken out, None for as before.
    """

    def __init__(
        self,
        root: Path,
        database: Path,
        *,
        limits: Limits = LIMITS,
        store: Store | None = None,
        redact: bool | None = None,
    ) -> None:
        self.root = str(root)
        self.now, self.ahead = 1.0, 0.0
        self.store = store or Store(str(database))
        self.engine = Engine(
            self.store,
            limits=limits,
            redactor=Redactor.of(self.store, wanted=redact),
            monotonic=lambda: self.now,
            wall=lambda: self.now + self.ahead,
        )
        self.engine.resume(self.root)

    def close(self) -> None:
        """Stop, as if killed: what only memory held is gone."""
        self.store.close()

    def take(self, name: str = "s.ndjson", *, final: bool = True) -> int:
        """Take all that the file's stream has, as after an event for that file; the count of new rows."""
        location = locate(self.root, os.path.join(self.root, name))
        assert location is not None
        rows = 0
        for _ in range(10_000):
            progress = self.engine.ingest(location, final=final)
            rows += progress.events
            if not progress.more:
                return rows
        raise AssertionError("no end of it")

    def look(self, key: str, *, final: bool = True) -> None:
        """Look at the files of one stream that aren't settled, as a sweep does, until their open tails are taken."""
        location = Location(self.root, key, 0)
        files = [facts for _, facts in survey(location)]
        places = [facts.location for facts in reversed(files) if not self.engine.is_settled(facts)]
        for place in places if files else [location]:
            progress = Progress(more=True)
            while progress.more or progress.again is not None:
                self.now += progress.again or 0.0
                progress = self.engine.ingest(place, final=final)

    def sweep(self, *, final: bool = True) -> int:
        """Look at every file that isn't settled, and at those that are gone; the count of new rows."""
        found = [found for found in scan(self.root) if found.facts is not None]
        seen = {found.location.key for found in found}
        unsettled = [f.location for f in found if f.facts is not None and not self.engine.is_settled(f.facts)]
        gone = [Location(self.root, key, 0) for key in self.store.live_keys(self.root) if key not in seen]
        return sum(self.take(os.path.relpath(place.path, self.root), final=final) for place in [*unsettled, *gone])


class Life(NamedTuple):
    """A generation, as the ledger has it: `bytes` are its recorded ones."""

    how: str | None
    superseded: bool
    bytes: bytes


class Recorded:
    """What a database holds, read by the product's own views."""

    def __init__(self, database: Path) -> None:
        self._database = str(database)

    def rows(self, session_id: str = "s") -> list[tuple[int, int, str]]:
        """(seq, part, message) of the default view, in order."""
        query = "SELECT seq, part, message FROM session_events WHERE session_id = ? ORDER BY seq, part"
        return self._all(query, session_id)

    def rejects(self, session_id: str = "s") -> list[tuple[int, str]]:
        """(seq, reason) of the generations that stand, in order."""
        query = """
        SELECT r.seq, r.reason FROM ingest_rejects AS r JOIN generations AS g ON g.id = r.generation
        WHERE r.session_id = ? AND g.superseded_by IS NULL ORDER BY r.seq, r.id"""
        return self._all(query, session_id)

    def lives(self, session_id: str = "s") -> list[Life]:
        """The generations of a session, oldest first."""
        query = """
        SELECT g.id, g."offset", g.how, g.superseded_by FROM streams AS s JOIN generations AS g ON g.stream = s.id
        WHERE s.session_id = ? ORDER BY g.id"""
        with closing(Store(self._database)) as store:
            found = self._all(query, session_id)
            return [
                Life(how, superseded is not None, store.recorded(number, 0, offset))
                for number, offset, how, superseded in found
            ]

    def streams(self) -> list[tuple[str, str, str]]:
        """(session id, path, state) of each stream."""
        return self._all("SELECT session_id, path, state FROM streams ORDER BY id")

    def findings(self, limits: Limits = LIMITS) -> list[Finding]:
        """What the product's own deep check finds wrong."""
        with closing(open_reader(self._database)) as connection:
            steps = [
                step for target in targets(connection) for step in check(connection, target, deep=True, limits=limits)
            ]
        return [step for step in steps if isinstance(step, Finding)]

    def _all(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        with closing(open_reader(self._database)) as connection:
            return connection.execute(query, values).fetchall()
