"""What is in the local database comes to be in ClickHouse: all of it, once, as it is, without a transaction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from uuid import UUID

from codex_ingestd.forward.clickhouse.sink import generation_id
from tests.clickhouse import rows, run, shared_rows
from tests.commands import ROOT, succeed
from tests.forward.records import Recorded, forward_in_turns

_MARKS = "SELECT local, sent_event, sent_reject, sent_offset, sent_chain, ledger FROM sink_generations FINAL ORDER BY 1"


_SESSIONS = ("sessions", "session_lives", "session_usage", "session_events", "session_ingest_watermark")
_VIEWS = (*_SESSIONS, "summaries", "usage", "events", "ingest_rejects")


def test_each_event_arrives_as_it_is(record: Recorded, clickhouse: str) -> None:
    """Columns are equal, whatever the text, and whatever the clock, for which there is a partition a month."""
    texts = ("", "\0 a\0b", "日本語 ñ 🙂", "\ud800", "\\ \t \n \r | ' \"")
    times = ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", 1e300, -1e300, None]
    times += [f"{year}-{month:02}-03T04:05:06Z" for year in range(2016, 2027) for month in range(1, 13)]
    lines: list[dict[str, object]] = [{"role": "user", "message": text} for text in texts]
    lines += [{"role": "tool", "message": "x", "call_id": "c\0d", "deep": {"nul": "\0"}, "n": 10**30}]
    lines += [{"message": "x", "ts": ts} for ts in times]
    (record.logs / "odd.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record.ingest()
    assert record.forward(clickhouse).returncode == 0
    assert shared_rows(record, clickhouse) == record.rows()
    assert len(record.rows()) == len(lines)


def test_nothing_comes_twice(record: Recorded, clickhouse: str) -> None:
    """A second run sends what was added, and one without anything new leaves the sink as it was."""
    forward_in_turns(record, clickhouse, lambda: rows(clickhouse, _MARKS))
    assert shared_rows(record, clickhouse) == record.rows()


def test_rows_that_change_are_brought_up_to_date(record: Recorded, clickhouse: str) -> None:
    """Readers get the same from the views there as from those here: the last state of each."""
    source = record.logs / "claude.jsonl"
    for number, output in ((1, 5), (1, 9), (2, 7), (1, 9)):
        usage = {"input_tokens": 3, "output_tokens": output}
        message = {"id": f"m{number}", "role": "assistant", "model": "m", "content": [], "usage": usage}
        line = {"type": "assistant", "sessionId": "c", "uuid": "u", "requestId": f"r{number}", "message": message}
        with source.open("a") as file:
            file.write(json.dumps(line | {"timestamp": "2026-01-02T03:04:05Z", "cwd": "/x"}) + "\n")
        record.write("native", number * 10, 2)
        assert record.forward(clickhouse).returncode == 0
    shutil.copy(source, record.logs / "copy.jsonl")
    (record.logs / "native.ndjson").rename(record.logs / "native.ndjson.1")
    record.write("native", 50, 2)
    with (record.logs / "native.ndjson").open("a") as file:
        file.write("no record\n")
    record.ingest()
    assert record.forward(clickhouse).returncode == 0
    numbers = {"generation", "id", "event", "stream", "superseded_by", "carry"}  # each engine has its own
    for view in _VIEWS:
        columns = [row[0] for row in record.local(f"SELECT name FROM pragma_table_xinfo('{view}')")]
        assert {row[0] for row in rows(clickhouse, f"DESCRIBE TABLE {view}")} == {*columns, "host_id"} - {"carry"}
        some = ", ".join(f'"{column}"' for column in columns if column not in numbers)
        query = f"SELECT {some} FROM {view}"
        assert sorted(map(repr, rows(clickhouse, query))) == sorted(map(repr, record.local(query))) != []


def test_hosts_with_the_same_sessions_stay_apart(tmp_path: Path, clickhouse: str) -> None:
    """Two databases of one machine, each with a session of the same name and other lines, are two hosts."""
    one, other = Recorded(tmp_path / "one"), Recorded(tmp_path / "other")
    one.write("s", 0, 10, "of one")
    other.write("s", 0, 7, "of the other")
    for record in (one, other):
        assert record.forward(clickhouse).returncode == 0
    assert shared_rows(one, clickhouse) == one.rows()
    assert shared_rows(other, clickhouse) == other.rows()
    assert sorted(rows(clickhouse, "SELECT session_id, events FROM sessions")) == [("s", 7), ("s", 10)]
    assert rows(clickhouse, "SELECT uniqExact(id) FROM events") == [(17,)]


def test_a_clone_is_refused(record: Recorded, tmp_path: Path, clickhouse: str) -> None:
    """A record that went on otherwise under the same id writes nothing there."""
    record.write("s", 0, 10)
    record.forward(clickhouse)
    kept = {path: path.read_bytes() for path in (record.database, record.logs / "s.ndjson")}
    record.write("s", 10, 5)
    assert record.forward(clickhouse).returncode == 0
    before = rows(clickhouse, _MARKS)
    for path, content in kept.items():
        path.write_bytes(content)
    record.write("s", 50, 10)
    result = record.forward(clickhouse)
    assert result.returncode == 1
    assert "another record under this host id" in result.stderr
    assert rows(clickhouse, _MARKS) == before
    assert rows(clickhouse, "SELECT count() FROM sink_events") == [(15,)]


def _erase(url: str) -> None:
    """What the README says that an administrator does."""
    text = (ROOT / "daemon/codex_ingestd/forward/clickhouse/README.md").read_text()
    erasing = text.partition("## Erasing")[2].partition("```sql\n")[2].partition("```")[0]
    run(url, *erasing.strip().removesuffix(";").split(";\n"))


def test_a_purged_session_is_told(record: Recorded, clickhouse: str) -> None:
    """Its tombstone goes along; its rows stay until somebody deletes them, and aren't shown."""
    record.write("s", 0, 10)
    record.forward(clickhouse)
    succeed(f"codex-ingestd purge --days 0 --sources --rows --db {record.database}", record.logs)
    assert record.forward(clickhouse).returncode == 0
    told = "SELECT length, lines, chain, purged_at FROM tombstones"
    assert (
        [(*row[:2], row[3]) for row in rows(clickhouse, told)]
        == [(*row[:2], row[3]) for row in record.local(told)]
        != []
    )
    assert rows(clickhouse, "SELECT count() FROM sink_events") == [(10,)]
    assert rows(clickhouse, "SELECT count() FROM session_events") == [(0,)]
    _erase(clickhouse)
    assert rows(clickhouse, "SELECT count() FROM sink_events") == [(0,)]


def test_text_that_was_taken_out_later_is_not_shown(record: Recorded, clickhouse: str) -> None:
    """Only of the rows that lie there, and were sent before."""
    record.write("s", 0, 5)
    record.forward(clickhouse)
    first, second = (row[3] for row in record.rows()[1:3])
    generation = "SELECT host_id, 's', id"
    for offset, at in ((first, 1e10), (second, 0.0)):
        run(
            clickhouse,
            f"INSERT INTO sink_redacted_spans {generation}, {offset + 3}, 5, 'r', {at}, 1 FROM sink_generations",
        )
    query = "SELECT message FROM session_events WHERE seq <= 3 ORDER BY seq"
    assert rows(clickhouse, query) == [("a word 0",), ("",), ("a word 2",)]
    _erase(clickhouse)
    assert rows(clickhouse, query) == [("a word 0",), ("[REDACTED]",), ("a word 2",)]


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
