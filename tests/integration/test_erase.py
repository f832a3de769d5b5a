"""Erase lines or texts: they are nowhere any more, and all else is as it was."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from codex.logging.erase import Wish, erase, foreseen
from codex.logging.erasure import parts
from codex.logging.erasure.rows import Draft
from codex.logging.ingest import ledger
from codex.logging.rebuild import begin, end, rebuild
from codex.logging.store.connection import open_reader, scalar
from codex.logging.store.merge import merge
from codex.logging.store.sqlite import Store
from codex.logging.targets import Target
from tests.commands import program, shell
from tests.importer import Importer, Recorded
from tests.planted import secrets
from tests.record import everything
from tests.traces import traces

TEXT = 'zebrafinch "ö/\\\t 7781 😀'


def line(*messages: str, **fields: object) -> bytes:
    """A record, escaped as the first or the second of two writers does."""
    record = {"role": "user", "message": " ".join(messages), **fields}
    return json.dumps(record, ensure_ascii=bool(fields)).encode() + b"\n"


LINES = [
    line("first"),
    line("it is", TEXT, "and", TEXT),
    line("nothing here", call={"arguments": json.dumps({"deep": json.dumps({"deeper": TEXT})})}),
    f"no JSON at all: {TEXT}\n".encode(),
    line("after", number=7),
    json.dumps({"message": "a key", TEXT: 1}).encode() + json.dumps({"message": "glued"}).encode() + b"\n",
    line("the last"),
]


@pytest.fixture
def session(importer: Importer, log_dir: Path) -> Path:
    """Session s, in a rotated file and a live one, indexed and merged; and another one."""
    log = log_dir / "s.ndjson"
    log.write_bytes(b"".join(LINES))
    importer.take()
    log.rename(log_dir / "s.ndjson.1")
    log.write_bytes(b"".join(LINES))
    (log_dir / "other.ndjson").write_bytes(line("stays") * 50)
    importer.sweep()
    return log


def pack(log: Path) -> Path:
    """Compress a log in place of the plain one, as its agent does."""
    packed = log.with_name(f"{log.name}.zst")
    packed.write_bytes(zstandard.compress(log.read_bytes()))
    log.unlink()
    return packed


def unpacked(log: Path) -> bytes:
    """The text of a log."""
    return zstandard.decompress(log.read_bytes()) if log.suffix == ".zst" else log.read_bytes()


def append(log: Path, data: bytes) -> None:
    """Append to a log; to a compressed one by making it anew."""
    if log.suffix != ".zst":
        with log.open("ab") as file:
            file.write(data)
        return
    part = log.with_name(".part")
    part.write_bytes(zstandard.compress(unpacked(log) + data))
    part.rename(log)


def rows(database: Path) -> list[tuple[object, ...]]:
    """Every event."""
    with closing(open_reader(str(database))) as connection:
        return connection.execute("SELECT * FROM events ORDER BY id").fetchall()


def assert_same_when_rebuilt(database: Path, new: Path) -> None:
    """A database that is built anew has the same rows."""
    with closing(open_reader(str(database))) as old, closing(begin(old, str(new))) as store:
        assert [step for step in rebuild(old, store) if not isinstance(step, int)] == []
        end(store)
        assert everything(store.connection) == everything(old)
    for path in new.parent.glob(f"{new.name}*"):
        path.unlink()


def test_a_text_goes_wherever_it_stands(importer: Importer, session: Path, database: Path, recorded: Recorded) -> None:
    """In messages, in JSON within JSON, in no JSON, in a key; what holds none of it stays row for row."""
    before, size, inode = rows(database), session.stat().st_size, session.stat().st_ino
    done = erase(importer.store, Wish("s", texts=(TEXT,)))
    assert (done.lines, done.kept, done.places) == ((2, 3, 4, 6, 9, 10, 11, 13), (), 10)
    assert traces(database.parent, TEXT) == []
    after = rows(database)
    assert [row[0] for row in after] == [row[0] for row in before]
    assert [old for old, new in zip(before, after, strict=True) if old != new] == [
        old for old in before if "zebra" in f"{old[4]}{old[5]}"
    ]
    assert (session.stat().st_size, session.stat().st_ino) == (size, inode)
    head = scalar(importer.store.connection, "SELECT head FROM generations ORDER BY id DESC LIMIT 1 OFFSET 1")
    assert head == ledger.digest(session.read_bytes()[:1024]), "a hash of a few bytes of what was erased stays"
    assert recorded.findings() == []
    assert_same_when_rebuilt(database, database.with_name("rebuilt.db"))


def test_who_ingests_goes_on(importer: Importer, session: Path, database: Path, recorded: Recorded) -> None:
    """The same file, the same generation, the next number; also where it remembers how the file ended."""
    with session.open("ab") as log:
        log.write(line("ends with", TEXT))
    importer.take()
    with closing(Store(str(database))) as other:
        erase(other, Wish("s", texts=(TEXT,)))
    with session.open("ab") as log:
        log.write(line("goes on"))
    assert importer.take() == 1
    assert [life.how for life in recorded.lives()] == ["rotated", None]
    assert recorded.rows()[-1] == (16, 0, "goes on")
    assert traces(database.parent, TEXT) == []


def test_lines_go_as_a_whole(importer: Importer, session: Path, database: Path, recorded: Recorded) -> None:
    """By number, with every object glued on them; also where a life that was rewritten since has the same line."""
    with session.open("ab") as log:
        log.write(b'{"message":"waxwing"}{"message":"waxwings"}\n')
    importer.take()
    session.write_bytes(session.read_bytes().replace(b"first", b"FIRST"))
    importer.sweep()
    assert [life.superseded for life in recorded.lives()] == [False, True, False]
    done = erase(importer.store, Wish("s", seqs=frozenset({13, 15})))
    assert (done.lines, done.kept) == ((13, 15), ())
    assert [*traces(database.parent, "waxwing"), *traces(database.parent, "waxwings")] == []
    said = {seq: [text for number, _, text in recorded.rows() if number == seq] for seq in (6, 8, 13, 15)}
    assert said[6] == ["a key", "glued"]
    assert said[8] == ["FIRST"]
    assert [len(said[13]), len(said[15])] == [2, 2]
    assert recorded.findings() == []


def test_files_can_be_kept(importer: Importer, session: Path, database: Path, recorded: Recorded) -> None:
    """Then they alone say it, the record verifies beside them, and the same can be erased in them later."""
    said = session.read_bytes()
    assert erase(importer.store, Wish("s", texts=(TEXT,), sources=False)).kept == ()
    assert {place.partition(":")[0] for place in traces(database.parent, TEXT)} == {
        "sessions/s.ndjson",
        "sessions/s.ndjson.1",
    }
    assert (session.read_bytes(), recorded.findings()) == (said, [])
    with session.open("ab") as log:
        log.write(line("goes on"))
    assert importer.take() == 1
    assert erase(importer.store, Wish("s", texts=(TEXT,))).kept == ()
    assert traces(database.parent, TEXT) == []
    assert [life.how for life in recorded.lives()] == ["rotated", None]


def test_nothing_found_is_nothing_done(importer: Importer, session: Path, database: Path) -> None:
    """A dry run changes nothing, nor does a text that isn't there."""
    before = database.read_bytes()
    assert foreseen(importer.store, Wish("s", texts=(TEXT,))).places == 10
    assert not erase(importer.store, Wish("s", texts=("not there",))).is_anything
    assert database.read_bytes() == before


def test_what_is_told_beside_goes_too(importer: Importer, session: Path, database: Path, recorded: Recorded) -> None:
    """In the .meta file, in what a hook said of the line, and in a file that could never be ingested."""
    said = json.dumps({"argv": ["x", TEXT]}, indent=1)
    session.with_suffix(".meta").write_text(said)
    unread = session.with_name("s.ndjson.2")
    unread.write_text(f"no JSON {TEXT}")
    query = "INSERT INTO hook_runs (hook, event, session_id, error, due_at) SELECT 'h', id, 's', message, 0 FROM events"
    importer.store.connection.execute(query)
    done = erase(importer.store, Wish("s", texts=(TEXT,)))
    assert [Path(path).name for path in done.files] == ["s.ndjson.1", "s.ndjson", "s.ndjson.2", "s.meta"]
    assert traces(database.parent, TEXT) == []
    assert json.loads(session.with_suffix(".meta").read_text())["argv"][0] == "x"
    assert scalar(importer.store.connection, "SELECT count(*) FROM hook_runs WHERE error LIKE 'first%'") == 2
    assert recorded.findings() == []


def test_what_has_to_stay_is_told(
    importer: Importer, session: Path, database: Path, environment: pytest.MonkeyPatch
) -> None:
    """A file whose lock somebody holds, with its rows; a compressed one that another name holds; both go later."""
    environment.setattr("codex.logging.erasure.sources._LOCK_SECONDS", 0.0)
    with session.open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_SH)
        (because,) = erase(importer.store, Wish("s", texts=(TEXT,))).kept
    assert "locked" in because
    assert {place.partition(":")[0] for place in traces(database.parent, TEXT)} >= {"sessions/s.ndjson", database.name}
    packed = pack(session)
    other = packed.with_name("another name")
    other.hardlink_to(packed)
    importer.sweep()
    (because,) = erase(importer.store, Wish("s", texts=(TEXT,))).kept
    assert "hard link" in because
    other.rename(packed)
    assert {place.partition(":")[0] for place in traces(database.parent, TEXT)} == {"sessions/s.ndjson.zst, unpacked"}
    assert Recorded(database).findings() == []
    assert erase(importer.store, Wish("s", texts=(TEXT,))).kept == ()
    assert traces(database.parent, TEXT) == []
    assert Recorded(database).findings() == []


def test_a_compressed_file_is_written_anew(
    importer: Importer, session: Path, database: Path, recorded: Recorded
) -> None:
    """As long as it was, its owner's and in its mode, with what can't be ingested too; it goes on as the same life."""
    with session.open("ab") as log:
        log.write(f'{{"no end of": {json.dumps(TEXT)}'.encode())
    length = session.stat().st_size
    packed = pack(session)
    packed.chmod(0o640)
    os.chown(packed, 1, 2)
    importer.sweep()
    before = rows(database)
    done = erase(importer.store, Wish("s", texts=(TEXT,)))
    assert (done.lines, done.kept) == ((2, 3, 4, 6, 9, 10, 11, 13), ())
    assert traces(database.parent, TEXT) == []
    status, text = packed.stat(), zstandard.decompress(packed.read_bytes())
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, len(text)) == (0o640, 1, 2, length)
    assert [path.name for path in packed.parent.iterdir() if path.name.startswith(".")] == []
    assert [row[0] for row in rows(database)] == [row[0] for row in before]
    assert recorded.findings() == []
    packed.unlink()
    session.write_bytes(text[: text.rindex(b"\n") + 1] + line("goes on"))
    assert importer.take() == 1
    assert [life.how for life in recorded.lives()] == ["rotated", "moved"]
    assert_same_when_rebuilt(database, database.with_name("rebuilt.db"))


def test_a_secret_that_was_never_written_goes_out_of_its_file(log_dir: Path, database: Path) -> None:
    """Where they are taken out on the way in; what is ingested before the erasing is, too."""
    kept, gone = [one.secret for one in secrets() if one.kind == "github"][:2]
    log = log_dir / "s.ndjson"
    log.write_bytes(line("first", gone) + line("second", gone, deep={"a": gone}))
    with closing(Importer(log_dir, database, redact=True)) as importer:
        importer.take()
        with log.open("ab") as file:
            file.write(line("pending", kept, gone))
        assert erase(importer.store, Wish("s", texts=(gone,))).kept == ()
        assert traces(database.parent, gone) == []
        assert traces(database.parent, kept) == [f"sessions/s.ndjson: {kept.encode()!r}"]
        with log.open("ab") as file:
            file.write(line("goes on"))
        assert importer.take() == 1
        assert [life.how for life in Recorded(database).lives()] == [None]
        assert Recorded(database).findings() == []


def test_a_forerunners_rows_are_searched(log_dir: Path, database: Path) -> None:
    """What an upgraded database has of the session besides its log."""
    with closing(sqlite3.connect(database)) as old, old:
        old.execute("CREATE TABLE codex_actions (id INTEGER PRIMARY KEY, session_id, ts, action, statement, metadata)")
        query = "INSERT INTO codex_actions VALUES (?, 's', '2026-01-01', 'x', ?, ?)"
        old.executemany(query, [(1, f"say {TEXT}", json.dumps({"a": TEXT})), (2, "nothing", None)])
        old.execute("CREATE TABLE session_events (session_id TEXT, ts REAL, role TEXT, message TEXT)")
        old.execute("INSERT INTO session_events VALUES ('s', 1.0, 'user', ?)", (TEXT,))
    (log_dir / "s.ndjson").write_bytes(line("first"))
    with closing(Importer(log_dir, database)) as importer:
        importer.take()
        assert erase(importer.store, Wish("s", texts=(TEXT,))).old_rows == 2
        assert traces(database.parent, TEXT) == []
        actions = importer.store.connection.execute("SELECT statement FROM codex_actions ORDER BY id").fetchall()
        assert [text[:14] for (text,) in actions] == ["say [REDACTED:", "nothing"]


def take_more(importer: Importer, log: Path) -> None:
    """Lines are appended, and ingested by somebody else."""
    append(log, line("ends with", TEXT) + line("goes on"))
    with closing(Importer(log.parent, Path(importer.store.path))) as other:
        other.take()


def merge_all(importer: Importer, log: Path) -> None:
    """Segments are merged by somebody else."""
    with closing(Store(importer.store.path)) as other:
        for number in (1, 2):
            while merge(other.connection, number):
                pass


def erase_other(importer: Importer, log: Path) -> None:
    """Somebody else erases something else."""
    with closing(Store(importer.store.path)) as other:
        erase(other, Wish("s", texts=("the last",), sources=False))


@pytest.mark.parametrize("sources", [True, False], ids=["with files", "without"])
@pytest.mark.parametrize("meanwhile", [take_more, merge_all, erase_other])
def test_others_write_while_it_is_prepared(
    importer: Importer,
    session: Path,
    database: Path,
    recorded: Recorded,
    environment: pytest.MonkeyPatch,
    meanwhile: Callable[[Importer, Path], None],
    sources: bool,
) -> None:
    """Nobody waits for what is to be recorded instead; what it was made of is looked at again."""
    for number in range(4):
        append(session, line("one more", str(number)))
        importer.take()
    prepare, take = parts._prepare, Draft.take
    written, begun = list[bool](), list[None]()

    def prepared(*values: Any) -> None:
        prepare(*values)
        begun.append(None)
        if len(begun) == 2:  # of two lives
            meanwhile(importer, session)

    def taken(draft: Draft, *values: Any) -> None:
        written.append(importer.store.connection.in_transaction)
        take(draft, *values)

    environment.setattr(parts, "_prepare", prepared)
    environment.setattr(Draft, "take", taken)
    assert erase(importer.store, Wish("s", texts=(TEXT,), sources=sources)).kept == ()
    assert any(written) == (meanwhile is take_more and not sources)
    assert {place.partition("/")[0] for place in traces(database.parent, TEXT)} == (set() if sources else {"sessions"})
    assert recorded.rows()[-1][2] == ("goes on" if meanwhile is take_more else "one more 3")
    assert bool([row for row in recorded.rows() if row[2] == "the last"]) == (meanwhile is not erase_other)
    assert recorded.findings() == []
    assert_same_when_rebuilt(database, database.with_name("rebuilt.db"))


def test_rows_that_come_while_it_is_searched(
    importer: Importer, session: Path, database: Path, recorded: Recorded, environment: pytest.MonkeyPatch
) -> None:
    """They are of bytes that are behind the search; what they say goes too."""
    targets_of, begun = parts.targets_of, list[None]()

    def looked(*values: Any) -> list[Target]:
        found = targets_of(*values)
        begun.append(None)
        if len(begun) == 1:
            take_more(importer, session)
        return found

    environment.setattr(parts, "targets_of", looked)
    assert erase(importer.store, Wish("s", texts=(TEXT,))).kept == ()
    assert traces(database.parent, TEXT) == []
    assert recorded.rows()[-1][2] == "goes on"
    assert recorded.findings() == []


@pytest.mark.parametrize("packs", [True, False])
def test_a_file_that_comes_in_the_place_of_another_is_known_first(
    importer: Importer, session: Path, database: Path, recorded: Recorded, environment: pytest.MonkeyPatch, packs: bool
) -> None:
    """It is compressed, or unpacked, after the last look: it is the same log still, and nothing is there twice."""
    log, begun = session if packs else pack(session), list[None]()
    importer.sweep()
    prepare, before = parts._prepare, recorded.rows()

    def prepared(*values: Any) -> None:
        prepare(*values)
        begun.append(None)
        if len(begun) == 2 and packs:
            pack(log)
        elif len(begun) == 2:
            session.write_bytes(unpacked(log))
            log.unlink()

    environment.setattr(parts, "_prepare", prepared)
    assert erase(importer.store, Wish("s", texts=(TEXT,))).kept == ()
    importer.sweep()
    assert traces(database.parent, TEXT) == []
    assert [row[:2] for row in recorded.rows()] == [row[:2] for row in before]
    assert [life.superseded for life in recorded.lives()] == [False, False]
    assert recorded.findings() == []


POINTS = {
    "before the rows": ("codex.logging.erasure.rows.Draft", "put", "before"),
    "rows written": ("codex.logging.erasure.parts", "set_edges", "before"),
    "rows committed": ("codex.logging.erasure.sources.Overwritten", "overwrite", "before"),
    "a place overwritten": ("codex.logging.erasure.sources.Overwritten", "overwrite", "behind"),
    "a file overwritten": ("codex.logging.erasure.sources.Overwritten", "sync", "before"),
    "before the wiping": ("codex.logging.erase", "wipe", "before"),
    "wiped": ("codex.logging.erase", "wipe", "behind"),
    "copies made": ("codex.logging.erasure.copies", "renew", "behind"),
}


PACKED_POINTS = {
    "a new file begun": ("codex.logging.erasure.repacked.Repacked", "prepare", "behind"),
    "rows committed beside a packed file": ("codex.logging.erasure.repacked.Repacked", "overwrite", "before"),
    "a new file half written": ("codex.logging.erasure.repacked.Repacked", "overwrite", "behind"),
    "a new file whole": ("codex.logging.erasure.repacked.Repacked", "_check", "behind"),
    "a new file in its place": ("codex.logging.erasure.repacked", "_sync_folder", "before"),
    "all but the copies": ("codex.logging.erase", "wipe", "behind"),
}


@pytest.mark.parametrize("point", [*POINTS, *PACKED_POINTS])
def test_killed_and_run_again(
    importer: Importer, log_dir: Path, database: Path, recorded: Recorded, point: str
) -> None:
    """Whoever ingests in between goes on with the same file; run again, all of it is gone."""
    log, said = log_dir / "s.ndjson", b"".join([*LINES, line("ends with", TEXT)])
    log.write_bytes(said)
    importer.take()
    is_packed, (owner, name, when) = point in PACKED_POINTS, (POINTS | PACKED_POINTS)[point]
    log = pack(log) if is_packed else log
    doomed = f"""
    import os, pkgutil, signal
    from codex.logging.erase import Wish, erase
    from codex.logging.store.sqlite import Store
    owner = pkgutil.resolve_name({owner!r})
    call = getattr(owner, {name!r})

    def doomed(*values, **named):
        if {when!r} == "behind":
            call(*values, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, {name!r}, doomed)
    erase(Store({str(database)!r}), Wish("s", texts=({TEXT!r},)))
    """
    assert shell(program(doomed), database.parent).returncode == -signal.SIGKILL
    append(log, line("goes on"))
    importer.sweep()
    assert [life.how for life in recorded.lives()] == ["moved" if is_packed else None]
    assert recorded.rows()[-1] == (9, 0, "goes on")
    assert recorded.findings() == []
    assert erase(importer.store, Wish("s", texts=(TEXT,))).kept == ()
    assert traces(database.parent, TEXT) == []
    assert scalar(importer.store.connection, "SELECT count(*) FROM meta WHERE key LIKE 'un%'") == 0
    assert len(unpacked(log)) == len(said + line("goes on"))
    assert [path.name for path in log_dir.iterdir()] == [log.name]
