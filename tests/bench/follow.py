"""How far behind the daemon's commit `codex-logs tail -f` is, and what waiting costs it. Linux only: it reads /proc."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from codex.logging import append_ndjson
from codex.logging.store.connection import open_reader, scalar
from tests.bench.figures import Report, load, spread
from tests.bench.idle import processor_seconds
from tests.daemon import Daemon, wait_for

_COMMITTED = "SELECT committed_at FROM generations WHERE id = ?"
_PAUSES = (0.005, 0.02, 0.05, 0.3, 3.0)  # it looks less often when nothing has come for a while
_REST_SECONDS = 3.0


def measure(folder: Path, *, events: int, seconds: float) -> Report:
    """Append one event after the other to a few sessions, each once the one before it was shown; then wait in quiet."""
    before = load()
    sessions = folder / "sessions"
    sessions.mkdir()
    daemon = Daemon(sessions, folder / "session_logs.db")
    chosen = random.Random(0)
    try:
        daemon.start()
        append_ndjson(sessions / "s-0.ndjson", {"message": "the first"})
        wait_for(daemon.rows, what="the first row")
        command = [
            str(Path(sys.executable).with_name("codex-logs")),
            "tail",
            "-f",
            "--json",
            "--db",
            str(daemon.database),
        ]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail,
            closing(open_reader(str(daemon.database))) as reader,
        ):
            assert tail.stdout is not None
            tail.stdout.readline()
            from_commit, from_append = [], []
            for number in range(events):
                time.sleep(chosen.choices(_PAUSES, (40, 30, 20, 9, 1))[0])
                began = time.time()
                append_ndjson(sessions / f"s-{number % 5}.ndjson", {"message": str(number)})
                event = json.loads(tail.stdout.readline())
                shown = time.time()
                assert event["message"] == str(number)
                from_commit.append(shown - scalar(reader, _COMMITTED, (event["generation"],)))
                from_append.append(shown - began)
            time.sleep(_REST_SECONDS)
            process = Path(f"/proc/{tail.pid}")
            used = processor_seconds(process)
            time.sleep(seconds)
            share = (processor_seconds(process) - used) / seconds * 100
            tail.terminate()
    finally:
        daemon.kill()
    rows: list[dict[str, object]] = []
    for name, sample in (("commit", from_commit), ("append", from_append)):
        figures = {f"{quantile} ms": value * 1000 for quantile, value in spread(sample)._asdict().items()}
        rows.append({"from": name, **figures, "% of a core in quiet": share})
    return Report("follow", rows, [f"{events} events; quiet for {seconds:g} s", f"before: {before}; after: {load()}"])
