"""Fewer, larger segments: a live session leaves one a commit; once it rests they become one a MiB."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import apsw

from codex.logging.store import segments
from codex.logging.store.connection import immediate
from codex.logging.store.record import Record

MERGED_BYTES = 1 << 20
_LOOSE = """
SELECT id FROM generations WHERE "offset" > merged_offset AND committed_at <= ? ORDER BY committed_at LIMIT ?"""
_ROWS = """
SELECT id, end_offset, first_seq, lines, chain FROM segments WHERE id BETWEEN
    (SELECT max(id) FROM segments WHERE id BETWEEN ?1 AND ?2) AND ?3 ORDER BY id LIMIT ?4"""
_SCAN_ROWS = 5000


class _Row(NamedTuple):
    id: int
    end: int
    first_seq: int
    lines: int
    chain: bytes


_NO_ROW = _Row(0, 0, 0, 0, b"")


def loose_generations(connection: apsw.Connection, rested_since: float, limit: int = 100) -> list[int]:
    """The generations with segments that were never looked at for merging, and no commit since that epoch second."""
    return [row[0] for row in connection.execute(_LOOSE, (rested_since, limit))]


def merge(connection: apsw.Connection, generation: int) -> bool:
    """Merge some of a generation's small neighbours, in one transaction; True when there is more to do.

    What is read back is the same before and after, and the chains are, since they don't depend on the rows.
    """
    low = generation << 40
    with immediate(connection):
        state = connection.execute('SELECT merged_offset, "offset" FROM generations WHERE id = ?', (generation,))
        merged_offset, offset = state.fetchone() or (0, 0)
        rows = [
            _Row(*row)
            for row in connection.execute(_ROWS, (low, low | max(0, merged_offset - 1), low | 0xFFFFFFFFFF, _SCAN_ROWS))
        ]
        group = _first_group(rows, low)
        if group:
            _replace(connection, generation, group)
            done, more = max(merged_offset, group[0].id - low), True
        else:
            more = len(rows) == _SCAN_ROWS
            done = rows[-1].id - low if more else offset
        connection.execute("UPDATE generations SET merged_offset = ? WHERE id = ?", (done, generation))
    return more


def _first_group(rows: list[_Row], low: int) -> list[_Row]:
    """The first neighbours that fit into one segment; of a late line's numbering break none crosses."""
    group: list[_Row] = []
    for row, following in pairwise([*rows, _NO_ROW]):
        group.append(row)
        fits = following.end - (group[0].id - low) <= MERGED_BYTES
        if following.id and fits and following.first_seq == row.first_seq + row.lines:
            continue
        if len(group) > 1:
            return group
        group = []
    return group


def _replace(connection: apsw.Connection, generation: int, group: list[_Row]) -> None:
    first, last = group[0], group[-1]
    start = first.id - (generation << 40)
    frame = segments.compress(Record(connection, generation).read(start, last.end - start))
    connection.execute("DELETE FROM segments WHERE id > ? AND id <= ?", (first.id, last.id))
    connection.execute(
        "UPDATE segments SET end_offset = ?, lines = ?, chain = ?, bytes = ? WHERE id = ?",
        (last.end, sum(row.lines for row in group), last.chain, frame, first.id),
    )
