"""An import whose lines are decoded by other processes."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.import_ndjson import Imported, import_streams, stream_locations
from codex.logging.ingest.decoders import Decoders
from codex.logging.ingest.engine import Engine
from codex.logging.store.connection import open_reader
from codex.logging.store.sqlite import Store
from codex.logging.verify import Finding, check, targets

_QUERIES = (
    """SELECT session_id, seq, part, ts, role, kind, message, meta, tool, model, call_id, parent, inherited,
              "offset", length
       FROM session_events ORDER BY session_id, seq, part""",
    'SELECT session_id, seq, length, reason, detail, "offset" AS start FROM ingest_rejects ORDER BY session_id, start',
    """SELECT session_id, ts, model, input, cache_read, cache_write, output, reasoning, repeated, inherited
       FROM session_usage ORDER BY session_id, ts, input, output""",
    "SELECT * FROM sessions ORDER BY session_id",
)


@pytest.fixture
def sessions(log_dir: Path) -> Path:
    """Logs of three formats with more than one batch each, glued and broken lines among them; and two small ones."""
    rng = random.Random(1)
    for number in range(3):
        (log_dir / f"n{number}.ndjson").write_bytes(b"".join(_native(rng, line) for line in range(3000)))
        (log_dir / f"c{number}.jsonl").write_bytes(b"".join(_claude(rng, number, line) for line in range(1500)))
    (log_dir / "small.ndjson").write_bytes(b'{"message":"a"}\n')
    (log_dir / "none.jsonl").write_bytes(b"no object\n")
    return log_dir


def _native(rng: random.Random, number: int) -> bytes:
    record = {"ts": f"2026-01-01T00:00:{number % 60:02}Z", "role": "user", "message": "\u00e9 " * rng.randint(1, 500)}
    line = json.dumps(record | {"n": number}, ensure_ascii=number % 2 == 0).encode()
    return rng.choice([line, line, line, line, line + line, line[:-3], b"", b"\0\0" + line]) + b"\n"


def _claude(rng: random.Random, session: int, number: int) -> bytes:
    usage = {"input_tokens": number, "output_tokens": rng.randint(0, 9)}
    message = {"id": f"m{session}-{number // 2}", "role": "assistant", "model": "m", "usage": usage}
    blocks = [{"type": "text", "text": "x" * rng.randint(1, 1000)}, {"type": "tool_use", "name": "t", "input": {}}]
    names = {"type": "assistant", "sessionId": f"c{session}", "uuid": f"u{number}"}
    record = names | {"message": message | {"content": blocks}}
    return json.dumps(record).encode() + b"\n"


def run(database: Path, folder: Path, decoders: Decoders | None, then: Callable[[], None] = lambda: None) -> int:
    """Import the folder; `then` is called once the first stream is in. How many failed comes back."""
    with closing(Store(str(database))) as store:
        results: Iterator[Imported] = import_streams(Engine(store), stream_locations(str(folder)), decoders)
        done = [next(results)]
        then()
        done += results
        return sum(result.error is not None for result in done)


def content(database: Path) -> list[list[tuple[object, ...]]]:
    """What readers see; but for the generations' ids, which are given in another order."""
    with closing(open_reader(str(database))) as connection:
        return [connection.execute(query).fetchall() for query in _QUERIES]


def findings(database: Path) -> list[Finding]:
    with closing(open_reader(str(database))) as connection:
        steps = [step for target in targets(connection) for step in check(connection, target, deep=True)]
    return [step for step in steps if isinstance(step, Finding)]


def test_other_processes_make_the_same_rows(tmp_path: Path, sessions: Path) -> None:
    """Events, rejects, usage and summaries are those of an import by one process; the record is whole."""
    alone, together = tmp_path / "alone.db", tmp_path / "together.db"
    assert run(alone, sessions, None) == 0
    with Decoders(here=0) as decoders:
        assert run(together, sessions, decoders) == 0
        assert decoders.processes
    assert content(together) == content(alone)
    assert findings(together) == []


def test_killed_decoders_are_done_without(tmp_path: Path, sessions: Path) -> None:
    """Their batches are decoded again, here."""
    alone, together = tmp_path / "alone.db", tmp_path / "together.db"
    assert run(alone, sessions, None) == 0

    with Decoders(here=0) as decoders:

        def kill() -> None:
            for process in decoders.processes:
                os.kill(process, signal.SIGKILL)

        assert run(together, sessions, decoders, kill) == 0
    assert content(together) == content(alone)


def test_a_short_import_starts_no_process(tmp_path: Path, log_dir: Path) -> None:
    """It would be over before that has begun."""
    for number in range(3):
        (log_dir / f"s{number}.ndjson").write_bytes(b'{"message":"word"}\n' * 20_000)
    with Decoders() as decoders:
        assert run(tmp_path / "x.db", log_dir, decoders) == 0
        assert decoders.processes == []
