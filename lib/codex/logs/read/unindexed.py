"""What a search finds beside the index: events that are not in it yet, and rows that only a forerunner wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from codex.logging.store import search_index
from codex.logs.query import Query
from codex.logs.read.engine import Connection, has_relation, scalar
from codex.logs.read.filters import Life, is_chosen, session_filter
from codex.logs.read.index import Index, Pending

MOST_BYTES = 4 << 20
_ROW_BYTES = 64
_PENDING = f"""
SELECT id, role, kind, tool, model, ts, {search_index.SEARCHED} FROM events WHERE id > ?1 AND id <= ?2
ORDER BY id DESC LIMIT ?3"""  # noqa: S608
_PAGE = 100
# Of the view's rows only a forerunner's have no generation.
_OLD = """
SELECT session_id, seq, part, ts, role, kind, message FROM session_events WHERE generation IS NULL"""
_OLD_BYTES = "SELECT total(length(message)) FROM legacy_session_events WHERE NOT found"


class OldRow(NamedTuple):
    """A row that a forerunner wrote, and no log has."""

    session_id: str
    seq: int
    part: int
    ts: float | None
    role: str
    kind: str
    message: str


class Unindexed:
    """Texts by their event's number, which filters let through: the newest events, up to so many bytes, and old rows.

    An old row has no number: it gets a negative one. `unsearched` are bytes of what was too much to be read.
    """

    def __init__(
        self,
        connection: Connection,
        index: Index,
        query: Query,
        lives: list[Life] | None,
        *,
        exhaustive: bool = False,
    ) -> None:
        self.texts: dict[int, str] = {}
        self.times: dict[int, float | None] = {}
        self.old: dict[int, OldRow] = {}
        self.unsearched = 0
        self._connection = connection
        self._query = query
        self._left: float = float("inf") if exhaustive else MOST_BYTES
        wanted = None if lives is None else {life.generation for life in lives}
        if query.match is not None:
            self._read_pending(index, wanted)
        if has_relation(connection, "legacy_session_events") and not (query.project.wanted or query.agent.wanted):
            self._read_old()

    def _read_pending(self, index: Index, wanted: set[int] | None) -> None:
        for pending in reversed(index.pending()):
            if wanted is not None and pending.generation not in wanted:
                continue
            for event, *fields, ts, message in self._newest(pending):
                self._left -= len(message) + _ROW_BYTES
                if self._left <= 0:
                    break
                self._take(event, message, *fields, ts)
            if self._left <= 0:
                self.unsearched += pending.length

    def _newest(self, pending: Pending) -> Iterator[Any]:
        """A generation's, the newest first, in pages: no more is fetched than is read."""
        last = pending.last
        while self._left > 0:
            page = self._connection.execute(_PENDING, (pending.after, last, _PAGE)).fetchall()
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1][0] - 1

    def _read_old(self) -> None:
        is_session = session_filter(self._connection, self._query)
        read = 0
        for number, row in enumerate(self._old_rows(), 1):
            self._left -= len(row.message) + _ROW_BYTES
            if self._left <= 0:
                self.unsearched += int(scalar(self._connection, _OLD_BYTES)) - read
                return
            read += len(row.message)
            if is_session(row.session_id) and self._take(-number, row.message, row.role, row.kind, None, None, row.ts):
                self.old[-number] = row

    def _old_rows(self) -> Iterator[OldRow]:
        rows: Iterable[Any] = self._connection.execute(_OLD)
        for row in rows:
            yield OldRow(*row)

    def _take(self, number: int, message: str, *fields: Any) -> bool:
        chosen = is_chosen(self._query, *fields)
        if chosen:
            self.texts[number], self.times[number] = message, fields[-1]
        return chosen
