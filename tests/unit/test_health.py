"""What the facts come to."""

from __future__ import annotations

import pytest

from codex_ingestd.health.judge import SILENT_SECONDS, STALL_SECONDS, Facts, Stall, judge

WELL = Facts(42, 100.0, "watching")


@pytest.mark.parametrize(
    ("facts", "now", "reasons"),
    [
        (None, 0.0, ["no daemon serves this database: start `codex-ingestd run`"]),
        (WELL, 100.0, []),
        (WELL, 99.0 + SILENT_SECONDS, []),
        (WELL, 101.0 + SILENT_SECONDS, ["the daemon, pid 42, has given no sign of life for 7 s"]),
        (Facts(0, 100.0), 120.0, ["the daemon, pid unknown, has given no sign of life for 20 s"]),
        (Facts(42, 100.0), 100.0, ["the daemon is starting"]),
        (Facts(42, 100.0, "stopping"), 100.0, ["the daemon is stopping"]),
    ],
)
def test_what_the_facts_come_to(facts: Facts | None, now: float, reasons: list[str]) -> None:
    """No daemon, one that is silent, one that starts or stops: not well, and why."""
    health = judge(facts, now)
    assert health.as_dict() == {"healthy": not reasons, "reasons": reasons}


@pytest.mark.parametrize(
    ("stall", "reasons"),
    [
        (Stall("it stands", 100.0 - STALL_SECONDS), [f"it stands (for {STALL_SECONDS:.0f} s)"]),
        (Stall("it stands", 101.0 - STALL_SECONDS), []),
        (Stall("it stands", 99.0, counts_after=0.0), ["it stands (for 1 s)"]),
    ],
)
def test_a_stall_counts_once_it_has_lasted(stall: Stall, reasons: list[str]) -> None:
    """What stands still for a moment is none; the reader's clock decides, not the daemon's last word."""
    facts = Facts(42, 100.0, "watching", stalls=(stall,))
    assert list(judge(facts, 100.0).reasons) == reasons
    assert judge(facts, 100.0 + SILENT_SECONDS - 1).reasons == (
        f"it stands (for {99.0 + SILENT_SECONDS - stall.since:.0f} s)",
    )
