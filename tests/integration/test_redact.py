"""Secrets that never come into the database."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from codex.logging.ingest.reader import Limits
from codex.logging.rebuild import begin, end, rebuild
from codex.logging.secrets.placeholder import key_of
from codex.logging.store.connection import open_reader
from codex.logging.store.merge import merge
from codex.logging.store.sqlite import Store
from codex.logging.targets import Finding
from tests.importer import Importer, Recorded
from tests.planted import leaks, look_alikes, secrets, unpacked, write_log

PLANTED = secrets()
TOKEN, OTHER, _ = (one.secret for one in PLANTED if one.kind == "github")
LINE = json.dumps({"message": f"token is {TOKEN} ok"}).encode() + b"\n"
PLACEHOLDER = re.compile(r"\[REDACTED:([a-z-]+):([0-9a-f]{8})\]")


@pytest.fixture
def importer(log_dir: Path, database: Path) -> Iterator[Importer]:
    """One that takes secrets out."""
    with closing(Importer(log_dir, database, redact=True)) as opened:
        yield opened


def files(database: Path) -> bytes:
    """All that is in the database's files, with each of its segments unpacked."""
    return unpacked(database) + b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}-*"))


def count(database: Path, query: str) -> int:
    with closing(open_reader(str(database))) as connection:
        return int(str(connection.execute(query).fetchone()[0]))


def test_no_planted_secret_is_written(importer: Importer, log_dir: Path, database: Path) -> None:
    """Not to the file, its log, or a segment; the lines are all there, and what only looks like a secret is."""
    others = look_alikes()
    log = write_log(log_dir, [text for one in PLANTED for text in (one.text, "between")] + others)
    importer.take("a.ndjson")
    assert not leaks(PLANTED, files(database))
    assert Recorded(database).findings() == []
    rows, rejects = Recorded(database).rows("a"), Recorded(database).rejects("a")
    assert sorted({seq for seq, *_ in [*rows, *rejects]}) == list(range(1, 2 * len(PLANTED) + len(others) + 1))
    assert len(PLACEHOLDER.findall(" ".join(text for *_, text in rows))) >= len(PLANTED) // 2
    (life,) = Recorded(database).lives("a")
    assert len(life.bytes) == log.stat().st_size
    assert [len(line) for line in life.bytes.split(b"\n")] == [len(line) for line in log.read_bytes().split(b"\n")]


def test_equal_secrets_have_equal_placeholders(importer: Importer, log_dir: Path, database: Path) -> None:
    """In any session and line, however they are escaped; others have others."""
    escaped = LINE.replace(b"ghp_", b"\\u0067hp_")
    (log_dir / "s.ndjson").write_bytes(LINE + escaped + LINE.replace(TOKEN.encode(), OTHER.encode()))
    (log_dir / "t.ndjson").write_bytes(LINE)
    importer.take("s.ndjson")
    importer.take("t.ndjson")
    first, again, other = (text for *_, text in Recorded(database).rows())
    assert first == again == Recorded(database).rows("t")[0][2]
    assert other != first
    assert PLACEHOLDER.search(first)


def test_offsets_and_lines_are_the_sources(importer: Importer, log_dir: Path, database: Path) -> None:
    """Each event is where its line is in the file, and what stands around a secret stays."""
    lines = [b'{"message":"before"}\n', LINE, LINE * 2, b'{"message":"after"} {"message":"glued"}\n']
    (log_dir / "s.ndjson").write_bytes(b"".join(lines))
    importer.take()
    with closing(open_reader(str(database))) as connection:
        places = connection.execute('SELECT "offset", length FROM events ORDER BY id').fetchall()
    source = (log_dir / "s.ndjson").read_bytes()
    assert [source[offset : offset + length][:1] for offset, length in places] == [b"{"] * 6
    assert [source[offset : offset + length][-1:] for offset, length in places] == [b"}"] * 6
    texts = [text for *_, text in Recorded(database).rows()]
    assert [texts[0], *texts[-2:]] == ["before", "after", "glued"]
    assert texts[1].startswith("token is [REDACTED:github:")
    assert texts[1].endswith("] ok")


def test_a_key_that_is_written_line_by_line(importer: Importer, log_dir: Path, database: Path) -> None:
    """Each of its lines is taken as it comes, also by a process that begins in the midst of it; the rest stays."""
    key = next(one for one in PLANTED if one.kind == "private-key")
    log = log_dir / "s.ndjson"
    lines = [b'{"message":"first"}', *key.text.encode().splitlines(), b'{"message":"last"}']
    for number, line in enumerate(lines):
        with log.open("ab") as file:
            file.write(line + b"\n")
        importer.take()
        if number == 5:
            importer = Importer(log_dir, database, store=importer.store)
    assert not leaks([key], files(database))
    assert [text for *_, text in Recorded(database).rows()] == ["first", "last"]
    assert Recorded(database).findings() == []
    assert count(database, "SELECT count(*) FROM redacted_spans") == len(key.secret.split("\n"))


def test_a_run_of_nuls_in_a_key_stays_one(importer: Importer, log_dir: Path, database: Path) -> None:
    """What a crash left in the midst of a key is passed over as anywhere else, and the lines behind it come."""
    key = next(one for one in PLANTED if one.kind == "private-key")
    with (log_dir / "s.ndjson").open("ab", buffering=0) as file:
        for part in (*key.text.encode().splitlines(keepends=True)[:3], b"\0" * 100, b"abc\n", LINE):
            file.write(part)
            importer.take()
    assert [text.startswith("token is [REDACTED:") for *_, text in Recorded(database).rows()] == [True]
    assert Recorded(database).findings() == []


@pytest.mark.parametrize("size", [97, 3001, 1 << 20])
def test_a_secret_in_any_kind_of_line(log_dir: Path, database: Path, size: int) -> None:
    """In a line longer than a batch, in one over the limit that comes piece by piece, and in an open tail."""
    filling = b"x y " * 12_000
    long = b'{"message":"%b %b %b"}' % (filling, TOKEN.encode(), filling)
    log, limits = log_dir / "s.ndjson", Limits(size, max(size, 60_000))
    with closing(Importer(log_dir, database, limits=limits, redact=True)) as importer:
        for begun in range(0, len(long), 10_007):
            with log.open("ab") as file:
                file.write(long[begun : begun + 10_007])
            importer.take(final=False)
        with log.open("ab") as file:
            file.write(b"\n" + LINE)
        importer.take(final=False)
        with log.open("ab") as file:
            file.write(LINE[:-1])
        importer.take()
        with log.open("ab") as file:
            file.write(b" " + LINE)
        importer.take()
    assert TOKEN.encode() not in files(database)
    assert Recorded(database).findings(limits) == []
    (life,) = Recorded(database).lives()
    assert len(life.bytes) == log.stat().st_size
    assert TOKEN[:20].encode() not in life.bytes
    assert count(database, "SELECT count(*) FROM redacted_spans") == 4


def test_what_can_be_wrong_within_a_span_is_found(importer: Importer, log_dir: Path, database: Path) -> None:
    """An edit of the source, and words that somebody put into the record; filler in the source is right."""
    log = log_dir / "s.ndjson"
    log.write_bytes(LINE)
    importer.take()
    assert Recorded(database).findings() == []
    log.write_bytes(LINE.replace(TOKEN.encode(), OTHER.encode()))
    (found,) = Recorded(database).findings()
    assert (found.kind, found.offset, found.end) == ("source", LINE.index(b"ghp_"), LINE.index(b" ok"))
    os.rename(f"{database}.key", f"{database}.key-elsewhere")
    assert Recorded(database).findings() == []
    log.write_bytes(LINE.replace(b"ok", b"OK"))
    assert [one.kind for one in Recorded(database).findings()] == ["source"]
    os.rename(f"{database}.key-elsewhere", f"{database}.key")
    log.write_bytes(LINE.replace(TOKEN.encode(), b"*" * len(TOKEN)))
    assert Recorded(database).findings() == []
    with closing(Store(str(database))) as store:
        store.connection.execute('UPDATE redacted_spans SET "offset" = "offset" - 3')
    assert "span" in {one.kind for one in Recorded(database).findings()}


@pytest.mark.parametrize("lost", ["source", "segments"])
def test_rebuilding_leaves_out_what_was_left_out(importer: Importer, log_dir: Path, database: Path, lost: str) -> None:
    """Row for row, from the sources or from the merged segments alone; and so do importers from then on."""
    for _ in range(5):
        with (log_dir / "s.ndjson").open("ab") as file:
            file.write(LINE)
        importer.take()
    while merge(importer.store.connection, 1):
        pass
    if lost == "source":
        (log_dir / "s.ndjson").unlink()
    else:
        importer.store.connection.execute("UPDATE segments SET bytes = x'00'")
    built = database.with_name("built.db")
    with closing(open_reader(str(database))) as old, closing(begin(old, str(built))) as new:
        assert [step for step in rebuild(old, new) if isinstance(step, Finding)] == []
        end(new)
    assert TOKEN.encode() not in files(built)
    assert Recorded(built).findings() == []
    for table in ("events", "redacted_spans", "summaries"):
        query = f"SELECT * FROM {table} ORDER BY 1, 2"
        with closing(open_reader(str(database))) as old, closing(open_reader(str(built))) as rebuilt:
            assert old.execute(query).fetchall() == rebuilt.execute(query).fetchall()
    (log_dir / "t.ndjson").write_bytes(LINE)
    with closing(Importer(log_dir, built)) as later:
        later.take("t.ndjson")
    assert TOKEN.encode() not in files(built)


def test_a_file_is_known_again(importer: Importer, log_dir: Path, database: Path) -> None:
    """By what it says, although the record doesn't: rotated, copied, packed, and rewritten."""
    log = log_dir / "s.ndjson"
    log.write_bytes(LINE * 3)
    importer.sweep()
    os.rename(log, log_dir / "s.ndjson.1")
    log.write_bytes(LINE.replace(b"ok", b"no") * 2)
    importer.sweep()
    assert [life.how for life in Recorded(database).lives()] == ["rotated", None]
    (log_dir / "s.ndjson.2").write_bytes(LINE * 2)  # a copy of the first one's beginning
    importer.sweep()
    assert len(Recorded(database).lives()) == 2
    (log_dir / "s.ndjson.zst").write_bytes(zstandard.ZstdCompressor().compress(log.read_bytes()))
    log.unlink()
    importer.sweep()
    assert len(Recorded(database).rows()) == 5
    (log_dir / "s.ndjson.zst").unlink()
    log.write_bytes(LINE.replace(b"ok", b"no") + LINE.replace(b"ok", b"so"))
    importer.sweep()
    assert [life.superseded for life in Recorded(database).lives()] == [False, True, False]
    assert TOKEN.encode() not in files(database)
    assert Recorded(database).findings() == []


def test_it_stays_as_it_was_until_somebody_says_off(importer: Importer, log_dir: Path, database: Path) -> None:
    """Another process that nobody told takes secrets out as well."""
    (log_dir / "s.ndjson").write_bytes(LINE)
    for wanted, texts in ((None, 0), (False, 1), (None, 2)):
        with closing(Importer(log_dir, database, redact=wanted)) as other:
            (log_dir / f"{texts}.ndjson").write_bytes(LINE)
            other.take(f"{texts}.ndjson")
        query = f"SELECT count(*) FROM events WHERE message LIKE '%{TOKEN}%'"
        assert count(database, query) == texts


@pytest.mark.parametrize("seed", range(4))
def test_however_it_is_written_the_same_is_left_out(log_dir: Path, database: Path, seed: int) -> None:
    """Rows and spans of a file that grew by any steps, taken in any batches, are those of the whole file."""
    chance = random.Random(seed)
    key = next(one.text for one in PLANTED if one.kind == "private-key").encode()
    kinds = [LINE, LINE[:-1] + b" " + LINE, b"\0\0" + LINE, b"no JSON: " + LINE, key, b'{"message":"none"}\n', b"\n"]
    kinds += [
        b'{"message":"%b %b"}\n' % (b"x y " * chance.randrange(9000), one.text.encode("unicode-escape"))
        for one in PLANTED[:3]
    ]
    whole = b"".join(chance.choice(kinds) for _ in range(20))
    wanted, log, known = log_dir / "whole.ndjson", log_dir / "s.ndjson", database.with_name("known.db")
    wanted.write_bytes(whole)
    limits = Limits(chance.choice([200, 900, 9000]), 20_000)
    key_of(str(database))
    os.link(f"{database}.key", f"{known}.key")
    with closing(Importer(log_dir, known, limits=Limits(20_000, 20_000), redact=True)) as importer:
        importer.take("whole.ndjson")
    place = 0
    with closing(Importer(log_dir, database, limits=limits, redact=True)) as importer:
        while place < len(whole):
            step = chance.choice([1, 60, 5000])
            with log.open("ab") as file:
                file.write(whole[place : place + step])
            place += step
            importer.take(final=False)
        importer.take()
    for query in (
        'SELECT seq, part, message, "offset", length FROM events ORDER BY id',
        'SELECT seq, reason, "offset", length FROM ingest_rejects ORDER BY id',
        'SELECT "offset", length, rule FROM redacted_spans ORDER BY 1',
    ):
        with closing(open_reader(str(known))) as one, closing(open_reader(str(database))) as other:
            assert other.execute(query).fetchall() == one.execute(query).fetchall()
    assert not leaks(PLANTED, Recorded(database).lives()[0].bytes)
    assert Recorded(database).findings(limits) == []
