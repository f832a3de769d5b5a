"""The tables and views that queries are written for."""

from __future__ import annotations

import json
from typing import NamedTuple

import apsw

_ABOUT = {
    "session_events": "one row per event: what was said, called, answered; ts is epoch seconds, meta JSON",
    "sessions": "one row per session: agent, folder, branch, title, counts, tokens, state",
    "session_usage": "tokens of each model call; those with inherited = 1 were spent by another session",
    "ingest_rejects": "lines that are no event, and why; their bytes are kept",
    "session_ingest_watermark": "how far each session's file was taken: line and byte",
    "codex_actions": "actions, as the earlier tools kept them",
    "codex_log": "starts and ends of sessions, as the earlier tools kept them",
    "streams": "one row per log file, whatever its lives",
    "generations": "one row per life of a file: rotated, truncated, rewritten, replaced",
    "summaries": "what each life's events come to",
    "tombstones": "what was purged on purpose",
    "hook_runs": "what each hook did, for which event",
}
_COLUMNS = """
SELECT m.name, m.type, t.name, t.type
FROM sqlite_schema AS m JOIN pragma_table_xinfo(m.name) AS t
WHERE m.type IN ('table', 'view') AND m.name IN (SELECT value FROM json_each(?)) AND t.hidden <> 1
ORDER BY m.name, t.cid"""


class Relation(NamedTuple):
    """A table or a view: what a row of it is, and (name, declared type) of each column."""

    name: str
    kind: str
    about: str
    columns: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        columns = [{"name": name, "type": kind} for name, kind in self.columns]
        return {"name": self.name, "kind": self.kind, "about": self.about, "columns": columns}


def relations(connection: apsw.Connection) -> list[Relation]:
    """Those that are there, the ones that people need most first."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for name, kind, column, declared in connection.execute(_COLUMNS, (json.dumps(list(_ABOUT)),)):
        found.setdefault(str(name), (str(kind), []))[1].append((str(column), str(declared or "")))
    return [
        Relation(name, found[name][0], about, tuple(found[name][1])) for name, about in _ABOUT.items() if name in found
    ]
