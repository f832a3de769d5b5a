"""What is in the local database comes to be in ClickHouse: all of it, once, as it is, without a transaction."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import clickhouse_connect
import pytest

from codex.logging.store.connection import open_writer
from codex_ingestd.forward.address import parse
from codex_ingestd.forward.clickhouse.journal import Journal, Note
from codex_ingestd.forward.clickhouse.schema import migrate, replicated, steps
from codex_ingestd.forward.clickhouse.server import Server
from codex_ingestd.forward.clickhouse.sink import ClickHouseSink, generation_id
from codex_ingestd.forward.errors import SinkError
from codex_ingestd.forward.forwarder import Forwarder
from codex_ingestd.forward.identity import host
from codex_ingestd.forward.notes import Notes
from codex_ingestd.forward.pace import Rate
from codex_ingestd.forward.progress import Progress
from codex_ingestd.forward.sink import Watermark
from codex_ingestd.forward.spool import Spool
from tests.clickhouse import Server as Engine
from tests.clickhouse import doubled, engine, rows, run, serving, shared_rows
from tests.commands import ROOT, succeed
from tests.daemon import wait_for
from tests.forward.proxy import Proxy
from tests.forward.records import Recorded
from tests.forward.trouble import Look, Work, play

_MARKS = "SELECT local, sent_event, sent_reject, sent_offset, sent_chain, ledger FROM sink_generations FINAL ORDER BY 1"


_SESSIONS = ("sessions", "session_lives", "session_usage", "session_events", "session_ingest_watermark")
_VIEWS = (*_SESSIONS, "summaries", "usage", "events", "ingest_rejects")


@pytest.fixture
def sink(tmp_path: Path) -> str:
    """A database of ClickHouse's, for this test alone."""
    return engine(tmp_path / "clickhouse")


def test_each_event_arrives_as_it_is(record: Recorded, sink: str) -> None:
    """Columns are equal, whatever the text, and whatever the clock, for which there is a partition a month."""
    texts = ("", "\0 a\0b", "日本語 ñ 🙂", "\ud800", "\\ \t \n \r | ' \"")
    times = ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", 1e300, -1e300, None]
    times += [f"{year}-{month:02}-03T04:05:06Z" for year in range(2016, 2027) for month in range(1, 13)]
    lines: list[dict[str, object]] = [{"role": "user", "message": text} for text in texts]
    lines += [{"role": "tool", "message": "x", "call_id": "c\0d", "deep": {"nul": "\0"}, "n": 10**30}]
    lines += [{"message": "x", "ts": ts} for ts in times]
    (record.logs / "odd.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record.ingest()
    assert record.forward(sink).returncode == 0
    assert shared_rows(record, sink) == record.rows()
    assert len(record.rows()) == len(lines)


def test_nothing_comes_twice(record: Recorded, sink: str) -> None:
    """A second run sends what was added, and one without anything new leaves the sink as it was."""
    record.write("s", 0, 5000)
    for number in range(30):
        record.write(f"small-{number}", 0, 3)
    assert "5090 events" in record.forward(sink).stdout
    record.write("s", 5000, 5)
    record.write("t", 0, 3)
    assert "8 events" in record.forward(sink).stdout
    marks = rows(sink, _MARKS)
    assert "0 events" in record.forward(sink).stdout
    assert rows(sink, _MARKS) == marks
    assert shared_rows(record, sink) == record.rows()


def test_a_watermark_that_was_set_back_doubles_nothing(record: Recorded, sink: str) -> None:
    """Rows that are there already are passed over, however long ago they came, in whatever bounds they come again."""
    record.write("s", 0, 3000)
    assert record.forward(sink).returncode == 0
    run(sink, "TRUNCATE TABLE sink_generations")
    run(sink, "ALTER TABLE sink_events MODIFY SETTING non_replicated_deduplication_window = 0")
    run(sink, "ALTER TABLE sink_events DELETE WHERE seq BETWEEN 100 AND 199 OR seq = 2500")
    record.write("s", 3000, 2000)
    assert record.forward(sink).returncode == 0
    assert shared_rows(record, sink) == record.rows()


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


@contextmanager
def _forwarder(
    record: Recorded, url: str, server: Server, tell: Callable[[Progress], None] = lambda progress: None
) -> Iterator[Forwarder]:
    """One in this process, by a server of the test's own."""
    database = str(record.database)
    with (
        closing(open_writer(database)) as writer,
        closing(Spool(database, url)) as spool,
        closing(ClickHouseSink(parse(url), host(writer, database), server)) as shared,
        closing(Forwarder(database, spool, shared, Notes(writer, database, url), Rate(None), tell)) as forwarder,
    ):
        yield forwarder


@pytest.mark.parametrize("table", ["sink_events", "sink_streams", "sink_summaries", "sink_generations"])
def test_a_batch_of_unknown_fate_comes_once(record: Recorded, sink: str, table: str) -> None:
    """It goes again as it was, though the log has grown; what was on its way all the time then changes nothing."""
    record.write("s", 0, 300)
    record.write("t", 0, 300)
    server = _Trouble(sink, table, lambda: record.write("s", 300, 50))
    with _forwarder(record, sink, server) as forwarder:
        forwarder.once()
        assert server.late
        server.insert_columns(*server.late[0])
    assert shared_rows(record, sink) == record.rows()
    assert "0 events" in record.forward(sink).stdout
    assert rows(sink, "SELECT sum(events) FROM sessions") == [(650,)]


def test_rows_gather_behind_the_last_batch(record: Recorded, sink: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing more is there the next batch waits for company; a stop doesn't wait for it."""
    monkeypatch.setattr(ClickHouseSink, "batches", ClickHouseSink.batches._replace(gather=3600.0))
    record.write("s", 0, 10)
    first, sent, heard = record.rows(), Event(), set[str]()

    def hear(progress: Progress) -> None:
        heard.add(progress.state)
        if progress.events == 10:
            sent.set()

    with _forwarder(record, sink, Server(parse(sink), 60), hear) as forwarder:
        thread = Thread(target=forwarder.run)
        thread.start()
        assert sent.wait(60)
        record.write("s", 10, 10)
        forwarder.stop()
        thread.join(60)
        assert not thread.is_alive()
    assert heard == {"connecting", "catching up"}
    assert shared_rows(record, sink) == first
    assert "10 events" in record.forward(sink).stdout


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
def test_a_forwarder_may_be_killed_at_any_time(record: Recorded, sink: str, kills: int) -> None:
    """Whatever it was at, the next one goes on without a gap or a row that comes twice."""
    for number in range(5):
        record.write(f"s{number}", 0, 2000)

    def noted() -> bytes:
        return b"".join(path.read_bytes() for path in record.database.parent.glob("*.forward-*"))

    for kill in range(kills):
        before = noted()
        process = record.start(sink)
        try:
            wait_for(lambda before=before: noted() != before, 120, "a batch on its way")  # type: ignore[misc]
        finally:
            process.kill()
            process.wait()
        record.write(f"s{kill % 5}", 2000 + kill * 10, 10)
    assert record.forward(sink).returncode == 0
    assert shared_rows(record, sink) == record.rows()


@pytest.fixture
def server(tmp_path: Path, sink: str) -> Iterator[Engine]:
    """The engine of `sink` behind HTTP, in a process of its own."""
    assert sink
    with serving(tmp_path / "clickhouse") as server:
        yield server


def test_a_token_is_of_all_rows_of_an_insert(server: Engine) -> None:
    """Megabytes are one block, so that the same rows pass as the same where a text of them is shorter by now."""
    url = server.create()
    settings = "SETTINGS non_replicated_deduplication_window = 9"
    run(url, f"CREATE TABLE t (a Int64, m String) ENGINE = MergeTree ORDER BY a {settings}")
    with closing(Server(parse(url), 60)) as client:
        client.open()
        for length in (500, 100):
            client.insert("t", ("a", "m"), [(number, "x" * length) for number in range(20_000)], "token")
    assert rows(url, "SELECT count(), min(length(m)) FROM t") == [(20_000, 500)]


def test_a_user_s_profile_does_not_undo_a_token(server: Engine) -> None:
    """What it says of deduplication and of waiting inserts is overruled."""
    url = server.create()
    run(url, "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 9")
    run(url, "SET deduplicate_insert = 'disable', insert_deduplicate = 0, async_insert = 1")
    with closing(Server(parse(url), 60)) as client:
        client.open()
        for _ in range(2):
            client.insert("t", ("a",), [(1,)], "token")
    assert rows(url, "SELECT count() FROM t") == [(1,)]


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.long)])
def test_whatever_fails_delays_and_doubles_nothing(record: Recorded, server: Engine, rounds: int) -> None:
    """Over HTTP: a network that fails in every way, a server and a forwarder that are killed."""
    direct = server.create()
    record.write("s", 0, 10)
    assert record.forward(direct).returncode == 0
    with Proxy(server.port) as network:
        url = direct.replace(str(server.port), str(network.port))
        process = record.start(url, "--forward-timeout", "3")
        try:
            for number, fault in enumerate(("swallow", "reset", "half_close", "server", "forwarder") * rounds):
                record.write("s", 1000 + number * 1000, 500)
                if fault == "server":
                    server.kill()
                elif fault == "forwarder":
                    process.kill()
                    process.wait()
                else:
                    network.fail(fault)
                record.write("s", 1500 + number * 1000, 500)
                if fault == "server":
                    server.start()
                elif fault == "forwarder":
                    process = record.start(url, "--forward-timeout", "3")
                wait_for(lambda: shared_rows(record, direct) == record.rows(), 180, "the rows at the sink")
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.parametrize(
    "work", [Work(3, 6000, 1, 2, 4), pytest.param(Work(8, 100_000, 10, 20, 20), marks=pytest.mark.long)]
)
def test_nothing_is_lost_or_doubled_while_everything_fails(tmp_path: Path, server: Engine, work: Work) -> None:
    """A small one of what `python -m tests.forward --sink clickhouse` does."""
    outcome = play(tmp_path, server, work, 1, print, Look(shared_rows, doubled))
    assert outcome.there == outcome.here
    assert sum(count for count, _ in outcome.here) == work.events
    assert outcome.doubled == 0


def test_rows_that_change_are_brought_up_to_date(record: Recorded, sink: str) -> None:
    """Readers get the same from the views there as from those here: the last state of each."""
    source = record.logs / "claude.jsonl"
    for number, output in ((1, 5), (1, 9), (2, 7), (1, 9)):
        usage = {"input_tokens": 3, "output_tokens": output}
        message = {"id": f"m{number}", "role": "assistant", "model": "m", "content": [], "usage": usage}
        line = {"type": "assistant", "sessionId": "c", "uuid": "u", "requestId": f"r{number}", "message": message}
        with source.open("a") as file:
            file.write(json.dumps(line | {"timestamp": "2026-01-02T03:04:05Z", "cwd": "/x"}) + "\n")
        record.write("native", number * 10, 2)
        assert record.forward(sink).returncode == 0
    shutil.copy(source, record.logs / "copy.jsonl")
    (record.logs / "native.ndjson").rename(record.logs / "native.ndjson.1")
    record.write("native", 50, 2)
    with (record.logs / "native.ndjson").open("a") as file:
        file.write("no record\n")
    record.ingest()
    assert record.forward(sink).returncode == 0
    numbers = {"generation", "id", "event", "stream", "superseded_by", "carry"}  # each engine has its own
    for view in _VIEWS:
        columns = [row[0] for row in record.local(f"SELECT name FROM pragma_table_xinfo('{view}')")]
        assert {row[0] for row in rows(sink, f"DESCRIBE TABLE {view}")} == {*columns, "host_id"} - {"carry"}
        some = ", ".join(f'"{column}"' for column in columns if column not in numbers)
        query = f"SELECT {some} FROM {view}"
        assert sorted(map(repr, rows(sink, query))) == sorted(map(repr, record.local(query))) != []


def test_hosts_with_the_same_sessions_stay_apart(tmp_path: Path, sink: str) -> None:
    """Two databases of one machine, each with a session of the same name and other lines, are two hosts."""
    one, other = Recorded(tmp_path / "one"), Recorded(tmp_path / "other")
    one.write("s", 0, 10, "of one")
    other.write("s", 0, 7, "of the other")
    for record in (one, other):
        assert record.forward(sink).returncode == 0
    assert shared_rows(one, sink) == one.rows()
    assert shared_rows(other, sink) == other.rows()
    assert sorted(rows(sink, "SELECT session_id, events FROM sessions")) == [("s", 7), ("s", 10)]
    assert rows(sink, "SELECT uniqExact(id) FROM events") == [(17,)]


def test_a_clone_is_refused(record: Recorded, tmp_path: Path, sink: str) -> None:
    """A record that went on otherwise under the same id writes nothing there."""
    record.write("s", 0, 10)
    record.forward(sink)
    kept = {path: path.read_bytes() for path in (record.database, record.logs / "s.ndjson")}
    record.write("s", 10, 5)
    assert record.forward(sink).returncode == 0
    before = rows(sink, _MARKS)
    for path, content in kept.items():
        path.write_bytes(content)
    record.write("s", 50, 10)
    result = record.forward(sink)
    assert result.returncode == 1
    assert "another record under this host id" in result.stderr
    assert rows(sink, _MARKS) == before
    assert rows(sink, "SELECT count() FROM sink_events") == [(15,)]


def _erase(url: str) -> None:
    """What the README says that an administrator does."""
    text = (ROOT / "daemon/codex_ingestd/forward/clickhouse/README.md").read_text()
    erasing = text.partition("## Erasing")[2].partition("```sql\n")[2].partition("```")[0]
    run(url, *erasing.strip().removesuffix(";").split(";\n"))


def test_a_purged_session_is_told(record: Recorded, sink: str) -> None:
    """Its tombstone goes along; its rows stay until somebody deletes them, and aren't shown."""
    record.write("s", 0, 10)
    record.forward(sink)
    succeed(f"codex-ingestd purge --days 0 --sources --rows --db {record.database}", record.logs)
    assert record.forward(sink).returncode == 0
    told = "SELECT length, lines, chain, purged_at FROM tombstones"
    assert [(*row[:2], row[3]) for row in rows(sink, told)] == [(*row[:2], row[3]) for row in record.local(told)] != []
    assert rows(sink, "SELECT count() FROM sink_events") == [(10,)]
    assert rows(sink, "SELECT count() FROM session_events") == [(0,)]
    _erase(sink)
    assert rows(sink, "SELECT count() FROM sink_events") == [(0,)]


def test_text_that_was_taken_out_later_is_not_shown(record: Recorded, sink: str) -> None:
    """Only of the rows that lie there, and were sent before."""
    record.write("s", 0, 5)
    record.forward(sink)
    first, second = (row[3] for row in record.rows()[1:3])
    generation = "SELECT host_id, 's', id"
    for offset, at in ((first, 1e10), (second, 0.0)):
        run(sink, f"INSERT INTO sink_redacted_spans {generation}, {offset + 3}, 5, 'r', {at}, 1 FROM sink_generations")
    query = "SELECT message FROM session_events WHERE seq <= 3 ORDER BY seq"
    assert rows(sink, query) == [("a word 0",), ("",), ("a word 2",)]
    _erase(sink)
    assert rows(sink, query) == [("a word 0",), ("[REDACTED]",), ("a word 2",)]


def test_the_replicated_engines_are_understood(sink: str) -> None:
    """As far as an engine that replicates nothing can tell: it parses each statement."""
    with closing(clickhouse_connect.get_client(dsn=sink)) as client:
        for place in ((), ("'/tables/{shard}/{table}'", "'{replica}'")):
            for statement in (part.removesuffix(";") for step in steps() for part in step):
                there = replicated(statement, place)
                assert ("ENGINE = " in statement) == ("ENGINE = Replicated" in there)
                assert client.query(f"EXPLAIN AST {there}").result_rows


class _Asked:
    """A server of which nothing is known but what a query about it gives; it remembers what it was told to make."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers
        self.told: list[str] = []

    def query(self, query: str) -> SimpleNamespace:
        """One value: of the answer whose name is in the query."""
        found = next((value for name, value in self._answers.items() if name in query), 0)
        return SimpleNamespace(result_rows=[(found,)])

    def command(self, statement: str) -> None:
        """It is done."""
        self.told.append(statement)

    def insert(self, *arguments: object, **options: object) -> None:
        """It is there."""


_PLACE = "('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')"


@pytest.mark.parametrize(
    ("answers", "tables", "own"),
    [({}, "", ""), ({"macros": 2}, "Replicated", ""), ({"databases": "Replicated"}, "Replicated", "Replicated")],
)
def test_a_replica_remembers_the_steps_that_were_taken_there(answers: dict[str, object], tables: str, own: str) -> None:
    """Where nobody copies definitions, each makes its tables itself, however many steps another one has taken."""
    server = _Asked(**answers)
    assert migrate(cast(Any, server)) == len(steps())
    place = _PLACE if "macros" in answers else ""
    assert any("sink_events (\n" in text and f"ENGINE = {tables}MergeTree{place}\n" in text for text in server.told)
    assert f"ENGINE = {own}ReplacingMergeTree ORDER BY number" in server.told[0]


def test_a_table_never_gathers_inserts(record: Recorded, sink: str) -> None:
    """Whatever the server's own default is, and also where an earlier version made it."""
    record.forward(sink)
    run(sink, "ALTER TABLE sink_events MODIFY SETTING async_insert = 1", "TRUNCATE TABLE sink_steps")
    run(sink, "INSERT INTO sink_steps (number) VALUES (2)")
    record.forward(sink)
    assert "async_insert = 0" in rows(sink, "SHOW CREATE TABLE sink_events")[0][0]


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


def test_later_generations_have_greater_numbers() -> None:
    """Whatever the clock says, none is of more than 88 bits, and no two are equal."""
    me, other = UUID(int=1), UUID(int=2)
    times = (-1e300, 0.0, 1_700_000_000.0, 1_700_000_000.000002, 1_800_000_000.0, 1e300)
    numbers = [generation_id(me, 1, began) for began in times]
    assert numbers[1:] == sorted(numbers[1:])
    assert max(numbers).bit_length() <= 88
    assert len({generation_id(*key, 0.0) for key in ((me, 1), (me, 2), (other, 1), (other, 2))}) == 4


def test_a_server_that_is_not_there_is_told_without_the_password(record: Recorded) -> None:
    """The way to a server is HTTP: this much of it needs none."""
    record.write("s", 0, 1)
    result = record.forward("clickhouse://me:hush%21@127.0.0.1:9/db")
    assert result.returncode == 1
    assert "clickhouse://127.0.0.1:9/db: connecting" in result.stderr
    assert "hush" not in result.stderr + result.stdout + str(record.local("SELECT * FROM forward_sinks"))
