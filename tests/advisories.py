"""`python -m tests.advisories`: whether what is installed here has known vulnerabilities, as pip-audit is told.

A package index that isn't PyPI itself may know no advisories, and pip-audit then passes over every package without an
error. That is said, and isn't called clean: exit code 0 with NOT CHECKED, 1 where there is a vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

_SECONDS = 60
_OWN = "codex-ingestd"


class Verdict(NamedTuple):
    """What there is to say, and whether all is well as far as is known."""

    text: str
    sound: bool


def judge(report: str, complaint: str = "") -> Verdict:
    """The verdict on pip-audit's report, JSON, or on what it complained of where it gave none."""
    try:
        found: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return Verdict(f"known vulnerabilities: NOT CHECKED, {complaint or 'pip-audit gave no report'}", True)
    found = [one for one in found if one["name"] != _OWN]
    asked = [one for one in found if "vulns" in one]
    unknown = [one["name"] for one in found if "vulns" not in one]
    if not asked:
        return Verdict(
            f"known vulnerabilities: NOT CHECKED, the index knows no advisories of {len(found)} packages", True
        )
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in asked
        for flaw in one["vulns"]
    ]
    lines += [f"NOT CHECKED: {', '.join(unknown)}"] * bool(unknown)
    sound = not any(one["vulns"] for one in asked)
    lines += [f"known vulnerabilities: {'none' if sound else 'see above'}, of {len(asked)} packages"]
    return Verdict("\n".join(lines), sound)


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--skip-editable", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        verdict = judge("", f"no answer within {_SECONDS} s")
    else:
        verdict = judge(done.stdout, (done.stderr.strip().splitlines() or [""])[-1][:200])
    print(verdict.text)
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(main())
