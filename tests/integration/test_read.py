"""What commands, page and tools ask of a database: windows of a session, the newest, what comes, and whose it is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import NoSuchSessionError
from codex.logging.plain import one_line, visible
from codex.logging.reading import reading
from codex.logging.store.connection import open_reader
from codex.logs.read.events import Event, Filters, count, event, event_at, events, every, newest
from codex.logs.read.following import Following
from codex.logs.read.sessions import find
from tests.daemon import wait_for
from tests.importer import Importer


def record(message: str, second: float | None = None, **fields: object) -> bytes:
    """A line; its time is so many seconds after the epoch."""
    return json.dumps({"ts": second, "role": "user", "message": message, **fields}).encode() + b"\n"


def append(folder: Path, name: str, *lines: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(lines)


def said(found: list[Event] | Iterator[Event]) -> list[str]:
    return [each.message for each in found]


@pytest.fixture
def reader(importer: Importer, database: Path) -> Iterator[apsw.Connection]:
    """A reader beside the importer."""
    with closing(open_reader(str(database))) as connection:
        yield connection


def test_windows_go_through_a_rotated_and_a_rewritten_session(
    importer: Importer, log_dir: Path, reader: apsw.Connection
) -> None:
    """Pages of any size, forward and backward, are the view's rows in the order of its lines; so are the counts."""
    log = log_dir / "s.ndjson"
    append(log_dir, "s.ndjson", *(record(f"first {number}") for number in range(7)))
    importer.take()
    log.rename(log_dir / "s.ndjson.1")
    append(log_dir, "s.ndjson", b'{"message":"two"}{"message":"on one line"}\n', record("old"))
    importer.take()
    log.write_bytes(log.read_bytes().replace(b"old", b"new") + record("and longer", 7) * 3)
    importer.take()
    view = "SELECT message FROM session_events WHERE session_id = 's' ORDER BY seq, part"
    expected = [str(message) for (message,) in reader.execute(view)]
    assert {"first 0", "on one line", "new", "and longer"} < set(expected)
    assert "old" not in expected
    for limit in (1, 2, 3, 100):
        assert said(_forward(reader, limit)) == said(_backward(reader, limit)) == expected
    assert said(every(reader, "s")) == expected
    assert count(reader, "s") == len(expected)
    for each in every(reader, "s"):
        assert event_at(reader, "s", each.seq, each.part) == event(reader, each.position) == each
    assert event_at(reader, "s", 999) is None
    assert event(reader, 1 << 60) is None


def _forward(reader: apsw.Connection, limit: int) -> list[Event]:
    found = events(reader, "s", limit=limit)
    while page := events(reader, "s", after=found[-1].position, limit=limit):
        found += page
    return found


def _backward(reader: apsw.Connection, limit: int) -> list[Event]:
    found = events(reader, "s", limit=limit, newest=True)
    while page := events(reader, "s", before=found[0].position, limit=limit):
        found = page + found
    return found


def test_rows_of_a_forerunner_stand_between_the_lines(importer: Importer, log_dir: Path, tmp_path: Path) -> None:
    """An old row that no line says keeps its place in windows of any size, forward and backward."""
    database = tmp_path / "old.db"
    with closing(sqlite3.connect(database)) as old, old:
        old.execute("CREATE TABLE session_events (session_id TEXT, ts REAL, role TEXT, message TEXT)")
        rows = [("s", 1.5, "user", "between"), ("s", 1.6, "user", "too"), ("gone", 1.0, "user", "alone")]
        old.executemany("INSERT INTO session_events VALUES (?, ?, ?, ?)", rows)
    append(log_dir, "s.ndjson", record("one", 1), record("two", 2))
    with closing(Importer(log_dir, database)) as upgraded:
        upgraded.take()
    with closing(open_reader(str(database))) as reader:
        for limit in (1, 2, 100):
            assert said(_forward(reader, limit)) == said(_backward(reader, limit)) == ["one", "between", "too", "two"]
        assert said(newest(reader, 2)) == ["too", "two"]
        assert (said(every(reader, "gone")), count(reader, "s")) == (["alone"], 4)
        assert find(reader, "go") == "gone"
        assert event_at(reader, "s", 2) == events(reader, "s", newest=True, limit=1)[0]


def test_the_newest_of_many_sessions_are_by_time(importer: Importer, log_dir: Path, reader: apsw.Connection) -> None:
    """Each session keeps its own order, events without a time stay where they stand, and filters choose before."""
    append(log_dir, "a.ndjson", record("a1", 10), record("a2", 40), record("a3"), record("a4", 20))
    append(log_dir, "b.ndjson", record("b1", 30), record("b2", 50, role="assistant"), record("", 60))
    append(log_dir, "c.ndjson", *(record(f"c{number}", number) for number in range(9)))
    importer.sweep()
    assert said(newest(reader, 6)) == ["b1", "a2", "a3", "a4", "b2", ""]
    assert said(newest(reader, 3, filters=Filters(said=True))) == ["a3", "a4", "b2"]
    assert said(newest(reader, 2, ["b", "c"], Filters(roles=("user",), said=True))) == ["c8", "b1"]
    assert said(newest(reader, 2, ["c"])) == ["c7", "c8"]
    assert newest(reader, 0) == []


def test_following_gives_each_new_event_once(importer: Importer, log_dir: Path, reader: apsw.Connection) -> None:
    """Of sessions that were there, that begin meanwhile, and that rotate; few at a time; nothing where nothing came."""
    append(log_dir, "a.ndjson", record("old", 1))
    importer.sweep()
    every_session, only_b = Following(reader), Following(reader, ["b"])
    assert every_session.look() == []
    append(log_dir, "a.ndjson", record("a1", 2), record("a2", 4))
    append(log_dir, "b.ndjson", record("b1", 3))
    importer.sweep()
    assert said(every_session.look()) == ["a1", "b1", "a2"]
    assert said(only_b.look()) == ["b1"]
    assert every_session.look() == only_b.look() == []
    append(log_dir, "a.ndjson", *(record(f"a{number}", number) for number in range(3, 10)))
    (log_dir / "a.ndjson").rename(log_dir / "a.ndjson.1")
    append(log_dir, "a.ndjson", record("rotated", 20))
    importer.sweep()
    looks = [said(every_session.look(limit=3)) for _ in range(5)]
    assert sorted(chain(*looks)) == sorted([*(f"a{number}" for number in range(3, 10)), "rotated"])
    assert all(len(look) <= 6 for look in looks)
    assert looks[-1] == []


def test_following_goes_on_when_the_clock_was_set_back(
    importer: Importer, log_dir: Path, reader: apsw.Connection
) -> None:
    """Commits that seem to be older than those before them are found a moment later."""
    append(log_dir, "a.ndjson", record("old"))
    append(log_dir, "b.ndjson", record("older"))
    importer.sweep()
    importer.store.connection.execute("UPDATE generations SET committed_at = committed_at + 100000")
    following = Following(reader)
    append(log_dir, "b.ndjson", record("new"))
    importer.sweep()
    found: list[Event] = []
    wait_for(lambda: found.extend(following.look()) or found, what="the row with an old time")
    assert said(found) == ["new"]


def test_following_a_file_that_is_written_anew(importer: Importer, log_dir: Path, reader: apsw.Connection) -> None:
    """What is in it as it was before isn't given again; what comes after the first change is."""
    append(log_dir, "a.ndjson", *(record(f"a{number}", number) for number in range(900)), record("wrong", 901))
    importer.sweep()
    following = Following(reader)
    log = log_dir / "a.ndjson"
    log.write_bytes(log.read_bytes().replace(b"wrong", b"right") + record("more", 902))
    importer.sweep()
    assert said(following.look()) == ["right", "more"]
    assert following.look() == []


def test_a_single_log_is_read_by_its_records(tmp_path: Path) -> None:
    """Where each record names its session, windows, the newest and names go by that."""
    lines = [record(f"{number}", number, session_id="ab"[number % 2]) for number in range(6)]
    (tmp_path / "all.ndjson").write_bytes(b"".join(lines))
    with reading(tmp_path / "all.ndjson") as opened:
        connection = opened.connection
        assert said(every(connection, "b")) == ["1", "3", "5"]
        assert said(events(connection, "a", newest=True, limit=2)) == ["2", "4"]
        assert said(newest(connection, 3)) == ["3", "4", "5"]
        assert (find(connection, "last"), find(connection, "a")) == ("b", "a")


def test_a_session_is_found_by_what_a_person_types(importer: Importer, log_dir: Path, reader: apsw.Connection) -> None:
    """Its id, a beginning that is its alone, `last`, a sub-agent's own part; else near ones, or those it may be."""
    with pytest.raises(NoSuchSessionError):
        find(reader, "last")
    append(log_dir, "deploy-1.ndjson", record("x", 5))
    append(log_dir, "deploy-2.ndjson", record("x", 6))
    append(log_dir, "fix.ndjson", record("x", 7))
    append(log_dir, "last-but-one.ndjson", record("x", 1))
    agent = {"type": "user", "sessionId": "fix", "agentId": "a17", "isSidechain": True, "uuid": "u"}
    line = {**agent, "timestamp": "2026-01-01T00:00:00Z", "message": {"role": "user", "content": "look"}}
    append(log_dir, "fix/subagents/agent-a17.jsonl", json.dumps(line).encode() + b"\n")
    importer.sweep()
    known = {"deploy-1": "deploy-1", "fi": "fix", "last": "fix", "fix/a17": "fix/a17", "a17": "fix/a17"}
    assert {text: find(reader, text) for text in [*known, "f/a"]} == known | {"f/a": "fix/a17"}
    with pytest.raises(NoSuchSessionError) as several:
        find(reader, "deploy")
    assert "deploy-1\n  deploy-2" in several.value.hint
    with pytest.raises(NoSuchSessionError) as mistyped:
        find(reader, "depoly-1")
    assert "deploy-1" in mistyped.value.hint
    assert (several.value.exit_code, mistyped.value.exit_code) == (2, 2)


def test_orders_to_a_terminal_are_shown() -> None:
    """Escapes, C1 controls and marks that turn text around become their names; newlines, tabs and letters stay."""
    hostile = "a\x1b]0;title\x07\x1b[2Jb\x9b31m\u202egnp.exe\u2069\r\n\tö 👩‍💻\rover"
    assert visible(hostile) == "a\\x1b]0;title\\x07\\x1b[2Jb\\x9b31m\\u202egnp.exe\\u2069\n\tö 👩‍💻\\rover"
    assert one_line("a\n\tb\x00") == "a⏎ b\\x00"
