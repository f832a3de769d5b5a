"""Each event comes to be in ClickHouse once, without a transaction, whatever fails and whoever dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest

from codex_ingestd.forward.address import parse
from codex_ingestd.forward.clickhouse.journal import Journal, Note
from codex_ingestd.forward.clickhouse.server import Server
from codex_ingestd.forward.clickhouse.sink import ClickHouseSink
from codex_ingestd.forward.errors import SinkError
from codex_ingestd.forward.progress import Progress
from codex_ingestd.forward.sink import Watermark
from tests.clickhouse import Server as Engine
from tests.clickhouse import doubled, forwarding, rows, run, shared_rows
from tests.daemon import wait_for
from tests.forward.proxy import Proxy
from tests.forward.records import Recorded
from tests.forward.trouble import Look, Work, play


def test_a_watermark_that_was_set_back_doubles_nothing(record: Recorded, clickhouse: str) -> None:
    """Rows that are there already are passed over, however long ago they came, in whatever bounds they come again."""
    record.write("s", 0, 3000)
    assert record.forward(clickhouse).returncode == 0
    run(clickhouse, "TRUNCATE TABLE sink_generations")
    run(clickhouse, "ALTER TABLE sink_events MODIFY SETTING non_replicated_deduplication_window = 0")
    run(clickhouse, "ALTER TABLE sink_events DELETE WHERE seq BETWEEN 100 AND 199 OR seq = 2500")
    record.write("s", 3000, 2000)
    assert record.forward(clickhouse).returncode == 0
    assert shared_rows(record, clickhouse) == record.rows()


class _Trouble(Server):
    """A server that doesn't answer once; whether it has taken the rows, or takes them some time later, nobody knows."""

    def __init__(self, url: str, table: str, meanwhile: Callable[[], None]) -> None:
        super().__init__(parse(url), 60)
        self._table = table
        self._meanwhile = meanwhile
        self.late: list[tuple[str, Sequence[str], Sequence[Sequence[Any]], str]] = []

    def insert_columns(self, table: str, names: Sequence[str], columns: Sequence[Sequence[Any]], label: str) -> None:
        """Fail at the first rows for the table, which are kept for later."""
        if table == self._table and columns and not self.late:
            self.late.append((table, names, columns, label))
            self._meanwhile()
            raise SinkError("no answer")
        super().insert_columns(table, names, columns, label)


@pytest.mark.parametrize("table", ["sink_events", "sink_streams", "sink_summaries", "sink_generations"])
def test_a_batch_of_unknown_fate_comes_once(record: Recorded, clickhouse: str, table: str) -> None:
    """It goes again as it was, though the log has grown; what was on its way all the time then changes nothing."""
    record.write("s", 0, 300)
    record.write("t", 0, 300)
    server = _Trouble(clickhouse, table, lambda: record.write("s", 300, 50))
    with forwarding(str(record.database), clickhouse, server) as forwarder:
        forwarder.once()
        assert server.late
        server.insert_columns(*server.late[0])
    assert shared_rows(record, clickhouse) == record.rows()
    assert "0 events" in record.forward(clickhouse).stdout
    assert rows(clickhouse, "SELECT sum(events) FROM sessions") == [(650,)]


def test_rows_gather_behind_the_last_batch(record: Recorded, clickhouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing more is there the next batch waits for company; a stop doesn't wait for it."""
    monkeypatch.setattr(ClickHouseSink, "batches", ClickHouseSink.batches._replace(gather=3600.0))
    record.write("s", 0, 10)
    first, sent, heard = record.rows(), Event(), set[str]()

    def hear(progress: Progress) -> None:
        heard.add(progress.state)
        if progress.events == 10:
            sent.set()

    with forwarding(str(record.database), clickhouse, Server(parse(clickhouse), 60), hear) as forwarder:
        thread = Thread(target=forwarder.run)
        thread.start()
        assert sent.wait(60)
        record.write("s", 10, 10)
        forwarder.stop()
        thread.join(60)
        assert not thread.is_alive()
    assert heard == {"connecting", "catching up"}
    assert shared_rows(record, clickhouse) == first
    assert "10 events" in record.forward(clickhouse).stdout


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
def test_a_forwarder_may_be_killed_at_any_time(record: Recorded, clickhouse: str, kills: int) -> None:
    """Whatever it was at, the next one goes on without a gap or a row that comes twice."""
    for number in range(5):
        record.write(f"s{number}", 0, 2000)

    def noted() -> bytes:
        return b"".join(path.read_bytes() for path in record.database.parent.glob("*.forward-*"))

    for kill in range(kills):
        before = noted()
        process = record.start(clickhouse)
        try:
            wait_for(lambda before=before: noted() != before, 120, "a batch on its way")  # type: ignore[misc]
        finally:
            process.kill()
            process.wait()
        record.write(f"s{kill % 5}", 2000 + kill * 10, 10)
    assert record.forward(clickhouse).returncode == 0
    assert shared_rows(record, clickhouse) == record.rows()


def test_a_token_is_of_all_rows_of_an_insert(http: Engine) -> None:
    """Megabytes are one block, so that the same rows pass as the same where a text of them is shorter by now."""
    url = http.create()
    settings = "SETTINGS non_replicated_deduplication_window = 9"
    run(url, f"CREATE TABLE t (a Int64, m String) ENGINE = MergeTree ORDER BY a {settings}")
    with closing(Server(parse(url), 60)) as client:
        client.open()
        for length in (500, 100):
            client.insert("t", ("a", "m"), [(number, "x" * length) for number in range(20_000)], "token")
    assert rows(url, "SELECT count(), min(length(m)) FROM t") == [(20_000, 500)]


def test_a_user_s_profile_does_not_undo_a_token(http: Engine) -> None:
    """What it says of deduplication and of waiting inserts is overruled."""
    url = http.create()
    run(url, "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 9")
    run(url, "SET deduplicate_insert = 'disable', insert_deduplicate = 0, async_insert = 1")
    with closing(Server(parse(url), 60)) as client:
        client.open()
        for _ in range(2):
            client.insert("t", ("a",), [(1,)], "token")
    assert rows(url, "SELECT count() FROM t") == [(1,)]


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.long)])
def test_whatever_fails_delays_and_doubles_nothing(record: Recorded, http: Engine, rounds: int) -> None:
    """Over HTTP: a network that fails in every way, a server and a forwarder that are killed."""
    direct = http.create()
    record.write("s", 0, 10)
    assert record.forward(direct).returncode == 0
    with Proxy(http.port) as network:
        url = direct.replace(str(http.port), str(network.port))
        process = record.start(url, "--forward-timeout", "3")
        try:
            for number, fault in enumerate(("swallow", "reset", "half_close", "server", "forwarder") * rounds):
                record.write("s", 1000 + number * 1000, 500)
                if fault == "server":
                    http.kill()
                elif fault == "forwarder":
                    process.kill()
                    process.wait()
                else:
                    network.fail(fault)
                record.write("s", 1500 + number * 1000, 500)
                if fault == "server":
                    http.start()
                elif fault == "forwarder":
                    process = record.start(url, "--forward-timeout", "3")
                wait_for(lambda: shared_rows(record, direct) == record.rows(), 180, "the rows at the sink")
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.parametrize(
    "work", [Work(3, 6000, 1, 2, 4), pytest.param(Work(8, 100_000, 10, 20, 20), marks=pytest.mark.long)]
)
def test_nothing_is_lost_or_doubled_while_everything_fails(tmp_path: Path, http: Engine, work: Work) -> None:
    """A small one of what `python -m tests.forward --sink clickhouse` does."""
    outcome = play(tmp_path, http, work, 1, print, Look(shared_rows, doubled))
    assert outcome.there == outcome.here
    assert sum(count for count, _ in outcome.here) == work.events
    assert outcome.doubled == 0


def test_one_forwarder_sends_at_a_time(tmp_path: Path) -> None:
    """Another one of the same database, host and sink hears so."""
    database, me = str(tmp_path / "db"), UUID(int=1)
    with closing(Journal(database, me, "sink")) as one, closing(Journal(database, me, "sink")) as other:
        assert one.note is None
        with pytest.raises(SinkError, match="another forwarder"):
            _ = other.note
        with closing(Journal(database, me, "another sink")) as third:
            assert third.note is None
        one.close()
        assert other.note is None


def test_a_note_outlives_its_writer(tmp_path: Path) -> None:
    """It says in which bounds the batch was; of one that was written by half nothing was sent."""
    database, me = str(tmp_path / "db"), UUID(int=1)
    marks = Watermark(3, 1.5), Watermark(3, 1.5, 3 << 40 | 9, 0, 77, b"\x01\xff", "ledger")
    with closing(Journal(database, me, "sink")) as journal:
        journal.write(Note(7, (marks, marks)))
        journal.write(Note(8, (marks,)))
    with closing(Journal(database, me, "sink")) as journal:
        assert journal.note == Note(8, (marks,))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with closing(Journal(database, me, "sink")) as journal:
        assert journal.note is None
