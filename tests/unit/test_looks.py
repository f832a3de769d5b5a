"""What an earlier look at a file spares."""

from __future__ import annotations

import pytest

from codex.logging.ingest.looks import Looks
from codex.logging.ingest.sources import Facts, Location

FACTS = Facts(Location("/logs", "s.ndjson", 0), (1, 2), 10, 5 * 10**9, 5 * 10**9, 10)


@pytest.mark.parametrize(("seconds", "settled"), [(5.001, False), (5.1, True), (3600.0, True)])
def test_a_look_within_the_grain_of_the_time_stamp_spares_nothing(seconds: float, settled: bool) -> None:
    """Another change of the same size may bear the same stamp: the file is looked at once more."""
    looks = Looks(monotonic=lambda: 0.0, wall=lambda: seconds)
    looks.settle(FACTS)
    assert looks.is_settled(FACTS) is settled
