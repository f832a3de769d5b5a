"""What is known to be a secret doesn't leave the host: rows that hold one go with a placeholder in its place."""

from __future__ import annotations

from typing import Any

import apsw

from codex.logging.redaction import redacted_text
from codex.logging.secrets.placeholder import placeholder
from codex.logging.secrets.search import Search
from codex_ingestd.forward.sink import EventRow, Row

_KNOWN = """
SELECT "offset", "offset" + length, rule, hash FROM main.secrets
WHERE generation = ?1 AND "offset" < ?3 AND "offset" + length > ?2 ORDER BY 1"""


class Secrecy:
    """Of one database, by the secrets that were found in it. Raises ConfigError where its key can't be had."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._search: Search | None = None

    def hide(self, connection: apsw.Connection, generation: int, rows: list[Row]) -> list[Row]:
        """The events, without what was found in them."""
        first, last = EventRow(*rows[0]), EventRow(*rows[-1])
        known: Any = connection.execute(_KNOWN, (generation, first.offset, last.offset + last.length)).fetchall()
        if not known:
            return rows
        self._search = self._search or Search.of(self._database)
        return [self._hidden(EventRow(*row), known, self._search) for row in rows]

    def _hidden(self, row: EventRow, known: list[tuple[int, int, str, str]], search: Search) -> EventRow:
        """A row; one whose texts don't show what its bytes held says nothing but that."""
        here = [
            (rule, hashed) for start, end, rule, hashed in known if start < row.offset + row.length and row.offset < end
        ]
        if not here:
            return row
        message = redacted_text(row.message, search)
        meta = redacted_text(row.meta, search) if row.meta is not None else None
        if (message, meta) == (row.message, row.meta):
            message, meta = placeholder(*here[0]), None
        return row._replace(message=message, meta=meta)
