"""A real daemon process, and a way to wait for conditions instead of sleeping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from codex.logging.rows import Row, Selection, read_rows
from codex.logging.store.connection import open_reader


class Daemon:
    """`codex-ingestd run` as a process of its own; what it says is in `log`."""

    def __init__(self, log_dir: Path, database: Path) -> None:
        self.log_dir = log_dir
        self.database = database
        self.log = database.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, under: Sequence[str] = (), ready: bool = True
    ) -> None:
        """Start it, and wait until it watches; `under` is a command that runs it, as setpriv does."""
        command = [*under, sys.executable, "-m", "codex_ingestd.cli", "run", "--watch", str(self.log_dir)]
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--db", str(self.database), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
            )
        if ready:
            wait_for(lambda: b'"message": "watching"' in self.log.read_bytes()[offset:], what="the daemon to watch")

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP, and wait until every thread of it stands still: the signal alone takes effect some time later."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def stop(self, seconds: float = 20, number: int = signal.SIGTERM) -> int:
        """SIGTERM, or another signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self.process = None
        return code

    def told(self, text: str, **facts: object) -> list[dict[str, object]]:
        """The lines of its log, all starts together, whose message holds the text and that have these facts."""
        records: list[dict[str, object]] = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        return [record for record in records if text in str(record["message"]) and facts.items() <= record.items()]

    def status(self) -> dict[str, Any]:
        """What `codex-ingestd status --json` prints."""
        command = [sys.executable, "-m", "codex_ingestd.cli", "status", "--json", "--watch", str(self.log_dir)]
        result = subprocess.run([*command, "--db", str(self.database)], capture_output=True, timeout=60)
        status = dict(json.loads(result.stdout))
        assert result.returncode == int(not status["health"]["healthy"]), result
        return status

    def reasons(self) -> str:
        """Why it isn't well, by `status`, whose exit code says the same; empty when it is."""
        return "; ".join(self.status()["health"]["reasons"])

    def wait_until_ill(self, reason: str) -> None:
        """Until `status` gives a reason that holds this text."""
        wait_for(lambda: reason in self.reasons(), 60, f"word of: {reason}")

    def wait_until_well(self) -> None:
        """Until `status` has nothing to tell."""
        wait_for(lambda: not self.reasons(), 60, "the daemon to be well")

    def rows(self, session_id: str | None = None) -> list[Row]:
        """The committed rows, as the product's reader gives them."""
        if not self.database.exists():
            return []
        return list(read_rows(str(self.database), Selection(session_id)))

    def scalar(self, query: str, *values: object) -> object:
        """One value by SQL."""
        with closing(open_reader(str(self.database))) as connection:
            row = connection.execute(query, values).fetchone()
        return row[0] if row else None

    def wait_for_rows(self, count: int, session_id: str | None = None, seconds: float = 20) -> list[Row]:
        """The rows, once there are that many."""
        wait_for(lambda: len(self.rows(session_id)) >= count, seconds, f"{count} rows")
        return self.rows(session_id)


def wait_for(condition: Callable[[], object], seconds: float = 20, what: str = "the condition") -> None:
    """Return once the condition holds; fail when it doesn't within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
