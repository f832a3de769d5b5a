"""What is fuzzed: each target takes bytes, and raises where something doesn't hold of what the code makes of them.

What an input doesn't say, as how a log is cut, is drawn from a checksum of it: the same input is the same run.
"""

from __future__ import annotations

import atexit
import csv
import os
import random
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import StringIO
from typing import cast

import msgspec
import zstandard

from codex.logging import config_file
from codex.logging.config import check_session_id
from codex.logging.encoding import encode
from codex.logging.errors import ConfigError, SessionIdError, SourceError
from codex.logging.events import Cursor, Event, Reject, Summary, instant, iso_time
from codex.logging.ingest.batches import decode_chunk
from codex.logging.ingest.formats import Format, claude, codex, native, recognise
from codex.logging.ingest.lines import first_object
from codex.logging.ingest.packed import Unpacked
from codex.logging.ingest.reader import Limits, next_chunk
from codex.logging.ingest.redactor import Redactor
from codex.logging.plain import one_line, plain_json, visible
from codex.logging.secrets.allow import Allowed
from codex.logging.secrets.placeholder import placeholder
from codex.logging.secrets.scan import OVERLAP_BYTES, ROUNDS, scanner
from codex.logging.secrets.search import Search
from codex.logging.store.spans import Span, is_filler
from codex.logging.store.sqlite import Store
from codex.logs.query import SearchQueryError, parse
from codex.logs.shown.delimited import cell, plain, write_csv
from codex_ingestd.settings.values import examine
from tests.property.growing import Growing, Outcome, check_accounting, check_chunking, check_tails, read_through

Target = Callable[[bytes], None]

_LIMITS = [Limits(1 << 16, 1 << 20), Limits(500, 1 << 20), Limits(200, 1000), Limits(20, 64)]
_NOW = 1767225600.0
_KEY = "2026/01/01/rollout-2026-01-01T00-00-00-019b7a5e-0000-7000-8000-000000000000.jsonl"


def _chance(data: bytes) -> random.Random:
    return random.Random(zlib.crc32(data))


def _decoding(form: Format) -> Target:
    """A format's lines: nothing is raised, no byte is lost or counted twice, and no cut changes what comes of them."""

    def run(data: bytes) -> None:
        chance, size = _chance(data), len(data) + 2
        growth = [(chance.randrange(size), chance.random() < 0.5) for _ in range(chance.randrange(6))]
        limits = chance.choices(_LIMITS, (4, 2, 2, 1))[0]
        if chance.random() < 0.5:
            found = check_chunking(data, [size for size, _ in growth], limits, form)
        else:
            found = check_tails(data, growth, limits, form)
        for event in found.events:
            _check_storable(event)

    return run


def _check_storable(event: Event) -> None:
    """SQLite takes text that is UTF-8 and numbers of 64 bits."""
    note = event.fields.note
    for value in (*event.fields[:9], *(note or ())[:4], *((note and note.usage) or ())):
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, bytes):
            value.decode()
        elif isinstance(value, int):
            assert -(1 << 63) <= value < 1 << 63


def recogniser(data: bytes) -> None:
    """Which format a file has, and whose session it is: always an answer, from the first lines alone."""
    lines = data.split(b"\n")
    for line in lines:
        first_object(line)
    found = recognise(iter(lines), _KEY)
    if found is not None:
        form, line = found
        assert line in lines
        identity = form.identify(line, _KEY)
        assert identity.session_id
        for text in filter(None, identity):
            text.encode()


@cache
def _index() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE i USING fts5 (message, tokenize = 'unicode61 remove_diacritics 2')")
    connection.execute("INSERT INTO i VALUES ('the quick brown fox: parse_line() a/b.py ünïcode 42')")
    return connection


def query(data: bytes) -> None:
    """What is typed is understood or refused, and what is understood is a query that FTS5 takes."""
    text = data.decode(errors="surrogateescape")
    try:
        found = parse(text, _NOW)
    except SearchQueryError as error:
        if not 0 <= error.place <= len(text):
            raise AssertionError("it points beside the text") from error
        return
    if found.match is not None:
        _index().execute("SELECT rowid FROM i WHERE i MATCH ?", (found.match,)).fetchall()


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return folder


def _unpacked(data: bytes) -> bytes | None:
    """The text of such a file, read in pieces of any size in any order; None where it is refused."""
    path, chance = os.path.join(_folder(), "log.jsonl.zst"), _chance(data)
    with open(path, "wb") as file:
        file.write(data)
    try:
        source = Unpacked(os.open(path, os.O_RDONLY), path)
    except SourceError:
        return None
    try:
        pieces = []
        while sum(map(len, pieces)) < source.size:
            start = sum(map(len, pieces))
            pieces.append(source.read(start, chance.randrange(1, source.size + 2)))
            assert pieces[-1]
        whole = b"".join(pieces)
        assert len(whole) == source.size
        start = chance.randrange(source.size + 1)
        assert source.read(start, 40) == whole[start : start + 40]
        assert source.read(source.size, 1) == b""
        return whole
    finally:
        source.close()


def packed(data: bytes) -> None:
    """A compressed log: refused, or the text that zstd's own reader gives; and what is packed comes out as it was."""
    found = _unpacked(data)
    if found is not None:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            assert found == reader.read()
    half = len(data) // 2
    frames = [zstandard.compress(part, _chance(data).randrange(-3, 4)) for part in (data[:half], data[half:])]
    assert _unpacked(b"".join(frames)) == data


def secrets(data: bytes) -> None:
    """Findings lie within the text, in order, apart, and no longer than a scan by pieces allows for.

    Once they are replaced, nothing is found any more: else no copy could be staged. An input is read backwards, so that
    no file of the corpus looks like a secret.
    """
    data = data[::-1]
    found = scanner().find(data)
    end, parts = 0, []
    for match in found:
        assert end <= match.start < match.end <= len(data)
        assert match.end - match.start <= OVERLAP_BYTES
        parts += [data[end : match.start], placeholder(match.rule, "0a1b2c3d").encode()]
        end = match.end
    if len(found) <= ROUNDS:  # behind more than that, one in a row after the other, the last look at a copy finds it
        assert not scanner().find(b"".join([*parts, data[end:]]))


class _Recorded:
    """What was recorded so far, as a redactor asks its store for it."""

    def __init__(self) -> None:
        self.data = b""

    def recorded(self, generation: int, start: int, end: int) -> bytes:
        """The bytes of [start, end)."""
        return self.data[start:end]


def redactor(data: bytes) -> None:
    """What is taken out on the way in is filler of the same length; every other byte, line and object is as it was.

    An input is read backwards, as those of `secrets` are.
    """
    data = data[::-1] + b"\n"
    chance, source, cursor = _chance(data), Growing(data), Cursor()
    store, events, rejects, spans = _Recorded(), list[Event](), list[Reject](), list[Span]()
    hiding = Redactor(cast(Store, store), Search(b"k" * 32, Allowed()))
    for size in [*sorted(chance.randrange(len(data)) for _ in range(chance.randrange(3))), len(data)]:
        source.size = size
        while (chunk := next_chunk(source, size, cursor, Limits(300, 1 << 20))).content:
            found = hiding.hide(chunk, cursor, 1)
            batch = decode_chunk(found.chunk if found else chunk, cursor, native, found.spans if found else ())
            if batch is None:
                break
            events += batch.events
            rejects += batch.rejects
            spans += found.spans if found else ()
            store.data += batch.data
            cursor = batch.after
    check_accounting(store.data, Outcome(events, rejects, cursor, Summary()))
    place, rest = 0, bytearray(store.data)
    for span in spans:
        assert place <= span.offset < span.end <= len(data)
        assert is_filler(bytes(rest[span.offset : span.end]))
        assert b"\n" not in rest[span.offset : span.end]
        rest[span.offset : span.end] = data[span.offset : span.end]
        place = span.end
    assert rest == data
    whole = read_through(data, [(len(data), False)], Limits(1 << 20, 1 << 20))
    assert {event.seq for event in whole.events} <= {event.seq for event in events}


def text(data: bytes) -> None:
    """What goes to a terminal, a spreadsheet or JSON is harmless, and says the same."""
    given = data.decode(errors="replace")
    if not given:
        return
    shown = visible(given)
    assert all(letter.isprintable() or letter in "\n\t" or ord(letter) >= 0xA0 for letter in shown)
    assert visible(shown) == shown
    assert "\n" not in one_line(given)
    assert msgspec.json.decode(plain_json(msgspec.json.encode(given).decode())) == given
    table = StringIO(newline="")
    write_csv(table, [given], [])
    assert not str(cell(given)).startswith(("=", "+", "-", "@", "\t", "\r"))
    table.seek(0)
    assert [plain(one) for one in next(csv.reader(table))] == [given]
    assert msgspec.json.decode(encode({given: given})) == {given: given}
    iso_time(instant(given))
    with suppress(SessionIdError):
        name = check_session_id(given)
        assert os.path.basename(name) == name
        assert name not in {".", ".."}


def settings(data: bytes) -> None:
    """A settings file: each problem is told with its place, and the rest counts."""
    path = os.path.join(_folder(), config_file.NAME)
    with open(path, "wb") as file:
        file.write(data)
    _, problems = examine({}, path)
    for problem in problems:
        str(problem).encode(errors="surrogateescape")
    with suppress(ConfigError):
        entries = config_file.read(config_file.Source(path, own=False))
        lines = data.count(b"\n") + data.count(b"\r") + 1
        assert all(1 <= entry.line <= lines for entry in entries.values())


TARGETS: dict[str, Target] = {
    "native": _decoding(native),
    "codex": _decoding(codex),
    "claude": _decoding(claude),
    "recogniser": recogniser,
    "query": query,
    "packed": packed,
    "secrets": secrets,
    "redactor": redactor,
    "text": text,
    "settings": settings,
}
