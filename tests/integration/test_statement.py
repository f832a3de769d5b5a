"""Statements: whoever has one finds out what was cut or replaced since, even by the database's owner."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging import statement
from codex.logging.erase import Wish as Erasing
from codex.logging.erase import erase
from codex.logging.purge import Wish, purge
from codex.logging.rebuild import swap_in
from codex.logging.store.connection import scalar
from codex.logging.store.sqlite import Store
from tests.commands import shell, succeed
from tests.importer import Importer
from tests.integration.conftest import lines


@pytest.fixture
def recorded(importer: Importer, log_dir: Path) -> Importer:
    """Two sessions, of which `s` has a rotated life and one in progress."""
    write(importer, "s", lines(1, 100))
    (log_dir / "s.ndjson").rename(log_dir / "s.ndjson.1")
    write(importer, "s", lines(101, 150))
    write(importer, "t", lines(1, 30))
    return importer


def write(importer: Importer, name: str, data: bytes) -> None:
    """More of a session, ingested."""
    with open(f"{importer.root}/{name}.ndjson", "ab") as log:
        log.write(data)
    importer.take(f"{name}.ndjson")


def state(importer: Importer) -> Path:
    """One statement more in the file of them."""
    path = Path(importer.store.path).with_name("statements.ndjson")
    made = statement.state(importer.store.connection, importer.store.path, time.time())
    statement.append(str(path), statement.to_line(made))
    return path


def verify(importer: Importer, *arguments: str) -> tuple[int, list[tuple[str, str, int, int, int]]]:
    """The exit code, and (kind, session, generation, offset, end) of each finding, held against the statements."""
    path = Path(importer.store.path).with_name("statements.ndjson")
    command = f"codex-ingestd verify --json --against {path} --db {importer.store.path} {' '.join(arguments)}"
    result = shell(command, path.parent)
    findings = json.loads(result.stdout)["findings"]
    names = ("kind", "session_id", "generation", "offset", "end")
    return result.returncode, [tuple(finding[name] for name in names) for finding in findings]


def anew(importer: Importer, name: str, data: bytes) -> None:
    """Forge: the file of a session is another one, and the whole database is made of what is there now."""
    importer.close()
    Path(importer.root, f"{name}.ndjson").write_bytes(data)
    with closing(Importer(Path(importer.root), Path(f"{importer.store.path}.forged"))) as forger:
        forger.sweep()
    swap_in(importer.store.path, f"{importer.store.path}.forged")


def test_a_record_that_only_grew_extends_each_statement(recorded: Importer) -> None:
    """More lines, rotations, new sessions, merged segments, a rebuilt database."""
    for number in range(4):
        state(recorded)
        write(recorded, "s", lines(201 + number, 201 + number))
        write(recorded, f"u{number}", lines(1, 3))
    Path(recorded.root, "s.ndjson").rename(Path(recorded.root, "s.ndjson.2"))
    write(recorded, "s", lines(301, 301))
    assert verify(recorded) == (0, [])
    recorded.close()
    succeed(f"codex-ingestd rebuild --db {recorded.store.path}", Path(recorded.root))
    assert verify(recorded) == (0, [])


def test_a_cut_tail_is_found(recorded: Importer) -> None:
    """Of the file and of a database that knows of nothing else: from the last statement that still holds."""
    state(recorded)
    write(recorded, "t", lines(31, 60))
    state(recorded)
    anew(recorded, "t", lines(1, 45))
    assert verify(recorded) == (1, [("statement", "t", 3, 3000, 6000)])


def test_a_replaced_past_is_found(recorded: Importer) -> None:
    """Each byte of it counts, and what came later doesn't hide it."""
    write(recorded, "t", lines(31, 60))
    state(recorded)
    anew(recorded, "t", lines(1, 29) + lines(99, 99) + lines(31, 200))
    assert verify(recorded) == (1, [("statement", "t", 3, 0, 6000)])


def test_a_session_that_is_gone_is_found(recorded: Importer) -> None:
    """Struck from the database with all its rows."""
    state(recorded)
    connection = recorded.store.connection
    stream = "SELECT g.id FROM generations AS g JOIN streams AS s ON s.id = g.stream WHERE s.session_id = 't'"
    for table in ("events", "segments"):
        connection.execute(f"DELETE FROM {table} WHERE generation IN ({stream})")
    connection.execute(f"DELETE FROM generations WHERE id IN ({stream})")
    connection.execute("DELETE FROM streams WHERE session_id = 't'")
    assert verify(recorded) == (1, [("statement", "t", 3, 0, 3000)])


def test_a_tampered_database_is_found(recorded: Importer) -> None:
    """The chain that the ledger says isn't believed: it is computed anew."""
    state(recorded)
    connection = recorded.store.connection
    connection.execute("UPDATE segments SET bytes = (SELECT bytes FROM segments WHERE generation = 1 LIMIT 1)")
    code, findings = verify(recorded)
    assert code == 1
    assert {finding[:3] for finding in findings if finding[0] == "statement"} == {
        ("statement", "s", 1),
        ("statement", "s", 2),
        ("statement", "t", 3),
    }


def test_only_the_sessions_that_are_asked_for(recorded: Importer) -> None:
    """Statements of others are left out."""
    state(recorded)
    anew(recorded, "t", lines(1, 20))
    assert verify(recorded, "s") == (0, [])
    assert verify(recorded, "t") == (1, [("statement", "t", 3, 0, 3000)])


def test_a_purged_generation_closes(recorded: Importer) -> None:
    """Its tombstone has the chain that was stated last; what was stated before can't be proven, and is counted."""
    state(recorded)
    write(recorded, "t", lines(31, 60))
    state(recorded)
    wish = Wish(float("inf"), ("t",), sources=True, rows=True, dry_run=False)
    assert [result.kept_because for result in purge(recorded.store, wish)] == [None]
    assert verify(recorded) == (0, [])
    path = Path(recorded.store.path).with_name("statements.ndjson")
    told = succeed(f"codex-ingestd verify --against {path} --db {recorded.store.path}", path.parent)
    assert "1 purged" in told
    assert "1 statements of purged" in told
    recorded.store.connection.execute("UPDATE tombstones SET chain = x'00'; UPDATE generations SET chain = x'00'")
    code, findings = verify(recorded, "t")
    assert (code, [finding for finding in findings if finding[0] == "statement"]) == (
        1,
        [("statement", "t", 3, 0, 6000)],
    )


def test_an_erased_generation_closes(recorded: Importer) -> None:
    """What it was just before, each time, is proven by the key; what it was earlier can be held against nothing."""
    state(recorded)
    write(recorded, "s", lines(151, 160))
    state(recorded)
    erase(recorded.store, Erasing("s", texts=("155 155",)))
    state(recorded)
    erase(recorded.store, Erasing("s", texts=("120 120",)))
    path = state(recorded)
    write(recorded, "s", lines(161, 170))
    assert verify(recorded) == (0, [])
    told = succeed(f"codex-ingestd verify --against {path} --db {recorded.store.path}", path.parent)
    assert "4 statements, 1 statements of redacted: 0 findings" in told
    recorded.store.connection.execute("UPDATE redactions SET proof = x'00'")
    code, findings = verify(recorded)
    assert (code, [finding[:3] for finding in findings]) == (1, [("statement", "s", 2)])


EDITS: dict[str, Callable[[dict[str, object]], object]] = {
    "a length": lambda line: line["entries"][0].update(length=9900),  # type: ignore[index]
    "an entry": lambda line: line["entries"].pop(),  # type: ignore[attr-defined]
    "the time": lambda line: line.update(ts="2020-01-01T00:00:00.000Z"),
    "a key": lambda line: line.pop("digest"),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_statement_is_refused(recorded: Importer, what: str) -> None:
    """By its own digest: nothing can be checked against it, exit code 2, and the line is named."""
    path = state(recorded)
    state(recorded)
    first, second = map(json.loads, path.read_text().splitlines())
    EDITS[what](second)
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    result = shell(f"codex-ingestd verify --against {path} --db {recorded.store.path}", path.parent)
    assert (result.returncode, f"{path}:2" in result.stderr, "hint:" in result.stderr) == (2, True, True)


def test_a_torn_or_missing_file_is_refused(recorded: Importer) -> None:
    """Exit code 2, and a word of what to do."""
    path = state(recorded)
    path.write_bytes(path.read_bytes()[:-20])
    for file in (path, path.with_name("none")):
        result = shell(f"codex-ingestd verify --against {file} --db {recorded.store.path}", path.parent)
        assert (result.returncode, str(file) in result.stderr) == (2, True)


def test_a_statement_is_printed_appended_and_piped(recorded: Importer) -> None:
    """The same line each time; with a command that fails the exit code is 1, and the line is printed all the same."""
    folder = Path(recorded.store.path).parent
    command = f"codex-ingestd checkpoint --db {recorded.store.path}"
    line = succeed(f"{command} --append appended --pipe 'cat > piped'", folder)
    assert (folder / "appended").read_text() == (folder / "piped").read_text() == line
    entries = json.loads(line)["entries"]
    connection = recorded.store.connection
    assert [entry["length"] for entry in entries] == [10000, 5000, 3000]
    assert [entry["lines"] for entry in entries] == [100, 50, 30]
    chain = scalar(connection, "SELECT hex(chain) FROM generations WHERE id = 3")
    assert entries[2]["chain"] == chain.lower()
    failed = shell(f"{command} --pipe false", folder)
    assert (failed.returncode, json.loads(failed.stdout)["entries"]) == (1, entries)


def test_a_statement_of_a_copy_is_held_against_the_original(recorded: Importer, tmp_path: Path) -> None:
    """It names sessions, not files: where the database lies doesn't matter."""
    copy = tmp_path / "copy" / "session_logs.db"
    copy.parent.mkdir()
    state(recorded)
    recorded.close()
    shutil.copy(recorded.store.path, copy)
    with closing(Store(str(copy))) as store:
        store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    statements = Path(recorded.store.path).with_name("statements.ndjson")
    succeed(f"codex-ingestd verify --against {statements} --db {copy}", tmp_path)
