"""Full-text search: what stands is found, whether it is indexed already or not; what is gone is found no more."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import DatabaseMissingError
from codex.logging.purge import Wish, purge
from codex.logging.store.connection import scalar
from codex.logging.store.search_index import Filler
from codex.logging.verify import check, targets
from codex.logs.query import parse
from codex.logs.read.search import Found, search
from tests.commands import succeed
from tests.importer import Importer, Recorded

NOW = 1_770_000_000.0
ALL = Wish(before=float("inf"), session_ids=(), sources=True, rows=True, dry_run=False)


def say(importer: Importer, session: str, *messages: str, **fields: object) -> None:
    """Append records of these messages to a session's log, and ingest them."""
    with (Path(importer.root) / f"{session}.ndjson").open("a") as log:
        for message in messages:
            log.write(json.dumps({"role": "user", "message": message, **fields}) + "\n")
    importer.take(f"{session}.ndjson")


def index(importer: Importer) -> None:
    """Fill the index, and check that it is what it says it holds."""
    filler = Filler(importer.store.connection)
    if filler.look():
        while filler.step():
            pass
    assert not filler.look()
    sound(importer)


def sound(importer: Importer) -> None:
    """FTS5 itself compares index and messages."""
    importer.store.connection.execute("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)")


def ask(importer: Importer, text: str, **options: object) -> Found:
    """One search."""
    return search(importer.store.connection, parse(text, NOW), **options)  # type: ignore[arg-type]


def found(importer: Importer, text: str, **options: object) -> list[tuple[str, int]]:
    """(session, seq) of the hits, in order."""
    return [(hit.session_id, hit.seq) for hit in ask(importer, text, **options).hits]


@pytest.mark.parametrize("indexed", [True, False])
def test_words_phrases_and_filters(importer: Importer, *, indexed: bool) -> None:
    """The same hits with the index, and without it."""
    say(importer, "one", "parse_line fails in main()", "the line is parsed", ts="2026-01-01T00:00:00Z")
    say(importer, "two", "Le café est fermé; parse this", ts="2026-01-03T00:00:00Z", type="action")
    if indexed:
        index(importer)
    assert sorted(found(importer, "parse")) == [("one", 1), ("two", 1)]
    assert found(importer, '"parse line"') == found(importer, "parse_line") == [("one", 1)]
    assert sorted(found(importer, "pars*")) == [("one", 1), ("one", 2), ("two", 1)]
    assert found(importer, "cafe") == found(importer, "CAFÉ fermé") == [("two", 1)]
    assert found(importer, "line -fails") == found(importer, "line NOT fails") == [("one", 2)]
    assert sorted(found(importer, "cafe OR (line parsed)")) == [("one", 2), ("two", 1)]
    assert found(importer, "parse session:two") == found(importer, "parse -session:one") == [("two", 1)]
    assert found(importer, "parse since:2026-01-02") == [("two", 1)]
    assert found(importer, "parse until:2026-01-01") == [("one", 1)]
    assert found(importer, "role:USER session:t*", sort="rank") == [("two", 1)]
    assert found(importer, "role:user session:last") == [("two", 1)]
    assert found(importer, "role:assistant parse") == found(importer, "nothing") == []


def test_hits_are_ranked_with_their_words_marked(importer: Importer) -> None:
    """Short and often is better than long and seldom; `sort` by time turns to the newest; pages follow each other."""
    say(importer, "one", "needle needle", ts="2026-01-01T00:00:00Z")
    say(importer, "one", f"a needle {'in hay ' * 50}", "hay alone", ts="2026-01-02T00:00:00Z")
    index(importer)
    hits = ask(importer, "Needle").hits
    assert [hit.seq for hit in hits] == [1, 2]
    assert hits[0].rank < hits[1].rank < 0
    assert [(piece.text, piece.marked) for piece in hits[0].snippet] == [
        ("needle", True),
        (" ", False),
        ("needle", True),
    ]
    assert hits[1].snippet[1].text == "needle"
    assert hits[1].snippet[-1].text.endswith("…")
    assert found(importer, "needle", sort="time") == [("one", 2), ("one", 1)]
    assert found(importer, "needle", limit=1, offset=1) == [("one", 2)]
    assert ask(importer, "needle", limit=0).total == 2


def test_marks_are_no_characters_of_messages(importer: Importer) -> None:
    """A message may hold any character: none of them passes for a mark."""
    say(importer, "one", "\x02needle\x03 \x01 \x00 \ue000 end")
    (hit,) = ask(importer, "end").hits
    assert [piece.text for piece in hit.snippet if piece.marked] == ["end"]
    assert hit.as_dict()["marks"] == [[len(str(hit.as_dict()["snippet"])) - 3, len(str(hit.as_dict()["snippet"]))]]


def test_a_superseded_life_is_left_out(importer: Importer) -> None:
    """At once, and in idle time its words leave the index; the life that stands is found."""
    say(importer, "s", "first common", "second common", "third common")
    index(importer)
    path = Path(importer.root) / "s.ndjson"
    path.write_text(path.read_text().replace("second", "edited") + '{"message":"fourth common"}\n')
    importer.take()
    assert scalar(importer.store.connection, "SELECT count(*) FROM generations WHERE superseded_by IS NOT NULL") == 1
    for _ in range(2):
        assert found(importer, "second") == []
        assert found(importer, "edited") == [("s", 2)]
        assert len(found(importer, "common")) == 4
        index(importer)
    assert scalar(importer.store.connection, "SELECT count(*) FROM search_index_docsize") == 4


def test_rotated_and_truncated_lives_stay(importer: Importer) -> None:
    """All lives in the default view are found, also when one grows after a later one was indexed."""
    path = Path(importer.root) / "s.ndjson"
    say(importer, "s", "common 1")
    index(importer)
    path.rename(f"{path}.1")
    say(importer, "s", "common 2")
    index(importer)
    with Path(f"{path}.1").open("a") as log:
        log.write('{"message":"common 3"}\n')
    importer.take("s.ndjson.1")
    path.write_text('{"message":"common 4"}\n')
    importer.take()
    assert len(found(importer, "common")) == 4
    index(importer)
    assert len(found(importer, "common")) == 4


def test_purged_words_are_gone_from_the_file(importer: Importer, database: Path) -> None:
    """From the index as well, while others' stay; and nothing is indexed anew."""
    say(importer, "s", "unspeakable secretword", *(f"filler {number}" for number in range(500)))
    say(importer, "other", "harmless")
    index(importer)
    assert b"secretword" in database.read_bytes() + Path(f"{database}-wal").read_bytes()
    assert [result.kept_because for result in purge(importer.store, ALL._replace(session_ids=("s",)))] == [None]
    sound(importer)
    index(importer)
    assert (found(importer, "secretword"), found(importer, "harmless")) == ([], [("other", 1)])
    left = database.read_bytes() + Path(f"{database}-wal").read_bytes()
    assert b"secretword" not in left
    assert b"unspeakabl" not in left


def test_a_purge_beside_a_filler(importer: Importer) -> None:
    """A generation that was purged since it was looked at is left alone."""
    say(importer, "s", "hello")
    filler = Filler(importer.store.connection)
    assert filler.look()
    importer.store.purge(importer.store.stream(importer.root, "s.ndjson"))  # type: ignore[arg-type]
    while filler.step():
        pass
    assert not filler.look()
    assert found(importer, "hello") == []
    sound(importer)


def test_a_step_is_bounded(importer: Importer) -> None:
    """A piece of text at a time, from where the last one ended; small sessions go together."""
    say(importer, "s", *(f"number{number} {'x' * 900}" for number in range(50)))
    for number in range(20):
        say(importer, f"small{number}", "tiny")
    filler = Filler(importer.store.connection, piece=10_000)
    assert filler.look()
    counts = [0]
    while filler.step():
        counts.append(int(scalar(importer.store.connection, "SELECT count(*) FROM search_index_docsize")))
        assert len(found(importer, "number* OR tiny", limit=100)) == 70
        sound(importer)
    assert counts[-1] == 70
    assert max(after - before for before, after in pairwise(counts)) <= 20
    assert len(counts) < 20


def test_many_segments_are_merged(importer: Importer) -> None:
    """Each fill leaves one; at rest there are few."""
    for number in range(40):
        say(importer, "s", f"word{number}")
        filler = Filler(importer.store.connection)
        filler.look()
        filler.step()
    segments = "SELECT count(DISTINCT segid) FROM search_index_idx"
    assert scalar(importer.store.connection, segments) == 40
    index(importer)
    assert scalar(importer.store.connection, segments) == 40  # nothing is behind
    filler = Filler(importer.store.connection)
    filler.look()
    while filler.step():
        pass
    assert scalar(importer.store.connection, segments) < 16
    sound(importer)


def test_too_much_that_is_not_indexed_is_told(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of it is searched, the rest is counted in bytes."""
    monkeypatch.setattr("codex.logs.read.unindexed.MOST_BYTES", 1000)
    say(importer, "old", "needle " * 500)
    say(importer, "new", "needle")
    answer = ask(importer, "needle")
    assert [hit.session_id for hit in answer.hits] == ["new"]
    assert answer.unsearched > 3000
    assert len(ask(importer, "needle", exhaustive=True).hits) == 2
    index(importer)
    assert ask(importer, "needle").unsearched == 0


def test_frequent_words_are_bounded(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest hits are ranked, and only the newest are asked for what filters say; that is told."""
    monkeypatch.setattr("codex.logs.read.index.RANKED", 5)
    monkeypatch.setattr("codex.logs.read.index.SCANNED", 20)
    say(importer, "s", "rare common", ts="2026-01-01T00:00:00Z", type="other")
    say(importer, "s", *["common"] * 50, ts="2026-01-02T00:00:00Z")
    index(importer)
    assert (ask(importer, "common").total, ask(importer, "common").capped) == (5, True)
    assert (ask(importer, "rare").total, ask(importer, "rare").capped) == (1, False)
    assert ask(importer, "common until:2026-01-01") == Found([], 0, True, 0)
    assert found(importer, "common until:2026-01-01", exhaustive=True) == [("s", 1)]


DAMAGE = {
    "a row too few": "DELETE FROM search_index_docsize WHERE id = (SELECT max(id) FROM events)",
    "a row too many": "UPDATE search_watermarks SET event = event - 256",
    "another text": ""
    "INSERT INTO search_index (search_index, rowid, message) SELECT 'delete', id, message FROM searchable LIMIT 1;"
    "INSERT INTO search_index (rowid, message) SELECT id, 'other 0' FROM searchable LIMIT 1",
    "words lost": "DELETE FROM search_index_idx; DELETE FROM search_index_data WHERE id > 10",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_wrong_index_is_found(importer: Importer, database: Path, damage: str) -> None:
    """By a deep check alone: it is no part of the record."""
    say(importer, "s", *(f"common {number}" for number in range(10)))
    index(importer)
    assert Recorded(database).findings() == []
    importer.store.connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    importer.store.connection.execute(DAMAGE[damage])
    (finding,) = Recorded(database).findings()
    assert (finding.kind, finding.session_id) == ("index", "s")
    steps = [step for target in targets(importer.store.connection) for step in check(importer.store.connection, target)]
    assert all(isinstance(step, int) for step in steps)


def test_a_rebuilt_database_is_searched(importer: Importer, database: Path, tmp_path: Path) -> None:
    """Its index begins empty: what it lacks is read until it is filled again."""
    say(importer, "s", "hello", "goodbye")
    index(importer)
    importer.close()
    succeed(f"codex-ingestd rebuild --db {database}", tmp_path)
    again = Importer(Path(importer.root), database)
    assert found(again, "hello") == [("s", 1)]
    index(again)
    assert found(again, "hello") == [("s", 1)]
    again.close()


def test_rows_of_a_forerunner_are_found(log_dir: Path, database: Path) -> None:
    """Those that the default view shows: what the log says as well is found once."""
    with closing(sqlite3.connect(database)) as old, old:
        old.execute("CREATE TABLE session_events (session_id TEXT, seq INTEGER, ts REAL, role TEXT, message TEXT)")
        rows = [
            ("s", 1, 1.0, "user", "needle in both"),
            ("s", 2, 2.0, "user", "needle of old"),
            ("t", 1, 3.0, "a", "x"),
        ]
        old.executemany("INSERT INTO session_events VALUES (?, ?, ?, ?, ?)", rows)
    importer = Importer(log_dir, database)
    say(importer, "s", "needle in both", ts=1.0)
    for _ in range(2):
        hits = ask(importer, "needle", sort="time").hits
        assert [(hit.session_id, hit.ts, bool(hit.generation)) for hit in hits] == [("s", 2.0, False), ("s", 1.0, True)]
        assert [piece.text for piece in hits[0].snippet if piece.marked] == ["needle"]
        assert found(importer, "needle session:t") == found(importer, "old role:assistant") == []
        assert found(importer, "session:t") == [("t", 1)]
        index(importer)
    importer.close()


def test_a_readers_sqlite_can_use_the_index(importer: Importer, database: Path) -> None:
    """By the interpreter's own SQLite, which is older than ours."""
    say(importer, "s", "hello world", "goodbye")
    index(importer)
    query = "SELECT rowid >> 8 & 255, snippet(search_index, 0, '<', '>', '', 9) FROM search_index('world')"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        assert reader.execute(query).fetchall() == [(1, "hello <world>")]
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_nothing_is_searched_in_a_database_without_an_index(tmp_path: Path) -> None:
    """It says what to do."""
    with pytest.raises(DatabaseMissingError) as refusal:
        search(apsw.Connection(str(tmp_path / "x.db")), parse("x", NOW))
    assert "codex-import-ndjson" in refusal.value.hint
