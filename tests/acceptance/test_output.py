"""Where what a command prints can't go, and what it says when nothing is there to print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import UNPRIVILEGED, shell, succeed

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


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("codex-logs --session-id nope", 0),
        ("codex-logs errors", 0),
        ("codex-logs raw demo 99", 2),
        ("codex-logs show nope", 2),
        ("codex-logs pack nope", 2),
        ("codex-ingestd restore nope", 2),
        ("codex-ingestd restore demo --generation 99", 2),
        ("codex-ingestd verify nope", 2),
        ("codex-ingestd purge --days 0 --session nope", 2),
    ],
)
def test_what_is_not_there_is_said(folder: Path, command: str, code: int) -> None:
    """Where nothing is asked for by name that is fine; and what doesn't exist can't be named."""
    result = shell(command, folder)
    assert result.returncode == code
    assert result.stderr


def test_what_may_not_be_read_is_not_called_missing(folder: Path) -> None:
    """A folder that can't be entered, a file that can't be read, a folder in the database's place."""
    hidden, closed = folder / "hidden", folder / "closed.db"
    hidden.mkdir(mode=0o000)
    closed.touch(mode=0o000)
    entering = shell(f"{UNPRIVILEGED} codex-logs sessions --db {hidden}/x.db", folder)
    reading = shell(f"{UNPRIVILEGED} codex-logs sessions", folder, {"CODEX_LOG_DB_PATH": str(closed)})
    assert f"error: {hidden}/x.db: Permission denied" in entering.stderr
    assert f"error: {closed}: this user may not read it" in reading.stderr
    for result in (entering, reading):
        assert result.returncode == 1
        assert "right to read" in result.stderr
    result = shell("codex-logs sessions --db .", folder)
    assert (result.returncode, result.stderr.splitlines()[0]) == (2, f"error: {folder} is a folder")
