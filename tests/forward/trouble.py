"""Many hosts forward into one server, while everything between them fails; at the end each event is there, once."""

from __future__ import annotations

import hashlib
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.forward.proxy import Proxy
from tests.forward.records import Recorded
from tests.postgres import rows

_FAULTS = ("swallow", "reset", "half_close", "stall")
_TIMEOUT = ("--forward-timeout", "3")


class Server(Protocol):
    """What many hosts forward into, on a port of this machine."""

    @property
    def port(self) -> int:
        """Where it answers, also when it was killed and started again."""

    def create(self) -> str:
        """A new, empty database: its URL."""

    def start(self) -> None:
        """Start it, and wait until it answers."""

    def kill(self) -> None:
        """SIGKILL."""


class Look(NamedTuple):
    """What an engine has at a URL: a host's events in their order; how many rows are there once too often."""

    shared: Callable[[Recorded, str], list[tuple[Any, ...]]]
    doubled: Callable[[str], int]


class Work(NamedTuple):
    """How much: events in all; kills of the server and of forwarders; cuts of the network."""

    hosts: int
    events: int
    server_kills: int
    forwarder_kills: int
    cuts: int


class Outcome(NamedTuple):
    """What came of it. Checksums are of all rows in order, by host."""

    seconds: float
    here: list[tuple[int, str]]
    there: list[tuple[int, str]]
    doubled: int


class _Fleet:
    """The hosts with their forwarders, which are started again as often as they die."""

    def __init__(self, folder: Path, work: Work, url: str) -> None:
        self.hosts = [Recorded(folder / f"host-{number}") for number in range(work.hosts)]
        self._url = url
        self._processes: list[subprocess.Popen[bytes]] = []
        self._left = [work.events // work.hosts] * work.hosts

    def write(self, number: int, count: int) -> None:
        """Some more lines of that host, in one of its sessions; each host has sessions of the same names."""
        count = min(count, self._left[number])
        if count:
            left = self._left[number]
            self.hosts[number].write(f"session-{left % 3}", left, count, f"of host {number} " + "and words " * 20)
            self._left[number] -= count

    def start(self) -> None:
        """A forwarder for each host."""
        self._processes = [host.start(self._url, *_TIMEOUT) for host in self.hosts]

    def kill(self, number: int) -> None:
        """SIGKILL for one, and a new one."""
        process = self._processes[number]
        process.kill()
        process.wait()
        self._processes[number] = self.hosts[number].start(self._url, *_TIMEOUT)

    def stop(self) -> None:
        """All of them, as they were asked to."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


def _doubled(url: str) -> int:
    query = 'SELECT count(*) - count(DISTINCT (host_id, generation, "offset", part)) FROM codex_sink.events'
    return int(rows(url, query)[0][0])


POSTGRESQL = Look(Recorded.shared_rows, _doubled)


def play(
    folder: Path, server: Server, work: Work, seed: int, tell: Callable[[str], None], look: Look = POSTGRESQL
) -> Outcome:
    """Let the work happen; which fault comes when follows from the seed, where in a transaction it hits, doesn't."""
    chance = random.Random(seed)
    direct = server.create()
    faults = ["server"] * work.server_kills + ["forwarder"] * work.forwarder_kills
    faults += [_FAULTS[number % len(_FAULTS)] for number in range(work.cuts)]
    chance.shuffle(faults)
    began = time.monotonic()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(server.port))
        fleet = _Fleet(folder, work, direct.replace(str(server.port), str(proxy.port)))
        share = work.events // work.hosts // 2
        for number in range(work.hosts):
            fleet.write(number, share)
        tell(f"{work.hosts} hosts have {share} events each")
        assert fleet.hosts[0].forward(direct, "--check").returncode == 0
        stack.callback(fleet.stop)
        fleet.start()
        for turn, fault in enumerate(faults):
            time.sleep(chance.uniform(0.05, 0.6))
            _fail(fault, server, proxy, fleet, chance.randrange(work.hosts))
            fleet.write(turn % work.hosts, -(-share * work.hosts // len(faults)) + 1)
            if turn % 10 == 9:
                tell(f"{turn + 1} of {len(faults)} faults")
        for number in range(work.hosts):
            fleet.write(number, work.events)
        fleet.stop()
        for host in fleet.hosts:
            result = host.forward(direct)
            assert result.returncode == 0, result.stderr
        tell("all is sent")
        return _outcome(look, fleet.hosts, direct, time.monotonic() - began)


def _fail(fault: str, server: Server, proxy: Proxy, fleet: _Fleet, number: int) -> None:
    if fault == "server":
        server.kill()
        server.start()
    elif fault == "forwarder":
        fleet.kill(number)
    elif fault == "stall":
        proxy.stall()
        time.sleep(1.0)
        proxy.resume()
    else:
        proxy.fail(fault)


def _outcome(look: Look, hosts: list[Recorded], url: str, seconds: float) -> Outcome:
    here = [_checksum(host.rows()) for host in hosts]
    there = [_checksum(look.shared(host, url)) for host in hosts]
    return Outcome(seconds, here, there, look.doubled(url))


def _checksum(found: list[tuple[object, ...]]) -> tuple[int, str]:
    digest = hashlib.blake2b(digest_size=16)
    for row in found:
        digest.update(repr(row).encode())
    return len(found), digest.hexdigest()
