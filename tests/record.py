"""What a database holds, so that two of them can be compared."""

from __future__ import annotations

import apsw

_EVERYTHING = {
    "events": "SELECT * FROM events ORDER BY id",
    "rejects": "SELECT * FROM ingest_rejects ORDER BY id",
    "generations": 'SELECT id, stream, device, inode, "offset", seq, lines, line_seq, parts, skip_from, skip_reason,'
    " base_seq, chain, block, head_length, head, marker, how, superseded_by FROM generations ORDER BY id",
    "streams": "SELECT id, root, path, session_id, parent_session_id, forked_from, format, state FROM streams"
    " ORDER BY id",
    "summaries": "SELECT * FROM summaries ORDER BY generation",
    "usage": 'SELECT * FROM usage ORDER BY generation, "key"',
    "tombstones": "SELECT * FROM tombstones ORDER BY generation",
    "the default view": "SELECT * FROM session_events ORDER BY generation, seq, part",
    "the watermarks": "SELECT * FROM session_ingest_watermark ORDER BY session_id",
}


def everything(connection: apsw.Connection) -> dict[str, list[tuple[object, ...]]]:
    """All that the bytes and the ledger give: not how they are cut into segments."""
    return {name: connection.execute(query).fetchall() for name, query in _EVERYTHING.items()}
