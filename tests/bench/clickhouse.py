"""Forwarding into ClickHouse's engine, beside bare inserts of the same rows by the same client, in one process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from codex.logging import import_all
from codex_ingestd.forward.address import parse
from codex_ingestd.forward.clickhouse.schema import bring_up_to_date
from codex_ingestd.forward.clickhouse.server import Server
from codex_ingestd.forward.clickhouse.sink import ClickHouseSink
from codex_ingestd.health.metrics import peak_bytes
from tests.bench.corpus import make_corpus
from tests.bench.figures import Report, load, paired, spread
from tests.clickhouse import forwarding

_LINE_BYTES = 520
_COLUMNS = "SELECT name FROM system.columns WHERE table = 'sink_events' AND default_kind = '' ORDER BY position"


class _Run(NamedTuple):
    """Events, and the seconds that each way took for all of them; bytes of memory, the engine's among them."""

    events: int
    forward: float
    inserts: float
    bytes: int


def measure(folder: Path, *, events: int, sessions: int, rounds: int) -> Report:
    """Forward all of a record into an empty database, and insert the same rows into a table like it."""
    before = load()
    source, database = folder / "sessions", folder / "logs.db"
    source.mkdir()
    make_corpus(source, "native", events * _LINE_BYTES, sessions)
    import_all(source, database)
    runs = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            command = [sys.executable, "-m", "tests.bench.clickhouse", str(database), f"chdb://{place}"]
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            runs.append(_Run(*json.loads(told.splitlines()[-1])))
    floor = [run.inserts for run in runs]
    count, most = runs[0].events, ClickHouseSink.batches.most
    report_rows: list[dict[str, object]] = []
    for name, seconds in (("inserts", floor), ("forward", [run.forward for run in runs])):
        middle = spread(seconds).p50
        report_rows.append(
            {"by": name, "events/s": round(count / middle), "rate / inserts": 1 / paired(seconds, floor)}
        )
    notes = [
        f"inserts: the rows ready as Python has them, {most} in each, by the same client, in the same process",
        "the engine is in that process, on this machine's disk; the schema was made before",
        f"{max(run.bytes for run in runs) >> 20} MiB of memory, with the engine's own, and the rows for the inserts",
        f"before: {before}; after: {load()}",
    ]
    return Report(f"forwarding {count} events in {sessions} sessions into ClickHouse's engine", report_rows, notes)


def _run(database: str, url: str) -> _Run:
    with closing(Server(parse(url), 600)) as server:
        server.open()
        bring_up_to_date(server.client)
        with forwarding(database, url, server) as forwarder:
            began = time.perf_counter()
            forwarder.once()
            forward = time.perf_counter() - began
        server.open()
        names = [row[0] for row in server.rows(_COLUMNS)]
        rows = server.rows(
            f"SELECT {', '.join(f'`{name}`' for name in names)} FROM sink_events ORDER BY generation, id"
        )
        server.client.command("CREATE TABLE bare AS sink_events")
        most = ClickHouseSink.batches.most
        began = time.perf_counter()
        for first in range(0, len(rows), most):
            server.client.insert("bare", rows[first : first + most], names)
        return _Run(len(rows), forward, time.perf_counter() - began, peak_bytes())


if __name__ == "__main__":
    print(json.dumps(_run(*sys.argv[1:])))
