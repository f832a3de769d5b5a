"""What the README shows is what happens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.commands import ROOT, succeed

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = {"CODEX_SESSION_ID": "demo"}


def block(name: str, language: str) -> str:
    """The fenced block that follows the marker."""
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert found, name
    return found[1]


def test_write_and_read_transcript(tmp_path: Path) -> None:
    """The Python example writes a session, and each shown command prints what is shown."""
    (tmp_path / "example.py").write_text(block("write", "python"), encoding="utf-8")
    succeed("python example.py", tmp_path, DEMO)
    steps = re.split(r"^\$ ", block("read", "console"), flags=re.MULTILINE)[1:]
    assert len(steps) >= 4
    for step in steps:
        command, expected = step.split("\n", 1)
        command = re.sub(r"^(codex-logs tail -f.*)$", r"timeout 5 \1; [ $? = 124 ]", command)  # it never ends
        assert re.fullmatch(_pattern(expected), succeed(command, tmp_path, DEMO), re.DOTALL), command


def _pattern(expected: str) -> str:
    """`…` stands for anything, a time for any time, seconds for any."""
    pattern = re.escape(expected).replace("…", ".*")
    pattern = re.sub(r"\d{4}\\-\d\d\\-\d\dT[\d:\\.]+Z", r"[0-9T:.-]+Z", pattern)
    pattern = re.sub(r"\d{4}\\-\d\d\\-\d\d\\ [\d:]+\\\+\d{4}", r"[0-9]{4}-[0-9-]+\\ [0-9:]+[+-][0-9]{4}", pattern)
    return re.sub(r"in\\ [\d\\.]+\\ s", r"in\\ [0-9.]+\\ s", pattern)


def test_write_example_is_short() -> None:
    """Six lines are enough to write."""
    assert len([line for line in block("write", "python").splitlines() if line.strip()]) <= 6


@pytest.mark.parametrize(
    "readme",
    [
        ROOT / "README.md",
        *(found for part in ("lib", "daemon", "tests", "systemd") for found in ROOT.glob(f"{part}/**/README.md")),
    ],
    ids=lambda readme: str(readme.relative_to(ROOT)),
)
def test_links_lead_somewhere(readme: Path) -> None:
    """Each relative link names a file of the tree."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme.read_text(encoding="utf-8")):
        assert (readme.parent / target).exists(), target


def test_top_level_is_just_this() -> None:
    """The visible top level holds the six names and nothing else."""
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert visible == {"pyproject.toml", "README.md", "daemon", "lib", "tests", "systemd"}


def test_set_up_commands_install_what_they_run() -> None:
    """The two one-liners install this project, with the extra that the tests need."""
    assert "pip install --quiet . &&" in block("run", "sh")
    assert "'.[test]'" in block("tests", "sh")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "test" in extras
