"""Where what a command prints can't go, and what it says when nothing is there to print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import shell, succeed

PRINTING = (
    "codex-logs sessions",
    "codex-logs show",
    "codex-logs export --all",
    "codex-ingestd status",
    "codex-ingestd verify",
    "codex-import-ndjson --all",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one session and its database."""
    work = tmp_path_factory.mktemp("output")
    log = work / ".codex" / "sessions" / "demo.ndjson"
    log.parent.mkdir(parents=True)
    log.write_text('{"role":"user","message":"hello"}\n' * 3)
    succeed("codex-import-ndjson --all", work)
    return work


@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk_behind_the_output_is_blamed_on_the_output(folder: Path, command: str) -> None:
    """Not on the database, which is well; exit code 1."""
    result = shell(f"{command} > /dev/full", folder)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "error: standard output: No space left on device"
    assert "hint: " in result.stderr
    assert "--db" not in result.stderr


@pytest.mark.parametrize("command", PRINTING)
def test_closed_streams_are_no_defect(folder: Path, command: str) -> None:
    """What would be printed is nobody's, and no file that is opened takes the stream's number."""
    shown = shell(f"{command} >&- 2>&- <&-; echo $?", folder)
    told = shell(f"{command} >&-; true", folder)
    assert shown.stdout == ("1\n" if "status" in command else "0\n")
    assert told.stderr == ""


def test_nothing_found_is_said_in_lines(folder: Path) -> None:
    """That there is nothing, and below it what to try."""
    lines = shell("codex-logs search nowhere", folder).stderr.splitlines()
    assert lines[0] == "Nothing found."
    assert len(lines) == 2
