"""Whatever fails between a host and the server, and whoever dies: each event comes to be there, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.daemon import wait_for
from tests.forward.proxy import Proxy
from tests.forward.records import Recorded
from tests.forward.trouble import Work, play
from tests.postgres import running


@pytest.fixture
def proxy(sink: str) -> Iterator[Proxy]:
    """A network to the sink."""
    place = urlsplit(sink)
    with Proxy(place.port or 5432, place.hostname or "127.0.0.1") as network:
        yield network


@pytest.mark.parametrize("how", ["swallow", "reset", "half_close"])
def test_a_forwarder_goes_on_after_its_connection_failed(record: Recorded, sink: str, proxy: Proxy, how: str) -> None:
    """Also where nobody told it that nothing arrives any more."""
    record.write("s", 0, 10)
    place = urlsplit(sink)
    user, _, _ = place.netloc.rpartition("@")
    beyond = place._replace(netloc=f"{user}@127.0.0.1:{proxy.port}").geturl()
    process = record.start(beyond, "--forward-timeout", "1")
    try:
        for count in (10, 20, 30):
            wait_for(lambda: record.shared_rows(sink) == record.rows(), 30, "the rows at the sink")
            proxy.fail(how)
            record.write("s", count, 10)
        wait_for(lambda: record.shared_rows(sink) == record.rows(), 30, "the rows at the sink")
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_an_outage_delays_and_loses_nothing(record: Recorded, tmp_path: Path) -> None:
    """A server that is away, for as long as it likes, is tried again."""
    with running() as server:
        url = server.create()
        record.write("s", 0, 10)
        assert record.forward(url).returncode == 0
        process = record.start(url)
        try:
            server.kill()
            record.write("s", 10, 10)
            wait_for(lambda: record.local("SELECT 1 FROM forward_sinks WHERE error IS NOT NULL"), what="word of it")
            server.start()
            wait_for(lambda: record.shared_rows(url) == record.rows(), 60, "the rows at the sink")
            wait_for(lambda: not record.local("SELECT 1 FROM forward_sinks WHERE error IS NOT NULL"), what="no word")
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_once_says_that_it_was_ended_before_all_was_sent(record: Recorded, sink: str) -> None:
    """By exit code 130; the next one goes on from there."""
    record.write("s", 0, 12_000)
    process = record.start(sink, "--once", "--forward-rate", "0.001")
    wait_for(lambda: record.local("SELECT 1 FROM forward_sinks WHERE sent_at IS NOT NULL"), 30, "the first rows' note")
    process.terminate()
    assert process.wait(20) == 130
    assert 0 < len(record.shared_rows(sink)) < 12_000
    assert record.forward(sink).returncode == 0
    assert record.shared_rows(sink) == record.rows()


def test_nothing_is_lost_or_doubled_while_everything_fails(tmp_path: Path) -> None:
    """A small one of what `python -m tests.forward` does."""
    with running() as server:
        outcome = play(tmp_path, server, Work(3, 9000, 2, 3, 4), 1, print)
    assert outcome.there == outcome.here
    assert sum(count for count, _ in outcome.here) == 9000
    assert outcome.doubled == 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_or_doubled_for_long(tmp_path: Path, seed: int) -> None:
    """More hosts, events and faults."""
    with running() as server:
        outcome = play(tmp_path, server, Work(8, 100_000, 10, 20, 20), seed, print)
    assert outcome.there == outcome.here
    assert outcome.doubled == 0
