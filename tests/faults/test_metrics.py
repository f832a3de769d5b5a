"""The metrics: sound text, and each one moved by what it is there to tell of."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from codex.logging.ingest.sources import Location
from codex.logging.store.sqlite import Store
from codex_ingestd.health.endpoint import expose
from codex_ingestd.health.meter import Meter
from codex_ingestd.health.metrics import registry, resident_bytes
from codex_ingestd.housekeeping import Housekeeping
from codex_ingestd.intake import Intake
from codex_ingestd.service import Plan, Service
from codex_ingestd.settings.address import Address
from codex_ingestd.watch.lag import Behind, Lag, Lags
from tests.commands import ROOT
from tests.daemon import Daemon, wait_for
from tests.faults.conftest import Hold, Sessions
from tests.faults.test_limits import limited
from tests.importer import Importer

OURS = re.compile(r"\b(?:codex_ingestd|process)_[a-z_]+\b")


class Exposed:
    """A daemon that shows its metrics on a free port."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def start(self, *arguments: str, under: list[str] | None = None) -> None:
        self.daemon.start("--metrics", ":0", *arguments, under=under or [])
        [told] = self.daemon.told("metrics", logger="codex_ingestd.health.endpoint")
        self.url = f"http://{told['address']}"

    def text(self, accept: str = "text/plain") -> str:
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels."""
        return _value(self.text(), name, labels)

    def reaches(self, at_least: float, name: str, **labels: str) -> None:
        """Wait until the value is that large."""
        wait_for(lambda: self.value(name, **labels) >= at_least, what=f"{name}{labels} to reach {at_least}")

    def falls(self, name: str, **labels: str) -> None:
        """Wait until the value is 0."""
        wait_for(lambda: self.value(name, **labels) == 0, what=f"{name}{labels} to fall")


@pytest.fixture
def exposed(daemon: Daemon) -> Exposed:
    """`daemon`, to be started by the test."""
    return Exposed(daemon)


def _value(text: str, name: str, labels: Mapping[str, str]) -> float:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def shown(database: Path) -> CollectorRegistry:
    """What a service that doesn't run yet would show of a database."""
    return registry(Service(str(database), Plan(())), Meter(), str(database))


def answer(url: str) -> tuple[int, dict[str, object]]:
    """Status and JSON of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_what_arrives_is_counted(exposed: Exposed, sessions: Sessions) -> None:
    """Lines, bytes, rows, rejects, commits and their time, the log's size; the text is sound, in OpenMetrics too."""
    exposed.start()
    before = exposed.value("codex_ingestd_log_bytes")
    path = sessions.append("s", *range(5))
    sessions.arrive()
    exposed.reaches(5, "codex_ingestd_lines_total")
    assert exposed.value("codex_ingestd_bytes_total") == path.stat().st_size
    assert exposed.value("codex_ingestd_rows_total") == 5
    assert exposed.value("codex_ingestd_generations", how="live") == 1
    commits = exposed.value("codex_ingestd_commits_total")
    assert commits >= 1
    assert exposed.value("codex_ingestd_commit_seconds_sum") > 0
    assert exposed.value("codex_ingestd_log_bytes") > before
    assert exposed.value("codex_ingestd_rejects_total") == 0
    with path.open("ab") as log:
        log.write(b"no record\n")
    exposed.reaches(1, "codex_ingestd_rejects_total")
    exposed.reaches(commits + 1, "codex_ingestd_commit_seconds_count")
    assert exposed.value("codex_ingestd_commit_seconds_bucket", le="+Inf") >= commits + 1
    for family in open_metrics(exposed.text("application/openmetrics-text; version=1.0.0")):
        assert family.documentation
        assert family.type != "unknown"


def test_memory_is_told(exposed: Exposed, sessions: Sessions) -> None:
    """What is resident now, and the most that ever was, which a long line moves; and the database's size."""
    exposed.start()
    assert exposed.value("codex_ingestd_resident_memory_bytes") > 1 << 20
    before = exposed.value("codex_ingestd_peak_memory_bytes")
    sessions.append("s", "x" * (24 << 20))
    sessions.arrive()
    assert exposed.value("codex_ingestd_peak_memory_bytes") > before + (12 << 20)
    exposed.reaches(1 << 20, "codex_ingestd_database_bytes")


@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps here")
def test_memory_is_told_without_proc(tmp_path: Path) -> None:
    """As on macOS: nearly the same number, by another way."""
    assert resident_bytes(str(tmp_path)) == pytest.approx(resident_bytes(), rel=0.2)


def test_lag_is_told_while_a_lock_is_held(exposed: Exposed, sessions: Sessions, hold: Hold) -> None:
    """In bytes, seconds and files, for its root alone; the daemon is unwell meanwhile; and all is well after."""
    path = sessions.append("s")
    holder = hold(path)
    old = time.time() - 1000
    sessions.append("s", "waits")
    os.utime(path, (old, old))
    exposed.start()
    root = str(sessions.log_dir)
    wait_for(lambda: exposed.value("codex_ingestd_lag_bytes", root=root) == path.stat().st_size, what="the lag")
    assert exposed.value("codex_ingestd_lag_seconds", root=root) >= 1000
    assert exposed.value("codex_ingestd_queue_length") == 1
    wait_for(lambda: answer(f"{exposed.url}/readyz")[0] == 503, what="the daemon to be unwell")
    assert exposed.value("codex_ingestd_healthy") == 0
    assert "can't read" in str(answer(f"{exposed.url}/readyz")[1]["reasons"])
    assert answer(f"{exposed.url}/healthz") == (200, {"healthy": True, "reasons": []})
    holder.kill()
    sessions.arrive()
    for name in ("codex_ingestd_lag_bytes", "codex_ingestd_lag_seconds", "codex_ingestd_queue_length"):
        exposed.falls(name)
    exposed.reaches(1, "codex_ingestd_healthy")
    assert answer(f"{exposed.url}/readyz")[0] == 200


def test_a_folder_that_is_made_anew_counts_as_a_rebuild(exposed: Exposed, sessions: Sessions) -> None:
    """Its watcher had gone silent."""
    exposed.start()
    sessions.log_dir.rename(sessions.log_dir.with_name("aside"))
    sessions.log_dir.mkdir()
    exposed.reaches(1, "codex_ingestd_watcher_rebuilds_total")


def test_polling_is_told(exposed: Exposed) -> None:
    """Where the kernel gives no watch."""
    exposed.start(under=limited(max_inotify_watches=0))
    exposed.reaches(1, "codex_ingestd_polling")


def test_hook_runs_are_counted(exposed: Exposed, log_dir: Path) -> None:
    """By hook and state; a command's arguments, which may be secret, are no label."""
    exposed.start("--hook", "true --token=secret", "--hook", "false")
    (log_dir / "s.ndjson").write_text('{"type":"session_end"}\n')
    exposed.reaches(1, "codex_ingestd_hook_runs", hook="true", state="done")
    exposed.reaches(1, "codex_ingestd_hook_runs", hook="false", state="due")
    exposed.reaches(2, "codex_ingestd_hook_tries", hook="false")
    assert "secret" not in exposed.text()


def test_each_end_of_a_life_is_counted(exposed: Exposed, sessions: Sessions) -> None:
    """Rotated, truncated, cut shorter, deleted."""
    exposed.start()
    for name in ("rotated", "truncated", "rewritten", "deleted"):
        sessions.append(name, "one", "two", "three")
    sessions.arrive()
    folder = sessions.log_dir
    (folder / "rotated.ndjson").rename(folder / "rotated.ndjson.1")
    sessions.append("rotated", "four")
    os.truncate(folder / "truncated.ndjson", 0)
    sessions.append("truncated", "other")
    os.truncate(folder / "rewritten.ndjson", len(b'{"message": "one"}\n'))
    (folder / "deleted.ndjson").unlink()
    for how in ("rotated", "truncated", "rewritten", "deleted"):
        exposed.reaches(1, "codex_ingestd_generations", how=how)


def test_findings_are_told(log_dir: Path, database: Path) -> None:
    """What the slow verify found, from where it keeps it."""
    importer, now = Importer(log_dir, database), [0.0]
    (log_dir / "s.ndjson").write_bytes(b'{"message":"one"}\n' * 3)
    importer.take()
    assert _value(generate_latest(shown(database)).decode(), "codex_ingestd_verify_findings", {}) == 0
    with (log_dir / "s.ndjson").open("r+b") as log:
        log.write(b'{"message":"two"}\n')
    housekeeping = Housekeeping(importer.store, lambda: now[0])
    while now[0] < 60:
        now[0] += max(housekeeping.wait(now[0]), 0.01)
        housekeeping.step()
    importer.close()
    assert _value(generate_latest(shown(database)).decode(), "codex_ingestd_verify_findings", {}) == 1


def test_a_loop_that_hangs_is_told(database: Path) -> None:
    """Its last word is old: /healthz says so, that the daemon be started anew; silent_seconds too."""
    service = Service(str(database), Plan(()), clock=lambda: time.monotonic() - 100)
    with expose(Address("127.0.0.1", 0), service, str(database)) as port:
        for path in ("healthz", "readyz"):
            status, told = answer(f"http://127.0.0.1:{port}/{path}")
            assert (status, told["healthy"]) == (503, False)
            assert "no sign of life for 1" in str(told["reasons"])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            text = response.read().decode()
    assert _value(text, "codex_ingestd_silent_seconds", {}) >= 100
    assert "codex_ingestd_lines_total" not in text


def test_the_file_at_work_is_in_line_until_the_next_turn(log_dir: Path, store: Store) -> None:
    """A long one is hardly ever just waiting, and must not look as if all of it were taken."""
    (log_dir / "s.ndjson").write_bytes(b'{"message":"one"}\n')
    intake, place = Intake(store, time.monotonic), Location(str(log_dir), "s.ndjson", 0)
    intake.mark(place, 0.0)
    assert intake.line() == [place]
    assert intake.turn().events == 1
    assert intake.line() == [place]
    intake.turn()
    assert intake.line() == []


def test_what_was_seen_waiting_ages_until_it_is_taken() -> None:
    """Whatever is appended meanwhile; what came after it is younger. Times are seconds."""
    lags, file = Lags(), Behind("r", size=10, offset=0, modified=100.0)

    def of(now: float, **changed: float) -> Lag:
        return lags.of(["r", "other"], {(1, 1): file._replace(**changed)}, now)["r"]

    assert of(101.0) == Lag(10, 1.0)
    assert of(200.0, size=15, modified=199.0) == Lag(15, 100.0)
    assert of(201.0, size=15, modified=199.0, offset=9) == Lag(6, 101.0)
    assert of(202.0, size=15, modified=199.0, offset=10) == Lag(5, 3.0)
    assert of(203.0, size=5, modified=203.0) == Lag(5, 0.0)
    assert of(204.0, size=5, modified=900.0) == Lag(5, 1.0)
    assert lags.of(["r", "other"], {}, 205.0) == {"r": Lag(), "other": Lag()}


def test_without_metrics_nobody_listens(daemon: Daemon, sessions: Sessions) -> None:
    """No port, no thread, and the client's library isn't even loaded."""
    daemon.start()
    sessions.append("s", "one")
    sessions.arrive()
    assert daemon.process is not None
    maps = Path(f"/proc/{daemon.process.pid}/net/tcp")
    if not maps.exists():
        pytest.skip("no /proc here")
    inodes = {line.split()[9] for line in maps.read_text().splitlines()[1:] if line.split()[3] == "0A"}
    descriptors = Path(f"/proc/{daemon.process.pid}/fd").iterdir()
    assert not inodes & {os.readlink(descriptor)[8:-1] for descriptor in descriptors}


def test_a_port_that_is_taken_is_a_clear_error(daemon: Daemon) -> None:
    """Nothing is begun, and what to do is said."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.start("--metrics", f":{taken.getsockname()[1]}", ready=False)
        assert daemon.process is not None
        assert daemon.process.wait(20) == 2
    text = daemon.log.read_text()
    assert "Address already in use" in text
    assert "hint: Choose another port" in text


def test_dashboard_and_alerts_name_what_there_is(exposed: Exposed, log_dir: Path) -> None:
    """Each metric in them is one that the daemon shows; the dashboard is JSON."""
    exposed.start("--hook", "true")
    (log_dir / "s.ndjson").write_text('{"type":"session_end"}\n')
    exposed.reaches(1, "codex_ingestd_hook_runs")
    there = {sample.name for family in text_string_to_metric_families(exposed.text()) for sample in family.samples}
    dashboard = json.loads((ROOT / "systemd" / "grafana-dashboard.json").read_text(encoding="utf-8"))
    exprs = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = (ROOT / "systemd" / "prometheus-alerts.yml").read_text(encoding="utf-8")
    for text in ("\n".join(exprs), alerts):
        named = set(OURS.findall(text))
        assert len(named) > 5
        assert named <= there
