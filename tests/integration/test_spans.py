"""What is recorded without what it said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.errors import StaleWatermarkError
from codex.logging.ingest.sources import Location
from codex.logging.store import segments, spans
from codex.logging.store.connection import immediate
from codex.logging.store.rows import Rows
from codex.logging.store.spans import Span
from codex.logging.store.sqlite import Store
from tests.importer import Importer

LINE = b'{"message":"one"}\n'
OTHER = b'{"message":"two"}\n'


@pytest.fixture
def importer(log_dir: Path, database: Path) -> Iterator[Importer]:
    """An importer of one line, taken."""
    (log_dir / "s.ndjson").write_bytes(LINE)
    with closing(Importer(log_dir, database)) as opened:
        assert opened.take() == 1
        yield opened


def overwrite(database: str, data: bytes) -> None:
    """Let the one segment hold other bytes, as another process may that takes something out of it."""
    chain = segments.Chain()
    chain.update(data)
    with closing(Store(database)) as other, immediate(other.connection):
        frame = segments.compress(data)
        other.connection.execute("UPDATE segments SET bytes = ?, chain = ?", (frame, chain.digest()))
        other.connection.execute("UPDATE generations SET chain = ?", (chain.digest(),))
        other.connection.execute("UPDATE events SET message = 'two'")
        other.connection.execute("UPDATE summaries SET title = 'two'")


def test_filler_is_as_long_and_says_nothing() -> None:
    """Lines and runs of NULs stay what they are, and a whole object an object."""
    assert spans.filler(b"ab\0\nc\xff") == b"**\0\n**"
    assert spans.filler(b'{"a":1}', whole=True) == b"{     }"
    assert spans.filler(b"no {}", whole=True) == b"*****"
    assert all(map(spans.is_filler, (b"***\n*", b"{  }", b"{}")))
    assert not any(map(spans.is_filler, (b"{ a}", b"**a", b"*{}")))
    assert spans.is_object(b"{  }")
    assert not spans.is_object(b"****")


def test_spans_are_found_by_any_of_their_bytes(store: Store) -> None:
    """A part of a generation has those that begin in it, and the one that reaches into it."""
    known = [Span(place, 10, "erased", "00000000", b"", 1.0) for place in (0, 20, 40)]
    with immediate(store.connection):
        spans.write(store.connection, 7, known)
    assert spans.read(store.connection, 7) == known
    assert spans.read(store.connection, 7, 9, 20) == known[:1]
    assert spans.read(store.connection, 7, 10, 20) == []
    assert spans.read(store.connection, 7, 29, 41) == known[1:]
    assert spans.read(store.connection, 8) == []
    with immediate(store.connection):
        spans.forget(store.connection, 7, 20, 40)
    assert spans.read(store.connection, 7) == [known[0], known[2]]


def test_a_batch_that_was_read_before_the_bytes_changed_is_refused(importer: Importer) -> None:
    """The watermark alone doesn't tell: nothing is chained to bytes that are no longer there."""
    location = Location(importer.root, "s.ndjson", 0)
    stream = importer.store.stream(*location.stream)
    assert stream is not None
    (generation,) = stream.generations
    overwrite(importer.store.path, OTHER)
    after = generation.cursor._replace(offset=generation.cursor.offset + 3, seq=2, lines=2)
    rows = Rows(generation.id << 40, [b"{}\n"], generation.cursor, after, [], [], [])
    with pytest.raises(StaleWatermarkError):
        importer.store.commit(stream, generation._replace(cursor=after), rows, None)


def test_an_importer_goes_on_from_the_bytes_that_are_there(importer: Importer, log_dir: Path) -> None:
    """It remembers the chain of others, and what they came to, and uses neither."""
    overwrite(importer.store.path, OTHER)
    with (log_dir / "s.ndjson").open("ab") as file:
        file.write(LINE)
    assert importer.take() == 1
    (generation,) = importer.store.stream(importer.root, "s.ndjson").generations  # type: ignore[union-attr]
    chain = segments.Chain()
    chain.update(OTHER + LINE)
    assert generation.chain == chain.digest()
    assert importer.store.summary(generation.id).title == "two"
