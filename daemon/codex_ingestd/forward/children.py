"""The daemon's forwarders: a process for each sink, so that none takes the loop's time; started again when it dies.

A child ends when its standard input does, whoever kills the daemon. What it is at it tells on its standard output.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import NamedTuple

from codex.logging.address import Address
from codex_ingestd.forward.pace import BackOff
from codex_ingestd.forward.progress import Progress
from codex_ingestd.health.judge import Sink, Stall

_STOP_SECONDS = 10.0
_OUTAGE_SECONDS = 60.0  # a server that is started anew is no illness here
_SOUND_SECONDS = 60.0

log = logging.getLogger(__name__)


class Forwarding(NamedTuple):
    """What a daemon forwards, and how: MiB a second, 0 for no limit; seconds."""

    sinks: tuple[Address, ...] = ()
    rate: float = 0.0
    host_id: str = ""
    timeout: float = 60.0
    allow_secrets: bool = False


class Forwarders(AbstractContextManager["Forwarders"]):
    """The forwarders of one database, running within its context."""

    def __init__(self, database: str, forwarding: Forwarding) -> None:
        self._children = [_Child(database, address, forwarding) for address in forwarding.sinks]

    def __enter__(self) -> Forwarders:
        for child in self._children:
            child.start()
        return self

    def sinks(self) -> tuple[Sink, ...]:
        """How far each sink is."""
        return tuple(child.sink for child in self._children)

    def stalls(self) -> list[Stall]:
        """What keeps sinks from taking anything."""
        return [stall for child in self._children if (stall := child.stall) is not None]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self._children:
            child.join(max(0.0, deadline - time.monotonic()))


class _Child:
    """One sink's process, and the thread that listens to it."""

    def __init__(self, database: str, address: Address, forwarding: Forwarding) -> None:
        self._address = address
        self._command = [
            sys.executable,
            "-m",
            "codex_ingestd.forward.command",
            "--config",
            os.devnull,
            "--attended",
            "--json",
            f"--db={database}",
            f"--forward-rate={forwarding.rate}",
            f"--forward-timeout={forwarding.timeout}",
            "--allow-secrets" if forwarding.allow_secrets else "--no-allow-secrets",
            *([f"--forward-host-id={forwarding.host_id}"] if forwarding.host_id else []),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._back_off = BackOff()
        self._since: float | None = None
        self.sink = Sink(address.name, "starting")
        self._thread = threading.Thread(target=self._run, name=f"forward {address.name}", daemon=True)

    @property
    def stall(self) -> Stall | None:
        """What keeps it from going on; from any thread."""
        since, sink = self._since, self.sink
        if since is None:
            return None
        return Stall(f"nothing is forwarded to {sink.name}: {sink.error or sink.state}", since, _OUTAGE_SECONDS)

    def start(self) -> None:
        """Begin; a child that can't be started is tried again."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the batch that is under way."""
        self._stopping.set()
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def join(self, seconds: float) -> None:
        """Wait for it, so long; then it is killed: the sink's own watermark tells what was done."""
        self._thread.join(seconds)
        process = self._process
        if self._thread.is_alive() and process is not None:
            process.kill()
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._attend()
            except OSError as error:
                self._tell(Progress(self._address.name, "dead", 0, 0, 0, 0.0, str(error)))
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _SOUND_SECONDS:
                self._back_off.reset()
            self._stopping.wait(self._back_off.next())

    def _attend(self) -> None:
        """One process's life. The URL goes by the environment: anybody can read a command line."""
        environment = {**os.environ, "CODEX_FORWARD_TO": self._address.url}
        with subprocess.Popen(  # noqa: S603
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process:
            self._process = process
            if self._stopping.is_set():
                self.stop()
            assert process.stdout is not None
            for line in process.stdout:
                with suppress(ValueError, TypeError):
                    self._tell(Progress(**json.loads(line)))
        if not self._stopping.is_set():
            error = self.sink.error or f"its process ended with {process.returncode}"
            log.warning("a forwarder ended: %s", error, extra={"sink": self._address.name, "code": process.returncode})
            self._tell(Progress(self._address.name, "dead", 0, 0, 0, 0.0, error))

    def _tell(self, progress: Progress) -> None:
        told = progress._asdict()
        self.sink = Sink(name=told.pop("sink"), at=time.monotonic(), **told)
        if not progress.error and progress.state in {"live", "catching up"}:
            self._since = None
        elif progress.error and self._since is None:
            self._since = time.monotonic()
