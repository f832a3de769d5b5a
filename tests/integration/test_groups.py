"""Small batches of several files in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import DatabaseError, StaleWatermarkError
from codex.logging.events import Cursor
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.sources import Location
from codex.logging.store.connection import open_reader, scalar
from codex.logging.store.rows import Rows
from codex.logging.store.sqlite import Store


@pytest.fixture
def places(log_dir: Path) -> list[Location]:
    """Three sessions of two lines each."""
    for number in range(3):
        (log_dir / f"s{number}.ndjson").write_bytes(b'{"message":"one"}\n{"message":"two"}\n')
    return [Location(str(log_dir), f"s{number}.ndjson", 0) for number in range(3)]


@pytest.fixture
def reader(store: Store) -> Iterator[apsw.Connection]:
    """Another connection to the same database."""
    with closing(open_reader(store.path)) as connection:
        yield connection


def count(connection: apsw.Connection) -> object:
    return scalar(connection, "SELECT count(*) FROM session_events")


def take_in_vain(engine: Engine, places: list[Location]) -> None:
    """A group whose end fails."""
    with engine.group():
        for place in places:
            engine.ingest(place)
        raise DatabaseError("the disk is full")


def test_a_group_is_seen_as_a_whole(store: Store, places: list[Location], reader: apsw.Connection) -> None:
    """Others see none of it before its end, and all of it from then on."""
    engine = Engine(store)
    with engine.group():
        for place in places:
            assert engine.ingest(place).events == 2
        assert count(reader) == 0
    assert count(reader) == 6


def test_a_group_that_fails_is_taken_again(store: Store, places: list[Location], reader: apsw.Connection) -> None:
    """Nothing of it is written, and nothing is remembered as if it were: the next try takes all of it, once."""
    engine = Engine(store)
    assert engine.ingest(places[0]).events == 2
    with (Path(places[0].root) / "s0.ndjson").open("ab") as file:
        file.write(b'{"message":"three"}\n')
    with pytest.raises(DatabaseError):
        take_in_vain(engine, places)
    assert count(reader) == 2
    assert [engine.ingest(place).events for place in places] == [1, 2, 2]
    assert [engine.ingest(place).events for place in places] == [0, 0, 0]
    assert count(reader) == 7


def test_a_lost_race_undoes_its_own_part_alone(store: Store, places: list[Location], reader: apsw.Connection) -> None:
    """One stream's watermark was moved by another importer: the group's other streams are committed."""
    engine = Engine(store)
    with engine.group():
        engine.ingest(places[0])
        stream = store.stream(*places[0].stream)
        assert stream is not None
        assert stream.current is not None
        with pytest.raises(StaleWatermarkError):
            store.commit(
                stream._replace(generations=()),
                stream.current._replace(id=0),
                Rows(0, [], Cursor(), Cursor(), [], [], []),
                None,
            )
        engine.ingest(places[1])
    assert count(reader) == 4
