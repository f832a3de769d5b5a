"""A session's messages, for programs."""

from __future__ import annotations

import os

from codex.logging.errors import DatabaseMissingError
from codex.logging.reading import rows
from codex.logging.rows import Selection


def fetch_messages(session_id: str, db_path: str | os.PathLike[str] | None = None) -> list[dict[str, object]]:
    """The session's rows in the order of its lines: `ts` (epoch seconds or None), `role` and `message` of each.

    What is pending is there too. Where there is no database the session's log file is read; none is an empty list.
    Raises DatabaseError for a database that can't be read.
    """
    try:
        found = rows(db_path, Selection(session_id))
        return [{"ts": row.ts, "role": row.role, "message": row.message} for row in found]
    except DatabaseMissingError:
        return []
