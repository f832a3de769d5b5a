"""What is said of known vulnerabilities: never that there are none where nobody was asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.advisories import judge

CLEAN = {"name": "a", "version": "1", "vulns": []}
FLAWED = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}
OWN = {"name": "codex-ingestd", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "words", "sound"),
    [
        ([CLEAN, OWN], ["none, of 1 packages"], True),
        ([CLEAN, UNKNOWN], ["NOT CHECKED: c", "none, of 1 packages"], True),
        ([CLEAN, FLAWED], ["b 2: CVE-1, mended in 3", "see above"], False),
        ([UNKNOWN, UNKNOWN, OWN], ["NOT CHECKED", "2 packages"], True),
    ],
)
def test_what_was_not_asked_is_not_called_clean(packages: list[dict[str, Any]], words: list[str], sound: bool) -> None:
    """A vulnerability fails; a package that the index doesn't know is named."""
    verdict = judge(json.dumps({"dependencies": packages}))
    assert all(word in verdict.text for word in words)
    assert verdict.sound is sound
    assert ("none" in verdict.text) == (CLEAN in packages and sound)


def test_a_service_that_does_not_answer_is_told() -> None:
    """With its own last word."""
    assert judge("", "Failed to resolve").text == "known vulnerabilities: NOT CHECKED, Failed to resolve"
