"""Fewer, larger segments: a live session leaves one a commit; once it rests they become one a MiB."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import apsw
import zstandard

from codex.logging.store import segments
from codex.logging.store.connection import immediate, scalar

MERGED_BYTES = 1 << 20
REST_SECONDS = 10.0
LONG_REST_SECONDS = 600.0
_STEP_ROWS = 1000  # some 10 ms of work
_STEP_GENERATIONS = 100
# The last segment, at most a MiB, is written anew each time: for few bytes only after a long rest.
_LOOSE = """
SELECT id FROM generations
WHERE "offset" > merged_offset AND committed_at <= ?1
  AND (committed_at <= ?2 OR ("offset" - merged_offset) * 4 >= min(merged_offset, ?3))
ORDER BY committed_at LIMIT ?4"""
_IS_ONE = """
SELECT NOT EXISTS (SELECT 1 FROM segments WHERE id > ?1 << 40 AND id <= (?1 << 40) + 0xffffffffff)"""
_LENGTH = 'SELECT "offset" FROM generations WHERE id = ?'
_STATE = 'SELECT merged_offset, "offset" FROM generations WHERE id = ?'
_ROWS = """
SELECT id & 0xffffffffff, end_offset, first_seq, lines, chain FROM segments WHERE id BETWEEN
    (SELECT max(id) FROM segments WHERE id BETWEEN ?1 AND ?2) AND ?3 ORDER BY id LIMIT ?4"""
_FRAMES = """
SELECT id & 0xffffffffff, end_offset, bytes FROM segments
WHERE id BETWEEN ?1 << 40 | ?2 AND ?1 << 40 | ?3 ORDER BY id"""
_DELETE = "DELETE FROM segments WHERE id > ?1 << 40 | ?2 AND id <= ?1 << 40 | ?3"
_UPDATE = "UPDATE segments SET end_offset = ?, lines = ?, chain = ?, bytes = ? WHERE id = ? << 40 | ?"


class _Row(NamedTuple):
    start: int
    end: int
    first_seq: int
    lines: int
    chain: bytes


_NO_ROW = _Row(-1, -1, 0, 0, b"")


def merge_next(connection: apsw.Connection, now: float) -> bool:
    """One step of merging what rests at `now`, epoch seconds; True when there is more to do.

    A step is one transaction of some 10 ms. What is read back is the same before and after, and the chains are, since
    they don't depend on the rows.
    """
    rested = (now - REST_SECONDS, now - LONG_REST_SECONDS)
    loose = connection.execute(_LOOSE, (*rested, MERGED_BYTES, _STEP_GENERATIONS)).fetchall()
    if not loose:
        return False
    with immediate(connection):
        for row in loose:
            number = int(str(row[0]))
            if not scalar(connection, _IS_ONE, (number,)):
                _merge(connection, number)
                break
            _note_merged(connection, number, scalar(connection, _LENGTH, (number,)))
    return True


def merge(connection: apsw.Connection, generation: int) -> bool:
    """Merge some of a generation's small neighbours, in one transaction; True when there is more to do."""
    with immediate(connection):
        return _merge(connection, generation)


def _merge(connection: apsw.Connection, generation: int) -> bool:
    low = generation << 40
    merged_offset, offset = connection.execute(_STATE, (generation,)).fetchone() or (0, 0)
    window = (low, low | max(0, merged_offset - 1), low | 0xFFFFFFFFFF, _STEP_ROWS)
    rows = [_Row(*row) for row in connection.execute(_ROWS, window)]
    group = _first_group(rows)
    if group:
        sound = _replace(connection, generation, group)
        done = max(merged_offset, group[0].start) if sound else offset  # a damaged one stays, for verify to find
        more = sound
    else:
        more = len(rows) == _STEP_ROWS
        done = rows[-1].start if more else offset
    _note_merged(connection, generation, done)
    return more


def _note_merged(connection: apsw.Connection, generation: int, offset: int) -> None:
    connection.execute("UPDATE generations SET merged_offset = ? WHERE id = ?", (offset, generation))


def _first_group(rows: list[_Row]) -> list[_Row]:
    """The first neighbours that fit into one segment; of a late line's numbering break none crosses."""
    group: list[_Row] = []
    for row, following in pairwise([*rows, _NO_ROW]):
        group.append(row)
        fits = following.end - group[0].start <= MERGED_BYTES
        if fits and following.start == row.end and following.first_seq == row.first_seq + row.lines:
            continue
        if len(group) > 1:
            return group
        group = []
    return group


def _replace(connection: apsw.Connection, generation: int, group: list[_Row]) -> bool:
    """Put one row in the place of the group's; False, with nothing written, where one of them is damaged."""
    first, last = group[0], group[-1]
    rows = connection.execute(_FRAMES, (generation, first.start, last.start))
    try:
        data = b"".join([segments.decompress(frame, end - start) for start, end, frame in rows])
    except (zstandard.ZstdError, TypeError):
        return False
    lines = sum(row.lines for row in group)
    connection.execute(_DELETE, (generation, first.start, last.start))
    connection.execute(_UPDATE, (last.end, lines, last.chain, segments.compress(data), generation, first.start))
    return True
