"""The soak in small: it runs, loses nothing, and tells a run that grows from one that doesn't."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.soak import RULES, Sample, rising

CALM = Sample(0, memory=35, descriptors=14, threads=5, database=1, log=4 << 20, ingested=1, lag=0, killed_lag=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twenty_seconds_lose_and_double_nothing(tmp_path: Path) -> None:
    """Under rotation, compression, moves, churn and kills, both databases hold exactly what was written."""
    output = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.faults.soak", "--minutes", "0.33", "--dir", str(tmp_path)]
    done = subprocess.run([*command, "--json", str(output)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(output.read_text())
    assert [(row["lost"], row["doubled"], row["wrong"]) for row in answer["rows"]] == [(0, 0, 0)] * 2
    assert answer["samples"][-1]["ingested"] > 10_000


def samples(name: str, rate: float) -> list[Sample]:
    """Half an hour in which one figure rises by so much a minute, and all of them are noisy."""
    found = []
    for second in range(0, 1800, 2):
        ingested = 6000 * (second + 1)
        calm = CALM._replace(at=second, ingested=ingested, database=400_000 + 2 * ingested)
        calm = calm._replace(memory=35 + math.sin(second), threads=2 if 600 < second < 660 else 5)
        found.append(calm._replace(**{name: getattr(calm, name) + rate * second / 60}))
    return found


@pytest.mark.parametrize(
    ("name", "rate", "told"),
    [
        ("lag", 0, []),
        ("memory", 0.25, ["memory"]),
        ("descriptors", 0.5, ["descriptors"]),
        ("threads", 0.25, ["threads"]),
        ("log", 2 << 20, ["write-ahead log"]),
    ],
)
def test_what_grows_is_told(name: str, rate: float, told: list[str]) -> None:
    """A leak shows within half an hour; noise, polling for a minute, and a large first page don't."""
    assert [found.partition(",")[0].partition(":")[0] for found in rising(samples(name, rate))] == told


def test_a_dearer_database_is_told() -> None:
    """More bytes for each that is ingested, from the middle of the run on."""
    found = samples("lag", 0)
    dear = [s._replace(database=s.database + max(0, s.ingested - found[450].ingested)) for s in found]
    assert [text.partition(",")[0] for text in rising(dear)] == ["database"]
    assert len(RULES) == 5
