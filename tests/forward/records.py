"""Local records to forward, the command that does it, and what came of it at the sink."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from codex.logging.store.connection import open_reader
from codex_ingestd import log
from codex_ingestd.cli import main
from tests.commands import ROOT
from tests.importer import Importer
from tests.postgres import rows

_LOCAL = """
SELECT s.session_id, e.seq, e.part, e."offset", e.length, e.ts, e.role, e.kind, e.message, e.meta, e.tool, e.model,
       e.call_id, e.parent, e.inherited
FROM events AS e
JOIN generations AS g ON g.id = e.generation
JOIN streams AS s ON s.id = g.stream ORDER BY 1, 2, 3, 4"""
_SHARED = """
SELECT session_id, seq, part, "offset", length, ts, role, kind, message, meta, tool, model, call_id, parent, inherited
FROM codex_sink.events WHERE host_id = %s ORDER BY 1, 2, 3, 4"""
_HOST = "SELECT host_id FROM codex_sink.hosts WHERE database = %s ORDER BY first_seen DESC LIMIT 1"


class Outcome(NamedTuple):
    """What a command gave."""

    returncode: int
    stdout: str
    stderr: str


class Recorded:
    """A folder of logs, and the database that they are ingested into."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "sessions"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.database = folder / "session_logs.db"

    def write(self, name: str, first: int, count: int, text: str = "a word") -> None:
        """Append numbered lines to a session's log, and ingest them."""
        lines = (
            {"ts": f"2026-01-02T03:04:05.{number % 1000:03}Z", "role": "user", "message": f"{text} {number}"}
            for number in range(first, first + count)
        )
        with (self.logs / f"{name}.ndjson").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        self.ingest()

    def ingest(self) -> None:
        """Take all that is in the folder."""
        with closing(Importer(self.logs, self.database)) as importer:
            importer.sweep()

    def forward(self, url: str, *arguments: str) -> Outcome:
        """`codex-ingestd forward --once`, or with other arguments, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("CODEX_FORWARD_TO", url)
            patch.setattr(log, "set_up", lambda level: None)  # it is for a whole process
            code = main(["forward", "--db", str(self.database), *(arguments or ("--once",))])
        return Outcome(code, out.getvalue(), err.getvalue())

    def start(self, url: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A forwarder that goes on until it is stopped."""
        environment = {**os.environ, "CODEX_FORWARD_TO": url}
        return subprocess.Popen([*self.command(), *arguments], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)

    def command(self) -> list[str]:
        """The command line's begin."""
        return [sys.executable, "-m", "codex_ingestd.cli", "forward", "--db", str(self.database)]

    def rows(self) -> list[tuple[Any, ...]]:
        """Every event of the database."""
        return self.local(_LOCAL)

    def shared_rows(self, url: str) -> list[tuple[Any, ...]]:
        """Every event that the sink has of this database."""
        return rows(url, _SHARED, self.host(url))

    def host(self, url: str) -> object:
        """The host's id at the sink."""
        found = rows(url, _HOST, str(self.database))
        return found[0][0] if found else None

    def local(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives in the database."""
        with closing(open_reader(str(self.database))) as connection:
            return connection.execute(query).fetchall()


def forward_in_turns(record: Recorded, url: str, marks: Callable[[], object]) -> None:
    """A backlog that takes several batches, then what was added, then nothing: which leaves its `marks` alone."""
    record.write("s", 0, 5000)
    for number in range(30):
        record.write(f"small-{number}", 0, 3)
    assert "5090 events" in record.forward(url).stdout
    record.write("s", 5000, 5)
    record.write("t", 0, 3)
    assert "8 events" in record.forward(url).stdout
    before = marks()
    assert "0 events" in record.forward(url).stdout
    assert marks() == before
