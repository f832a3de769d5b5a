"""What is committed from now on: live events, as a reader's eye follows them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import apsw

from codex.logs.read.engine import Connection, has_relation, scalar
from codex.logs.read.events import ALL, Event, Filters, merged, of_life, rows, span

_ENDS = """
SELECT g.id, s.session_id, g."offset", g.committed_at,
       (SELECT max(e.id) FROM events AS e WHERE e.id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff)
FROM generations AS g JOIN streams AS s ON s.id = g.stream"""
_MOVED = """
SELECT g.id, s.session_id, g."offset", g.committed_at
FROM generations AS g JOIN streams AS s ON s.id = g.stream
WHERE g.superseded_by IS NULL AND (:since IS NULL OR g.committed_at >= :since)"""
_LAST = "SELECT max(id) FROM events WHERE id BETWEEN ?1 << 40 AND (?1 << 40) + 0xffffffffff"
_FORMER = "SELECT max(id) FROM generations WHERE superseded_by = ?"
_RECORDED_SESSION = "SELECT session_id FROM by_record WHERE generation = ? AND seq = ? AND part = ?"
_DATA_VERSION = "PRAGMA data_version"
# Commits may come in another order than their times, by this much; a look at all finds what a clock set back hides.
_LATE_SECONDS = 5.0
_WHOLE_LOOK_SECONDS = 1.0
_PAGE = 500


class Following:
    """What is committed from now on, to these sessions or to all, also to those that don't exist yet.

    With `seen`, of another one, whose database this one has replaced: all that is behind those lines.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        sessions: Sequence[str] | None = None,
        filters: Filters = ALL,
        seen: Mapping[str, int] | None = None,
    ) -> None:
        self._connection = connection
        self._sessions = None if sessions is None else frozenset(sessions)
        self._filters = filters
        self._by_record = has_relation(connection, "by_record")
        self._version = self._data_version()
        self._unread = seen is not None
        self._whole_look = math.inf
        # Of each life: the bytes and the last event that it had when it was looked at.
        self._taken: dict[int, tuple[int, int]] = {}
        self._since = 0.0
        for life, session_id, offset, committed_at, last in rows(connection, _ENDS):
            self._taken[life] = offset, last or 0
            if seen is not None:
                self._taken[life] = -1, min(last or 0, life << 40 | seen.get(session_id, 0) << 8 | 0xFF)
            self._since = max(self._since, committed_at)

    def seen(self) -> dict[str, int]:
        """The last line of each session that was looked at."""
        found: dict[str, int] = {}
        for life, session_id, *_ in rows(self._connection, _ENDS):
            _, last = self._taken.get(life, (0, 0))
            found[session_id] = max(found.get(session_id, 0), last >> 8 & 0xFFFFFFFF)
        return found

    def look(self, limit: int = 1000) -> list[Event]:
        """What has come since the last look, by time: of each file at most `limit`, the others with the next look.

        Where nothing was committed it costs one PRAGMA.
        """
        version, now = self._data_version(), time.monotonic()
        changed, due = version != self._version, now >= self._whole_look
        if not (changed or due or self._unread):
            return []
        if due:
            self._whole_look = math.inf
        elif changed and self._whole_look == math.inf:
            self._whole_look = now + _WHOLE_LOOK_SECONDS
        self._version, whole = version, due or self._unread
        self._unread = False
        moved = rows(self._connection, _MOVED, {"since": None if whole else self._since - _LATE_SECONDS})
        return merged([self._run(*life, limit=limit) for life in moved])

    def _run(self, life: int, session_id: str, offset: int, committed_at: float, *, limit: int) -> list[Event]:
        """What one life has beyond what was taken of it."""
        known, last = self._taken.get(life) or (-1, as_before(self._connection, life))
        if offset == known or (not self._by_record and not self._is_wanted(session_id)):
            return []
        end = scalar(self._connection, _LAST, (life,)) or 0
        low, _ = span(life, last or None, None)
        run = of_life(self._connection, session_id, (low, end + 1), limit, False, self._filters)
        full = len(run) == limit
        self._taken[life] = (known, run[-1].position) if full else (offset, end)
        self._unread |= full
        self._since = max(self._since, committed_at)
        return (
            [event for event in map(self._named, run) if self._is_wanted(event.session_id)] if self._by_record else run
        )

    def _named(self, event: Event) -> Event:
        place = (event.generation, event.seq, event.part)
        return event._replace(session_id=scalar(self._connection, _RECORDED_SESSION, place) or event.session_id)

    def _is_wanted(self, session_id: str) -> bool:
        return self._sessions is None or session_id in self._sessions

    def _data_version(self) -> int:
        return int(scalar(self._connection, _DATA_VERSION))


def as_before(connection: Connection, life: int) -> int:
    """Where a file was written anew: the last event up to which it is what it was; else 0."""
    former = scalar(connection, _FORMER, (life,))
    same = 0
    if former is not None:
        for old, new in zip(_every(connection, former), _every(connection, life), strict=False):
            if (old.offset, old.role, old.message) != (new.offset, new.role, new.message):
                break
            same = new.position
    return same


def _every(connection: Connection, life: int) -> Iterator[Event]:
    after = None
    while page := of_life(connection, "", span(life, after, None), _PAGE, False, ALL):
        yield from page
        after = page[-1].position
