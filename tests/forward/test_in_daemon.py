"""A daemon forwards by itself what it ingests: in processes of its own, which nothing that happens to them stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import shell
from tests.daemon import Daemon, wait_for
from tests.postgres import Server, rows, running

_PASSWORD = "s3cret-p%40ss"
_COUNT = "SELECT count(*) FROM codex_sink.events"


@pytest.fixture
def url(sink: str) -> str:
    """The database's URL, with a password that the server doesn't ask for."""
    return sink.replace("postgres@", f"postgres:{_PASSWORD}@")


@pytest.fixture
def forwarding(daemon: Daemon, url: str) -> Iterator[Daemon]:
    """A daemon that forwards to it."""
    daemon.start("--metrics", ":0", env={"CODEX_FORWARD_TO": url, "CODEX_FORWARD_TIMEOUT": "3"})
    yield daemon
    if daemon.process is not None:
        assert daemon.stop() == 0


def _append(daemon: Daemon, text: str) -> None:
    with (daemon.log_dir / "s.ndjson").open("a") as file:
        file.write(json.dumps({"message": text}) + "\n")


def _children(daemon: Daemon) -> list[int]:
    assert daemon.process is not None
    told = subprocess.run(["pgrep", "-P", str(daemon.process.pid)], capture_output=True, text=True).stdout
    return [int(line) for line in told.split()]


def _wait_for_count(sink: str, count: int) -> None:
    wait_for(lambda: rows(sink, _COUNT) == [(count,)], 30, f"{count} events at the sink")


def _sink(daemon: Daemon) -> dict[str, Any]:
    (found,) = daemon.status()["sinks"]
    return dict(found)


def test_what_it_ingests_is_forwarded(forwarding: Daemon, sink: str) -> None:
    """`status` tells how far the sink is, with the daemon and without it."""
    for count in range(1, 4):
        _append(forwarding, f"{count}")
        _wait_for_count(sink, count)
    wait_for(lambda: _sink(forwarding)["state"] == "live", what="word of it")
    assert _sink(forwarding)["name"] == sink.replace("postgres@", "")
    assert (_sink(forwarding)["events"], _sink(forwarding)["bytes"]) == (3, 0)
    assert forwarding.stop() == 0
    assert (_sink(forwarding)["state"], _sink(forwarding)["bytes"]) == ("noted", 0)


def test_a_password_shows_nowhere(forwarding: Daemon, sink: str) -> None:
    """Neither on a command line, nor in the log, in `status`, in the database or in the metrics."""
    _append(forwarding, "x")
    _wait_for_count(sink, 1)
    (child,) = _children(forwarding)
    said = Path(f"/proc/{child}/cmdline").read_bytes() + forwarding.log.read_bytes()
    said += b"".join(path.read_bytes() for path in forwarding.database.parent.glob("session_logs.db*"))
    said += json.dumps(forwarding.status()).encode() + _metrics(forwarding).encode()
    for secret in (_PASSWORD, "s3cret"):
        assert secret.encode() not in said


def test_a_forwarder_that_dies_is_started_again(forwarding: Daemon, sink: str) -> None:
    """And ingestion never noticed."""
    _append(forwarding, "1")
    _wait_for_count(sink, 1)
    (child,) = _children(forwarding)
    os.kill(child, signal.SIGKILL)
    _append(forwarding, "2")
    _wait_for_count(sink, 2)
    assert _children(forwarding) != [child]


def test_no_forwarder_outlives_its_daemon(forwarding: Daemon, sink: str) -> None:
    """However that one died."""
    _append(forwarding, "1")
    _wait_for_count(sink, 1)
    (child,) = _children(forwarding)
    forwarding.kill()
    wait_for(lambda: not _lives(child), what="the forwarder to end")


def _lives(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _metrics(daemon: Daemon) -> str:
    (told,) = daemon.told("metrics", logger="codex_ingestd.health.endpoint")
    with urllib.request.urlopen(f"http://{told['address']}/metrics") as answer:
        return str(answer.read().decode())


def test_metrics_tell_of_each_sink(forwarding: Daemon, sink: str) -> None:
    """Events, and how far it is behind."""
    _append(forwarding, "1")
    _wait_for_count(sink, 1)
    label = f'{{sink="{sink.replace("postgres@", "")}"}}'
    wait_for(lambda: f"codex_ingestd_forward_events_total{label} 1.0" in _metrics(forwarding), what="the count")
    wait_for(lambda: f"codex_ingestd_forward_lag_bytes{label} 0.0" in _metrics(forwarding), what="no lag")
    wait_for(lambda: f"codex_ingestd_forward_up{label} 1.0" in _metrics(forwarding), what="word of it")


def test_a_sink_that_is_away_is_told_of(daemon: Daemon, server: Server, tmp_path: Path) -> None:
    """With what is wrong, and how much there is to send; ingestion goes on."""
    file = tmp_path / "own.toml"
    file.write_text('forward-to = "postgresql://127.0.0.1:1/nowhere"\n')
    daemon.start("--config", str(file))
    _append(daemon, "1")
    daemon.wait_for_rows(1)
    wait_for(lambda: "refused" in _sink(daemon)["error"] and _sink(daemon)["bytes"], what="word of it")
    assert daemon.stop() == 0


def test_an_outage_is_told_of_with_what_waits(daemon: Daemon) -> None:
    """What came meanwhile is lag, also what was under way; the log says when it goes on."""
    with running() as server:
        url = server.create()
        daemon.start(env={"CODEX_FORWARD_TO": url})
        _append(daemon, "1")
        wait_for(lambda: _sink(daemon)["events"] == 1, 30, what="the first one at the sink")
        server.kill()
        _append(daemon, "2")
        wait_for(lambda: _sink(daemon)["state"] == "waiting" and _sink(daemon)["bytes"], what="what waits")
        shown = shell(f"codex-ingestd status --db '{daemon.database}'", daemon.log_dir).stdout
        assert re.search(r"^forward .*: (waiting|connecting), lag \d+ bytes in 1 generation", shown, re.MULTILINE)
        server.start()
        _wait_for_count(url, 2)
        wait_for(lambda: b"forwarding again" in daemon.log.read_bytes(), what="word of it")
        assert daemon.stop() == 0
    shown = shell(f"codex-ingestd status --db '{daemon.database}'", daemon.log_dir).stdout
    assert "no daemon forwards to it now, lag 0 bytes when last noted" in shown
