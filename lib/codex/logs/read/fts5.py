"""SQLite's full-text index: the hits of a query, ranked by bm25."""

from __future__ import annotations

import json
from typing import Any

import apsw

from codex.logging.errors import DatabaseMissingError
from codex.logging.store import search_index
from codex.logs.query import Query
from codex.logs.read import index
from codex.logs.read.engine import has_relation, scalar
from codex.logs.read.filters import Life, asks_events, is_chosen
from codex.logs.read.index import Candidate, Pending

_LAST_ID = 0x7FFFFFFFFFFFFFFF
_INDEXED_TO = "SELECT event FROM search_watermarks WHERE generation = ?"

_FLOOR = """
SELECT rowid FROM search_index WHERE search_index MATCH :match AND rowid BETWEEN :low AND :high
ORDER BY rowid DESC LIMIT 1 OFFSET :scanned"""
_FLOOR_OF_EVENTS = "SELECT id FROM events WHERE id BETWEEN :low AND :high ORDER BY id DESC LIMIT 1 OFFSET :scanned"
_STANDS = """
(CASE WHEN :generations IS NULL THEN {id} >> 40 NOT IN (SELECT id FROM generations WHERE superseded_by IS NOT NULL)
      ELSE {id} >> 40 IN (SELECT value FROM json_each(:generations)) END)"""
_RANKED = f"""
SELECT s.rowid, s.rank, NULL FROM search_index AS s
WHERE s.search_index MATCH :match AND s.rowid BETWEEN :low AND :high AND {_STANDS.format(id="s.rowid")}
ORDER BY s.rowid DESC LIMIT :most"""  # noqa: S608
_FILTERED = f"""
SELECT s.rowid, s.rank, e.ts FROM search_index AS s CROSS JOIN events AS e ON e.id = s.rowid
WHERE s.search_index MATCH :match AND s.rowid BETWEEN :low AND :high AND {_STANDS.format(id="s.rowid")}
  AND chosen(e.role, e.kind, e.tool, e.model, e.ts)
ORDER BY s.rowid DESC LIMIT :most"""  # noqa: S608
_WITHOUT_WORDS = f"""
SELECT e.id, 0.0, e.ts FROM events AS e
WHERE e.id BETWEEN :low AND :high AND {_STANDS.format(id="e.id")} AND chosen(e.role, e.kind, e.tool, e.model, e.ts)
ORDER BY e.id DESC LIMIT :most"""  # noqa: S608


class Fts5:
    """The index of a local database. Raises DatabaseMissingError where it has none."""

    def __init__(self, connection: apsw.Connection) -> None:
        if not has_relation(connection, "search_index"):
            raise DatabaseMissingError(
                "this database has no search index", hint="Bring it up to date: run `codex-import-ndjson --all`."
            )
        self._connection = connection

    def candidates(self, query: Query, lives: list[Life] | None, *, exhaustive: bool) -> tuple[list[Candidate], bool]:
        """The newest hits of the words that the filters let through."""
        if lives == []:
            return [], False
        values: dict[str, Any] = {"match": query.match, "low": 0, "high": _LAST_ID, "generations": None}
        if lives:
            values["low"] = lives[0].generation << 40
            values["high"] = lives[-1].generation << 40 | 0xFFFFFFFFFF
            values["generations"] = json.dumps([life.generation for life in lives])
        sql = _RANKED
        if query.match is None:
            sql = _WITHOUT_WORDS
        elif asks_events(query):
            sql = _FILTERED
        if sql is not _RANKED:
            _let_choose(self._connection, query)
        capped = False
        if (lives or asks_events(query)) and not exhaustive:
            floor = _FLOOR if query.match is not None else _FLOOR_OF_EVENTS
            first = self._rows(floor, values | {"scanned": index.SCANNED}).fetchone()
            if first is not None:
                values["low"], capped = first[0], True
        most = -1 if exhaustive else index.RANKED
        found = [Candidate(*row) for row in self._rows(sql, values | {"most": most})]
        return found, capped or len(found) == most

    def pending(self) -> list[Pending]:
        """What the filler has not come to."""
        return [
            Pending(
                generation,
                scalar(self._connection, _INDEXED_TO, (generation,)) or generation << 40,
                generation << 40 | 0xFFFFFFFFFF,
                length,
            )
            for generation, length in search_index.behind(self._connection)
            if length
        ]

    def _rows(self, sql: str, values: dict[str, Any]) -> Any:
        return self._connection.execute(sql, {name: value for name, value in values.items() if f":{name}" in sql})


def _let_choose(connection: apsw.Connection, query: Query) -> None:
    """Make the SQL function `chosen`, which says whether an event is what the filters ask for."""

    def chosen(*fields: Any) -> bool:
        return is_chosen(query, *fields)

    connection.create_scalar_function("chosen", chosen, 5)
