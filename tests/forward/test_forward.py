"""What is in the local database comes to be in the shared one: all of it, once, as it is."""

from __future__ import annotations

import json
import os
import random
import shutil
import string
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.store.connection import open_writer
from tests.commands import shell, succeed
from tests.daemon import wait_for
from tests.forward.records import Recorded, forward_in_turns
from tests.postgres import Server, rows

_MARKS = "SELECT local, sent_event, sent_reject, sent_offset, sent_chain, ledger FROM codex_sink.generations ORDER BY 1"


def test_each_event_arrives_as_it_is(record: Recorded, sink: str) -> None:
    """Columns are equal, whatever the text; for a NUL, which the engine can't hold, there is its sign."""
    record.write("plain", 0, 50)
    lines = [
        {"role": "user", "message": text} for text in ("", "\0 a\0b", "日本語 ñ 🙂", "\ud800", "\\ \t \n \r | ' \"")
    ]
    lines += [{"role": "tool", "message": "x", "call_id": "c\0d", "deep": {"nul": "\0"}, "n": 10**30}]
    (record.logs / "odd.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record.ingest()
    assert record.forward(sink).returncode == 0
    shared = record.shared_rows(sink)
    assert len(shared) == 56
    assert shared == [tuple(v.replace("\0", "␀") if isinstance(v, str) else v for v in row) for row in record.rows()]


def test_nothing_comes_twice(record: Recorded, sink: str) -> None:
    """A second run sends what was added, and one without anything new leaves the sink as it was."""
    forward_in_turns(record, sink, lambda: rows(sink, _MARKS))
    assert record.shared_rows(sink) == record.rows()


def test_a_watermark_that_was_set_back_doubles_nothing(record: Recorded, sink: str) -> None:
    """Rows that are there already are passed over."""
    record.write("s", 0, 20)
    record.forward(sink)
    record.write("s", 20, 5)
    rows(sink, "UPDATE codex_sink.generations SET sent_event = 0, sent_reject = 0, ledger = '' RETURNING 1")
    assert record.forward(sink).returncode == 0
    assert record.shared_rows(sink) == record.rows()


def test_what_happens_to_a_log_is_told(record: Recorded, sink: str) -> None:
    """Rejects, rotations, rewriting: the ledger there says what the one here does."""
    record.write("s", 0, 10)
    with (record.logs / "s.ndjson").open("a") as file:
        file.write("no record\n")
    record.ingest()
    record.forward(sink)
    (record.logs / "s.ndjson").rename(record.logs / "s.ndjson.1")
    record.write("s", 10, 10)
    record.write("rewritten", 0, 10)
    record.forward(sink)
    (record.logs / "rewritten.ndjson").write_text('{"message": "another one"}\n')
    record.ingest()
    record.forward(sink)
    columns = '"offset", seq, lines, chain, began, committed_at, ended, how'
    here = f"SELECT id, {columns}, superseded_by FROM generations ORDER BY 1"
    there = f"SELECT local, {columns}, superseded_by_local FROM codex_sink.generations ORDER BY 1"
    assert rows(sink, there) == record.local(here)
    assert rows(sink, "SELECT seq, length, reason, detail FROM codex_sink.ingest_rejects") == record.local(
        "SELECT seq, length, reason, detail FROM ingest_rejects"
    )
    assert record.shared_rows(sink) == record.rows()


def test_rows_that_change_are_brought_up_to_date(record: Recorded, sink: str) -> None:
    """Summaries, and calls whose tokens a later line tells better, or once more, are as in the record, at each time."""
    source = record.logs / "claude.jsonl"
    for number, output in ((1, 5), (1, 5), (1, 9), (2, 7), (1, 9)):
        usage = {"input_tokens": 3, "output_tokens": output}
        message = {"id": f"m{number}", "role": "assistant", "model": "m", "content": [], "usage": usage}
        line = {"type": "assistant", "sessionId": "c", "uuid": "u", "requestId": f"r{number}", "message": message}
        with source.open("a") as file:
            file.write(json.dumps(line | {"timestamp": "2026-01-02T03:04:05Z"}) + "\n")
        record.ingest()
        assert record.forward(sink).returncode == 0
        calls = "input, output, reasoning, repeated, inherited"
        assert rows(sink, f"SELECT key, event_seq, {calls} FROM codex_sink.usage ORDER BY 1") == record.local(
            f"SELECT key, event >> 8 & 0xffffffff, {calls} FROM usage ORDER BY 1"
        )
    told = 'models, started, last_event, events, turns, tool_calls, errors, state, title, "offset"'
    assert rows(sink, f"SELECT {told} FROM codex_sink.summaries") == record.local(f"SELECT {told} FROM summaries")
    assert len(record.local("SELECT * FROM usage")) == 2


def test_a_live_row_follows_at_once(record: Recorded, sink: str) -> None:
    """A forwarder that runs sends what is committed meanwhile."""
    record.write("s", 0, 1)
    process = record.start(sink)
    try:
        for count in range(1, 4):
            record.write("s", count, 1)
            wait_for(lambda: len(record.shared_rows(sink)) == len(record.rows()), what="the row at the sink")
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_two_forwarders_of_one_record_double_nothing(record: Recorded, sink: str) -> None:
    """Whoever comes second finds the watermark moved, and goes on from there."""
    record.write("s", 0, 3000)
    processes = [record.start(sink, "--once") for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert record.shared_rows(sink) == record.rows()


def test_hosts_with_the_same_sessions_stay_apart(tmp_path: Path, sink: str) -> None:
    """Two databases of one machine, each with a session of the same name and other lines, are two hosts."""
    one, other = Recorded(tmp_path / "one"), Recorded(tmp_path / "other")
    one.write("s", 0, 10, "of one")
    other.write("s", 0, 7, "of the other")
    for record in (one, other):
        assert record.forward(sink).returncode == 0
    assert one.host(sink) != other.host(sink)
    assert one.shared_rows(sink) == one.rows()
    assert other.shared_rows(sink) == other.rows()


class _Clone:
    """The record as it is now, to be put in the place of what has become of it: on a machine that was cloned."""

    def __init__(self, record: Recorded, folder: Path) -> None:
        self._record = record
        self._kept = folder / "kept.db"
        self._sizes = {path: path.stat().st_size for path in record.logs.iterdir()}
        shutil.copy(record.database, self._kept)

    def take_place(self) -> None:
        """Go on from then."""
        shutil.copy(self._kept, self._record.database)
        for path in self._record.logs.iterdir():
            if path in self._sizes:
                os.truncate(path, self._sizes[path])
            else:
                path.unlink()


@pytest.mark.parametrize(("mine", "theirs"), [(5, 5), (5, 20), (20, 5)])
def test_a_clone_whose_log_went_on_otherwise_is_refused(
    record: Recorded, tmp_path: Path, sink: str, mine: int, theirs: int
) -> None:
    """Nothing of it is written, once it has as much as the sink; under an id of its own it may go on."""
    record.write("s", 0, 10)
    record.forward(sink)
    clone = _Clone(record, tmp_path)
    record.write("s", 10, mine)
    assert record.forward(sink).returncode == 0
    before = rows(sink, _MARKS)
    clone.take_place()
    record.write("s", 50, theirs)
    record.write("new", 0, 10)
    result = record.forward(sink)
    if theirs >= mine:
        assert result.returncode == 1
        assert "another record under this host id" in result.stderr
        assert "forward-host-id" in result.stderr
        assert rows(sink, _MARKS) == before
    record.write("s", 100, mine)
    assert record.forward(sink).returncode == 1
    assert len(rows(sink, "SELECT 1 FROM codex_sink.events WHERE session_id = 's'")) == 10 + mine
    assert record.forward(sink, "--once", "--forward-host-id", "the clone").returncode == 0
    assert record.shared_rows(sink) == record.rows()


def test_a_clone_with_other_sessions_is_refused(record: Recorded, tmp_path: Path, sink: str) -> None:
    """Numbers that mean another log there than here are noticed before anything is written."""
    record.write("s", 0, 10)
    record.forward(sink)
    clone = _Clone(record, tmp_path)
    record.write("mine", 0, 10)
    assert record.forward(sink).returncode == 0
    clone.take_place()
    record.write("theirs", 0, 10)
    record.write("s", 10, 10)
    assert record.forward(sink).returncode == 1
    assert len(rows(sink, "SELECT 1 FROM codex_sink.events")) == 20


def test_a_record_that_was_restored_catches_up(record: Recorded, tmp_path: Path, sink: str) -> None:
    """A database of yesterday that reads its logs once more is the same record: nothing is sent until it has more."""
    record.write("s", 0, 10)
    kept = tmp_path / "kept.db"
    shutil.copy(record.database, kept)
    record.write("s", 10, 10)
    assert record.forward(sink).returncode == 0
    shutil.copy(kept, record.database)
    assert record.forward(sink).returncode == 0
    record.write("s", 20, 1)
    assert record.forward(sink).returncode == 0
    assert record.shared_rows(sink) == record.rows()


def test_a_purged_session_is_told(record: Recorded, sink: str) -> None:
    """Its tombstone goes along; its rows stay until an administrator removes them."""
    record.write("s", 0, 10)
    record.forward(sink)
    purge = f"codex-ingestd purge --days 0 --sources --rows --db {record.database}"
    succeed(purge, record.logs)
    assert record.forward(sink).returncode == 0
    told = "SELECT length, lines, chain, purged_at FROM"
    assert rows(sink, f"{told} codex_sink.tombstones") == record.local(f"{told} tombstones") != []

    assert rows(sink, "SELECT count(*) FROM codex.events") == [(0,)]
    assert rows(sink, "SELECT codex_sink.erase()") == [(10,)]
    assert rows(sink, "SELECT count(*) FROM codex_sink.events") == [(0,)]


def _take_out(record: Recorded, seq: int) -> None:
    """As redaction leaves a line: a placeholder in the row, and a span."""
    span = """
    INSERT INTO redacted_spans SELECT 1, "offset" + 10, 5, 'erased', 'h', x'00', unixepoch('subsec')
    FROM events WHERE seq = ?"""
    with closing(open_writer(str(record.database))) as connection:
        connection.execute(span, (seq,))
        connection.execute("UPDATE events SET message = '[REDACTED:erased:h]' WHERE seq = ?", (seq,))


def test_what_a_text_has_lost_is_lost_there_too(record: Recorded, sink: str) -> None:
    """Where it was sent before, it isn't shown, and an administrator removes it; where it goes now, it goes without."""
    record.write("s", 0, 10, "a secret")
    _take_out(record, 2)
    assert record.forward(sink).returncode == 0
    _take_out(record, 5)
    record.write("s", 10, 5, "more")
    assert record.forward(sink).returncode == 0
    text = "SELECT seq, message FROM {}.events WHERE seq IN (2, 5, 6) ORDER BY 1"
    after = (6, "a secret 5")
    assert rows(sink, text.format("codex")) == [(2, "[REDACTED:erased:h]"), (5, ""), after]
    assert rows(sink, "SELECT codex_sink.erase()") == [(1,)]
    assert rows(sink, text.format("codex_sink")) == [(2, "[REDACTED:erased:h]"), (5, "[REDACTED:erased]"), after]
    record.write("s", 15, 5, "still more")
    assert record.forward(sink).returncode == 0
    assert rows(sink, "SELECT count(*) FROM codex_sink.redacted_spans") == [(0,)]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_known_secret_stays_at_home(record: Recorded, sink: str, allowed: bool) -> None:
    """Its row goes with a placeholder; unless whoever may says that it may be seen."""
    secret = "ghp_" + "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=36))
    record.write("s", 0, 3, f"token {secret} of")
    shell(f"codex-logs secrets --db {record.database}", record.logs)
    assert record.local("SELECT count(*) FROM secrets") == [(3,)]
    assert record.forward(sink, "--once", *(["--allow-secrets"] if allowed else [])).returncode == 0
    texts = [message for (message,) in rows(sink, "SELECT message FROM codex_sink.events ORDER BY seq")]
    assert len(texts) == 3
    for number, text in enumerate(texts):
        assert (secret in text) == allowed
        assert text.startswith("token ")
        assert text.endswith(f" of {number}")


def test_a_host_can_be_forgotten(record: Recorded, tmp_path: Path, sink: str) -> None:
    """All that it ever sent goes, and nothing else; it may begin anew."""
    other = Recorded(tmp_path / "other")
    for host in (record, other):
        host.write("s", 0, 10)
        host.forward(sink)
    rows(sink, "SELECT codex_sink.forget(%s)", record.host(sink))
    assert other.shared_rows(sink) == other.rows()
    assert rows(sink, "SELECT count(*) FROM codex_sink.events") == [(10,)]
    assert record.forward(sink).returncode == 0
    assert record.shared_rows(sink) == record.rows()


@pytest.mark.parametrize("clock", ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", 1e300, None])
def test_a_wild_clock_stops_nothing(record: Recorded, sink: str, clock: object) -> None:
    """Its event lies elsewhen, and is there."""
    (record.logs / "s.ndjson").write_text(json.dumps({"ts": clock, "message": "x"}) + "\n")
    record.ingest()
    assert record.forward(sink).returncode == 0
    assert record.shared_rows(sink) == record.rows()


def test_an_empty_database_gets_its_schema(record: Recorded, server: Server) -> None:
    """Where the role may make it."""
    url = server.create()
    record.write("s", 0, 1)
    assert record.forward(url).returncode == 0
    assert record.shared_rows(url) == record.rows()
