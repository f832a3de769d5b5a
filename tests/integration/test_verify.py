"""Verify: what was tampered with is found, and named where it is; what is sound is not, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from codex.logging.ingest.reader import Limits
from codex.logging.ingest.sources import Location
from codex.logging.store import segments
from codex.logging.store.connection import scalar
from codex.logging.store.merge import merge
from codex.logging.targets import Finding, next_target, orphans, targets
from codex.logging.verify import check
from tests.importer import Importer
from tests.integration.conftest import lines

# 100 lines of 100 bytes in segments of 4,000 bytes: [0, 4000), [4000, 8000), [8000, 10000)
FIRST, SECOND, THIRD = 1 << 40, 1 << 40 | 4000, 1 << 40 | 8000


@pytest.fixture
def source(importer: Importer, log_dir: Path) -> Path:
    """The file of an ingested session."""
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 100))
    assert importer.take() == 100
    assert found(importer, deep=True) == []
    return path


def found(importer: Importer, *, deep: bool = False, limits: Limits | None = None) -> list[Finding]:
    """The findings in every generation."""
    more = {} if limits is None else {"limits": limits}
    connection = importer.store.connection
    steps = [step for target in targets(connection) for step in check(connection, target, deep=deep, **more)]
    return [step for step in steps if isinstance(step, Finding)]


def places(importer: Importer, *, deep: bool = False) -> list[tuple[str, int, int]]:
    """(kind, offset, end) of each finding."""
    return [(finding.kind, finding.offset, finding.end) for finding in found(importer, deep=deep)]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def other_frame(connection: apsw.Connection, number: int) -> bytes:
    """A sound frame for this segment, with another byte at 50."""
    end, frame = next(connection.execute("SELECT end_offset, bytes FROM segments WHERE id = ?", (number,)))
    data = bytearray(segments.decompress(frame, end - (number & 0xFFFFFFFFFF)))
    data[50] ^= 1
    return segments.compress(bytes(data))


# -- the source


def test_a_flipped_byte_of_the_source_is_found(importer: Importer, source: Path) -> None:
    """At its offset, wherever it is."""
    for offset in (0, 4321, 9999):
        data = source.read_bytes()
        overwrite(source, offset, bytes([data[offset] ^ 1]))
        end = (offset // 4000 + 1) * 4000
        assert places(importer) == [("source", offset, min(end, 10000))]
        source.write_bytes(data)


def test_a_deleted_last_line_is_found(importer: Importer, source: Path) -> None:
    """Where the source now ends."""
    os.truncate(source, 9900)
    assert places(importer) == [("source", 9900, 10000)]
    assert "ends at 9900" in found(importer)[0].detail


def test_swapped_lines_are_found(importer: Importer, source: Path) -> None:
    """Where the first of them begins to differ."""
    data = source.read_bytes()
    first, second = data[700:800], data[800:900]
    overwrite(source, 700, second + first)
    differs = next(place for place in range(100) if first[place] != second[place])
    assert places(importer) == [("source", 700 + differs, 4000)]


def test_a_missing_or_emptied_source_is_no_finding(importer: Importer, source: Path) -> None:
    """Sources may go, or be cut to begin anew; less than a line says nothing yet."""
    source.write_bytes(b'{"half a li')
    assert found(importer) == []
    source.write_bytes(b"")
    assert found(importer) == []
    source.unlink()
    assert found(importer, deep=True) == []


def test_a_grown_source_is_no_finding(importer: Importer, source: Path) -> None:
    """What is behind the watermark is pending."""
    with source.open("ab") as file:
        file.write(lines(101, 200))
    assert found(importer, deep=True) == []


# -- the database

TAMPERED: dict[str, tuple[str, list[tuple[str, int, int]]]] = {
    "a damaged frame": (
        f"""UPDATE segments SET bytes = CAST(substr(bytes, 1, 60) || x'00' || substr(bytes, 62) AS BLOB)
        WHERE id = {SECOND}""",
        [("segment", 4000, 8000)],
    ),
    "a cut frame": (
        f"UPDATE segments SET bytes = substr(bytes, 1, 40) WHERE id = {FIRST}",
        [("segment", 0, 4000)],
    ),
    "no frame": (f"UPDATE segments SET bytes = '' WHERE id = {FIRST}", [("segment", 0, 4000)]),
    "a text for a frame": (f"UPDATE segments SET bytes = 'text' WHERE id = {FIRST}", [("segment", 0, 4000)]),
    "a segment's end": (f"UPDATE segments SET end_offset = 9000 WHERE id = {SECOND}", [("segment", 4000, 8000)]),
    "a segment's early end": (f"UPDATE segments SET end_offset = 5000 WHERE id = {SECOND}", [("segment", 4000, 8000)]),
    "a segment's chain": (f"UPDATE segments SET chain = x'00' WHERE id = {SECOND}", [("segment", 4000, 8000)]),
    "the first segment gone": (f"DELETE FROM segments WHERE id = {FIRST}", [("segment", 0, 4000)]),
    "a segment gone": (f"DELETE FROM segments WHERE id = {SECOND}", [("segment", 4000, 8000)]),
    "the last segment gone": (f"DELETE FROM segments WHERE id = {THIRD}", [("segment", 8000, 10000)]),
    "a segment within another": (
        f"INSERT INTO segments SELECT {SECOND} + 100, 5000, first_seq, lines, chain, bytes FROM segments LIMIT 1",
        [("segment", 4100, 8000)],
    ),
    "a segment behind the last": (
        f"INSERT INTO segments SELECT {FIRST} + 10000, 14000, first_seq, lines, chain, bytes FROM segments LIMIT 1",
        [("segment", 10000, 10000)],
    ),
    "the chain": ("UPDATE generations SET chain = x'00'", [("chain", 10000, 10000)]),
    "the chain's block": ("UPDATE generations SET block = x'00'", [("chain", 10000, 10000)]),
    "the count of lines": ("UPDATE generations SET lines = lines + 1", [("chain", 0, 10000)]),
    "an event gone": ("DELETE FROM events WHERE seq = 50", [("accounting", 4900, 4999)]),
    "the last event gone": ("DELETE FROM events WHERE seq = 100", [("accounting", 9900, 9999)]),
    "every event gone": ("DELETE FROM events", [("accounting", 0, 9999)]),
    "one event more": (
        """INSERT INTO events (id, role, kind, message, "offset", length)
        SELECT id + 1, role, kind, message, "offset", length FROM events WHERE seq = 50""",
        [("accounting", 4900, 4999)],
    ),
    "an event of bytes that never were": (
        """INSERT INTO events (id, role, kind, message, "offset", length)
        SELECT id + 256, role, kind, message, 10000, length FROM events WHERE seq = 100""",
        [("accounting", 10000, 10099)],
    ),
    "a reject more": (
        f"""INSERT INTO ingest_rejects (id, session_id, seq, length, reason, detail)
        VALUES ({FIRST} + 300, 's', 4, 9, '', '')""",
        [("accounting", 300, 309)],
    ),
}
EDITED = {
    "message": "'another'",
    "role": "'admin'",
    "kind": "'action'",
    "ts": "ts + 1",
    "meta": "NULL",
    '"offset"': '"offset" + 1',
}


@pytest.mark.parametrize("what", TAMPERED)
def test_an_edit_of_the_database_is_found(importer: Importer, source: Path, what: str) -> None:
    """Where it was made, with the source and without."""
    query, expected = TAMPERED[what]
    importer.store.connection.execute(query)
    assert places(importer) == expected
    source.unlink()
    assert places(importer) == expected


def test_another_frame_is_found(importer: Importer, source: Path) -> None:
    """A sound frame of other bytes fits neither the chain nor the source."""
    connection = importer.store.connection
    connection.execute("UPDATE segments SET bytes = ? WHERE id = ?", (other_frame(connection, SECOND), SECOND))
    assert places(importer) == [("source", 4050, 8000), ("segment", 4000, 8000)]
    source.unlink()
    assert places(importer) == [("segment", 4000, 8000)]


@pytest.mark.parametrize("column", EDITED)
def test_an_edited_event_is_found_by_decoding_it_again(importer: Importer, source: Path, column: str) -> None:
    """Any column of it; the finding names the line's bytes."""
    importer.store.connection.execute(f"UPDATE events SET {column} = {EDITED[column]} WHERE seq = 50")
    assert places(importer) == []
    assert places(importer, deep=True) == [("row", 4900, 4999)]


_ADD = """INSERT INTO events (id, role, kind, message, "offset", length)
SELECT id + {more}, role, kind, message, "offset", {length} FROM events WHERE seq = 50"""
MISPLACED = {
    "one in another's place": [_ADD.format(more=1000 * 256, length="length"), "DELETE FROM events WHERE seq = 50"],
    "one without bytes": [_ADD.format(more=1, length=0)],
}


@pytest.mark.parametrize("what", MISPLACED)
def test_rows_whose_sum_is_right_are_found_by_decoding_again(importer: Importer, source: Path, what: str) -> None:
    """Rows that are missing, or too many, where the bytes that they claim add up."""
    for change in MISPLACED[what]:
        importer.store.connection.execute(change)
    assert places(importer) == []
    expected = [("row", 4900, 4999)] * 2 if len(MISPLACED[what]) == 2 else [("row", 4900, 4900)]
    assert places(importer, deep=True) == expected


def test_renumbered_events_are_found(importer: Importer, source: Path) -> None:
    """Two rows that changed their numbers: each is another line's."""
    connection = importer.store.connection
    for change in ("seq << 8 = 50 << 8", "seq = 51"):
        connection.execute(f"UPDATE events SET id = id + 100000 * 256 WHERE {change}")
    connection.execute("UPDATE events SET id = id - 100001 * 256 WHERE seq = 100051")
    connection.execute("UPDATE events SET id = id - 99999 * 256 WHERE seq = 100050")
    assert places(importer, deep=True)[-2:] == [("row", 4900, 4999), ("row", 5000, 5099)]


def test_a_text_that_is_none_is_found(importer: Importer, source: Path) -> None:
    """Bytes that no UTF-8 text can have, put where a text was, stop no check."""
    importer.store.connection.execute("UPDATE events SET message = CAST(x'b500' AS TEXT) WHERE seq = 50")
    assert places(importer, deep=True) == [("database", 0, 10000)]


def test_rejects_are_held_against_their_bytes(importer: Importer, source: Path) -> None:
    """A reject that is gone, or whose reason was edited, is found; its text is the parser's own affair."""
    with source.open("ab") as file:
        file.write(b"no json\n\n" + lines(101, 110))
    importer.take()
    connection = importer.store.connection
    connection.execute("UPDATE ingest_rejects SET detail = 'in other words'")
    assert places(importer, deep=True) == []
    connection.execute("UPDATE ingest_rejects SET reason = 'blank' WHERE seq = 101")
    assert places(importer, deep=True) == [("row", 10000, 10007)]
    connection.execute("DELETE FROM ingest_rejects WHERE seq = 101")
    assert places(importer) == [("accounting", 10000, 10007)]


def test_rows_without_a_generation_are_found(importer: Importer, source: Path) -> None:
    """A life that was struck from the ledger leaves its rows."""
    assert list(orphans(importer.store.connection)) == []
    importer.store.connection.execute("DELETE FROM generations")
    assert [finding.detail.split()[7] for finding in orphans(importer.store.connection)] == ["events,", "segments,"]


def test_a_damaged_page_is_a_finding(importer: Importer, source: Path, database: Path) -> None:
    """The generation whose page SQLite can't read is named; the others are checked."""
    (source.parent / "t.ndjson").write_bytes(lines(1, 400, 1000))
    importer.take("t.ndjson")
    connection = importer.store.connection
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    query = "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path DESC LIMIT 1"
    page = int(scalar(connection, query))
    importer.close()
    overwrite(database, (page - 1) * 16384, b"\xff" * 100)
    reopened = apsw.Connection(str(database))
    assert [
        finding.kind for step in targets(reopened) for finding in check(reopened, step) if isinstance(finding, Finding)
    ] == ["database"]


# -- what is sound, while a daemon goes on


def test_odd_lines_are_no_finding(importer: Importer, source: Path) -> None:
    """White space, a byte order mark, CRLF, NULs, glued and open lines are all accounted for."""
    odd = b'\xef\xbb\xbf{"a":1}\r\n  {"b":2}\t \r\n\r\n \n\0\0\0{"c":3}\n{"d":4}{"e":5} x\n{"f":6}'
    (source.parent / "t.ndjson").write_bytes(odd)
    importer.take("t.ndjson")
    assert found(importer, deep=True) == []


def test_a_skip_under_way_is_no_finding(log_dir: Path, database: Path) -> None:
    """Of a line over the limit only some batches may be recorded; when its end is there, it is a reject."""
    limits = Limits(batch=100, line=300)
    importer = Importer(log_dir, database, limits=limits)
    path = log_dir / "s.ndjson"
    path.write_bytes(lines(1, 3) + b'{"a":"' + b"x" * 1000)
    while importer.engine.ingest(Location(str(log_dir), "s.ndjson", 0)).more:
        assert found(importer, deep=True, limits=limits) == []
    path.write_bytes(path.read_bytes() + b'"}\n' + lines(5, 9))
    before = targets(importer.store.connection)
    importer.take()
    connection = importer.store.connection
    assert [step for step in check(connection, before[0], deep=True, limits=limits) if isinstance(step, Finding)] == []
    assert found(importer, deep=True, limits=limits) == []
    importer.close()


MEANWHILE: dict[str, Callable[[Importer, Path], object]] = {
    "nothing": lambda importer, path: None,
    "grown": lambda importer, path: path.write_bytes(lines(1, 300)),
    "grown by glued, bad and blank lines": lambda importer, path: path.write_bytes(lines(1, 100) + b"{}{}\n\n[]\n{}"),
    "merged": lambda importer, path: [merge(importer.store.connection, 1) for _ in range(9)],
    "grown and merged": lambda importer, path: (
        path.write_bytes(lines(1, 300)),
        importer.take(),
        [merge(importer.store.connection, 1) for _ in range(9)],
    ),
    "rotated": lambda importer, path: (path.rename(f"{path}.1"), path.write_bytes(lines(101, 103))),
    "deleted": lambda importer, path: path.unlink(),
}


@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("what", MEANWHILE)
def test_what_happens_meanwhile_is_no_finding(importer: Importer, source: Path, what: str, step: int) -> None:
    """Between any two steps of a check the daemon may go on."""
    connection = importer.store.connection
    target = targets(connection)[0]
    checked = check(connection, target, deep=True)
    seen = [next(checked, 0) for _ in range(step)]
    MEANWHILE[what](importer, source)
    importer.take()
    assert [finding for finding in (*seen, *checked) if isinstance(finding, Finding)] == []


def test_each_generation_comes_by_its_number(importer: Importer, source: Path) -> None:
    """One after the other, as `targets` gives them all."""
    source.rename(f"{source}.1")
    source.write_bytes(lines(101, 103))
    importer.take()
    connection = importer.store.connection
    one_by_one = [next_target(connection, 0), next_target(connection, 1)]
    assert one_by_one == targets(connection)
    assert next_target(connection, 2) is None
