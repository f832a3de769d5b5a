"""What the daemon tells systemd, and that SIGHUP takes up its settings anew; here the test is the supervisor."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, wait_for

RECORD = b'{"ts":"2026-01-02T03:04:05Z","role":"user","message":"hello"}\n'


class Supervisor:
    """The socket that NOTIFY_SOCKET names, and what came over it."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._heard: list[str] = []

    def environment(self, **more: str) -> dict[str, str]:
        """For the daemon."""
        return {"NOTIFY_SOCKET": self.address, **more}

    def heard(self) -> list[str]:
        """Each assignment that was sent, in order."""
        while True:
            try:
                self._heard += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self._heard

    def wait_for(self, start: str, count: int = 1) -> None:
        """Until so many assignments have come that start like this."""
        wait_for(lambda: sum(line.startswith(start) for line in self.heard()) >= count, what=f"{count} {start}")

    def forget(self) -> None:
        """What came before counts no more."""
        self.heard()
        self._heard.clear()

    def close(self) -> None:
        """No more is heard."""
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """One that listens."""
    opened = Supervisor(tmp_path)
    yield opened
    opened.close()


def test_ready_comes_after_the_first_look_and_the_end_is_told(
    daemon: Daemon, supervisor: Supervisor, log_dir: Path
) -> None:
    """READY once each file was looked at, with a status in words; STOPPING before the drain; no watchdog, no food."""
    (log_dir / "s.ndjson").write_bytes(RECORD)
    daemon.start(env=supervisor.environment())
    supervisor.wait_for("READY=1")
    supervisor.wait_for("STATUS=watching 1 folders")
    heard = supervisor.heard()
    assert heard[0] == f"STATUS=opening {daemon.database}"
    assert daemon.stop() == 0
    heard = supervisor.heard()
    assert heard.count("READY=1") == 1
    assert heard[-2:] == ["STOPPING=1", "STATUS=taking what is there"]
    assert "WATCHDOG=1" not in heard


def test_the_watchdog_is_fed_while_the_loop_moves(daemon: Daemon, supervisor: Supervisor) -> None:
    """An idle daemon feeds it well within its time; a frozen one not at all."""
    daemon.start(env=supervisor.environment(WATCHDOG_USEC="400000"))
    supervisor.wait_for("WATCHDOG=1", 5)
    daemon.freeze()
    supervisor.forget()
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 0.8)
    assert supervisor.heard() == []
    daemon.send(signal.SIGCONT)
    supervisor.wait_for("WATCHDOG=1")


def test_another_process_watchdog_is_none_of_its_business(daemon: Daemon, supervisor: Supervisor) -> None:
    """With another one's WATCHDOG_PID nothing is fed."""
    daemon.start(env=supervisor.environment(WATCHDOG_USEC="1000", WATCHDOG_PID="1"))
    supervisor.wait_for("STATUS=watching")
    assert daemon.stop() == 0
    assert "WATCHDOG=1" not in supervisor.heard()


def test_sighup_reloads(daemon: Daemon, supervisor: Supervisor, log_dir: Path) -> None:
    """RELOADING with its time, then READY; rows go on coming, each once."""
    daemon.start(env=supervisor.environment())
    (log_dir / "s.ndjson").write_bytes(RECORD)
    daemon.wait_for_rows(1)
    supervisor.forget()
    before = time.monotonic_ns() // 1000
    daemon.send(signal.SIGHUP)
    supervisor.wait_for("READY=1")
    heard = supervisor.heard()
    assert heard[0] == "RELOADING=1"
    name, _, microseconds = heard[1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1000
    assert daemon.told("reloaded")
    with (log_dir / "s.ndjson").open("ab") as log:
        log.write(RECORD)
    assert [row.seq for row in daemon.wait_for_rows(2)] == [1, 2]


def test_a_reload_that_fails_changes_nothing(daemon: Daemon, supervisor: Supervisor, log_dir: Path) -> None:
    """A folder that is none any more: the reload says so, and the daemon goes on as it was."""
    daemon.start(env=supervisor.environment())
    supervisor.wait_for("STATUS=watching")
    supervisor.forget()
    aside = log_dir.rename(log_dir.with_name("aside"))
    log_dir.write_bytes(b"")
    daemon.send(signal.SIGHUP)
    supervisor.wait_for("READY=1")
    [told] = daemon.told("not reloaded", level="error")
    assert "is no folder" in str(told["message"])
    assert told["hint"]
    log_dir.unlink()
    aside.rename(log_dir)
    (log_dir / "s.ndjson").write_bytes(RECORD)
    daemon.wait_for_rows(1)


def test_hooks_do_not_speak_for_the_daemon(daemon: Daemon, supervisor: Supervisor, log_dir: Path) -> None:
    """A hook's program finds none of the supervisor's variables."""
    seen = log_dir.parent / "seen"
    daemon.start("--hook", f"sh -c 'env > {seen}.part; mv {seen}.part {seen}'", env=supervisor.environment())
    (log_dir / "s.ndjson").write_bytes(b'{"type":"session_end","ts":"2026-01-02T03:04:05Z","session_id":"s"}\n')
    wait_for(seen.exists)
    names = {line.partition("=")[0] for line in seen.read_text("utf-8", "replace").splitlines()}
    assert "PATH" in names
    assert not any(name.startswith(("NOTIFY_", "WATCHDOG_")) for name in names)
