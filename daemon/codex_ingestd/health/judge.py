"""Whether a daemon does its work: what it tells of itself, and what that comes to. Pure; the time is handed in.

Times are seconds of the system's monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

SILENT_SECONDS = 6.0  # a daemon tells of itself each 1 to 2 s
STALL_SECONDS = 6.0


class Stall(msgspec.Struct, frozen=True):
    """Something that doesn't go on, in plain words, and since when; it counts once it has lasted so long."""

    what: str
    since: float
    counts_after: float = STALL_SECONDS


class Sink(msgspec.Struct, frozen=True):
    """How forwarding to a sink goes, and since when that is so: see forward.progress."""

    name: str
    state: str
    at: float = 0.0
    events: int = 0
    generations: int = 0
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What a daemon tells of itself: when, what it is doing, how it hears of changes (and why so), what stands still.

    `pid` is 0 where it isn't known.
    """

    pid: int
    at: float
    phase: Literal["starting", "watching", "stopping"] = "starting"
    roots: tuple[str, ...] = ()
    watcher: str = "none"
    reason: str = ""
    rebuilds: int = 0
    stalls: tuple[Stall, ...] = ()
    sinks: tuple[Sink, ...] = ()


class Health(NamedTuple):
    """Why it isn't well, in plain words; no reason when it is."""

    reasons: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether it does all of its work."""
        return not self.reasons

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"healthy": self.is_well, "reasons": list(self.reasons)}


def judge(facts: Facts | None, now: float) -> Health:
    """What the latest facts come to by now; None stands for no daemon."""
    if facts is None:
        return Health(("no daemon serves this database: start `codex-ingestd run`",))
    return Health(tuple(_reasons(facts, now)))


def judge_life(facts: Facts, now: float) -> Health:
    """Whether its loop goes round at all: where it doesn't, only a new start helps."""
    return judge(msgspec.structs.replace(facts, phase="watching", stalls=()), now)


def _reasons(facts: Facts, now: float) -> Iterator[str]:
    silent = now - facts.at
    if silent >= SILENT_SECONDS:
        yield f"the daemon, pid {facts.pid or 'unknown'}, has given no sign of life for {silent:.0f} s"
        return
    if facts.phase != "watching":
        yield f"the daemon is {facts.phase}"
    for stall in facts.stalls:
        lasted = now - stall.since
        if lasted >= stall.counts_after:
            yield f"{stall.what} (for {lasted:.0f} s)"
