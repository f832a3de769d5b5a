"""What comes to a shared record from now on, in the order in which it arrives there.

A batch of rows and the watermark behind it are one transaction of the server's: what lies behind the watermark that was
seen is new, and all that is up to the one that stands is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from codex.logs.read.engine import Connection
from codex.logs.read.events import ALL, Event, Filters, merged, of_life, rows, span
from codex.logs.read.following import as_before

_ARRIVED = "SELECT generation, session_id, last FROM arrived"


class Arriving:
    """What arrives of these sessions or of all, also of those that don't exist yet."""

    def __init__(self, connection: Connection, sessions: Sequence[str] | None = None, filters: Filters = ALL) -> None:
        self._sessions = None if sessions is None else frozenset(sessions)
        self._filters = filters
        self._seen: dict[int, int] = {life: last for life, _, last in rows(connection, _ARRIVED)}

    def look(self, connection: Connection, limit: int = 1000) -> list[Event]:
        """What has come since the last look, by time: of each life at most `limit`, the others with the next look.

        Where this raises DatabaseError, the next look, by whatever connection, gives what this one would have.
        """
        seen = dict(self._seen)
        runs = []
        with connection:  # the watermarks, and the rows before them, of one state
            for life, session_id, last in rows(connection, _ARRIVED):
                if self._sessions is not None and session_id not in self._sessions:
                    continue
                known = seen[life] if life in seen else as_before(connection, life)
                if last > known:
                    low, _ = span(life, known or None, None)
                    runs.append(of_life(connection, session_id, (low, last + 1), limit, False, self._filters))
                    seen[life] = runs[-1][-1].position if len(runs[-1]) == limit else last
        self._seen = seen
        return merged(runs)
