"""Prints the table of README.md from runs' reports: `pytest tests/faults --junitxml=FILE`, then this with each FILE."""

from __future__ import annotations

import sys
from typing import NamedTuple
from xml.etree import ElementTree


class Run(NamedTuple):
    """One test's run: `checks` is how often all that was written was compared, `slowest` how late it was there (s)."""

    scenario: int
    test: str
    failed: bool
    checks: int
    lines: int
    slowest: float


def read(report: str) -> list[Run]:
    """The runs that played a scenario."""
    found = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        facts = {item.get("name"): item.get("value", "") for item in case.iter("property")}
        if "scenario" in facts and case.find("skipped") is None:
            module, name = case.get("classname", "").rpartition(".")[2], case.get("name", "").partition("[")[0]
            failed = case.find("failure") is not None or case.find("error") is not None
            figures = int(facts.get("recoveries", 0)), int(facts.get("lines", 0)), float(facts.get("slowest", 0))
            found.append(Run(int(facts["scenario"]), f"{module}.{name}", failed, *figures))
    return found


def rows(runs: list[Run]) -> list[str]:
    """One row a test, by scenario. Where lines were compared, what passed lost and doubled none: it is exact."""
    shown = []
    for scenario, test in dict.fromkeys(sorted((run.scenario, run.test) for run in runs)):
        same = [run for run in runs if (run.scenario, run.test) == (scenario, test)]
        passed = "0" if any(run.checks for run in same) else "passed"
        zero = "failed" if any(run.failed for run in same) else passed
        checks, lines = sum(max(1, run.checks) for run in same), sum(run.lines for run in same)
        slowest = max(run.slowest for run in same)
        time = f"{slowest:.2f} s" if slowest else ""
        shown.append(f"| {scenario} | `{test}` | {checks} | {lines or ''} | {zero} | {zero} | {time} |")
    return shown


if __name__ == "__main__":
    print("| scenario | test | checks | lines | lost | doubled | all there within |\n|---|---|---|---|---|---|---|")
    print("\n".join(rows([run for report in sys.argv[1:] for run in read(report)])))
