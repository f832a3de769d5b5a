"""`codex-logs pack`: what a session's zip holds."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.commands import python, shell, succeed

WRITE = """
from codex.logging import CodexSessionLogger, log_event
import os
os.environ["NDJSON_MAX_BYTES"] = "900"
with CodexSessionLogger("p") as logger:
    for number in range(20):
        log_event("p", "user", f"message {number}")
    logger.log("generate", "created script")
log_event("other", "user", "not for them")
"""


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """A log folder with a session in several rotated files, imported, and another session."""
    python(WRITE, tmp_path)
    folder = tmp_path / ".codex" / "sessions"
    assert len(list(folder.glob("p.ndjson.*"))) >= 2
    return folder


def contents(path: Path) -> dict[str, bytes]:
    """The zip's files."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def sources(folder: Path) -> dict[str, bytes]:
    """The session's own files."""
    return {path.name: path.read_bytes() for path in folder.glob("p.*")}


def test_pack_holds_every_file_and_a_transcript(tmp_path: Path, sessions: Path) -> None:
    """NDJSON and rotated files byte for byte, .meta, a transcript; nothing of other sessions; for the owner only."""
    assert succeed("codex-logs pack p", tmp_path).startswith(f"{tmp_path}/p.zip: p.ndjson, p.ndjson.1, ")
    packed = contents(tmp_path / "p.zip")
    transcript = packed.pop("transcript.txt").decode()
    assert packed == sources(sessions)
    assert [f"message {number}" in transcript for number in range(20)] == [True] * 20
    assert ("created script" in transcript, "not for them" in transcript) == (True, False)
    assert (tmp_path / "p.zip").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", ["some", "none"])
def test_pack_has_from_the_record_what_is_gone(tmp_path: Path, sessions: Path, kept: str) -> None:
    """Files that were deleted since are there all the same."""
    expected = {name: data for name, data in sources(sessions).items() if not name.endswith(".meta")}
    for path in sessions.glob("p.ndjson*"):
        if kept == "none" or path.suffix == ".2":
            path.unlink()
    succeed("codex-logs pack p", tmp_path)
    packed = contents(tmp_path / "p.zip")
    assert {name: packed[name] for name in packed if ".ndjson" in name} == expected


def test_pack_has_what_is_pending(tmp_path: Path, sessions: Path) -> None:
    """New lines, and half a line that no import takes yet, are in the zip."""
    with (sessions / "p.ndjson").open("a") as log:
        log.write('{"role":"user","message":"new"}\n{"role":"us')
    succeed("codex-logs pack p -o mine.zip", tmp_path)
    packed = contents(tmp_path / "mine.zip")
    assert packed["p.ndjson"] == (sessions / "p.ndjson").read_bytes()
    assert b"user: new" in packed["transcript.txt"]


def test_pack_can_be_imported_elsewhere(tmp_path: Path, sessions: Path) -> None:
    """The unpacked folder gives the same rows."""
    succeed("codex-logs pack p", tmp_path)
    elsewhere = tmp_path / "elsewhere" / ".codex" / "sessions"
    elsewhere.mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        archive.extractall(elsewhere)
    query = "codex-logs --session-id p --format json --show-meta"
    assert succeed(query, elsewhere.parent.parent) == succeed(query, tmp_path)


def test_pack_without_a_database(tmp_path: Path) -> None:
    """The log files alone are enough, and no database is made."""
    folder = tmp_path / ".codex" / "sessions"
    folder.mkdir(parents=True)
    (folder / "p.ndjson").write_text('{"message":"hi"}\n')
    succeed("codex-logs pack p", tmp_path)
    assert contents(tmp_path / "p.zip")["p.ndjson"] == b'{"message":"hi"}\n'
    assert not list(tmp_path.rglob("*.db"))


def test_pack_of_a_single_log_takes_the_session_alone(tmp_path: Path) -> None:
    """Out of a log that all sessions share come that session's records and starts, and no others."""
    text = """
    from codex.logging import log_event, start_session
    for session_id in ("p", "other"):
        start_session(session_id)
        log_event(session_id, "user", f"of {session_id}")
    """
    env = {"CODEX_LOG_DB_PATH": "all.ndjson"}
    python(text, tmp_path, env)
    succeed("codex-logs pack p", tmp_path, env)
    packed = contents(tmp_path / "p.zip")
    assert sorted(packed) == ["p.meta", "p.ndjson", "transcript.txt"]
    assert packed["p.ndjson"].splitlines() == [
        line for line in (tmp_path / "all.ndjson").read_bytes().splitlines() if json.loads(line)["session_id"] == "p"
    ]
    assert not [name for name, data in packed.items() if b"other" in data]


def test_pack_overwrites_nothing_and_knows_its_sessions(tmp_path: Path, sessions: Path) -> None:
    """A file that is there stays; an unknown session is an error that names near ones; neither leaves a part behind."""
    for name in ("p.zip", "p.zip.part"):
        (tmp_path / name).write_text("precious")
    assert shell("codex-logs pack p", tmp_path).returncode == 2
    assert (tmp_path / "p.zip").read_text() == "precious"
    succeed("codex-logs pack p --force", tmp_path)
    assert zipfile.is_zipfile(tmp_path / "p.zip")
    assert (tmp_path / "p.zip.part").read_text() == "precious"
    succeed("codex-import-ndjson --all", tmp_path)
    result = shell("codex-logs pack othr", tmp_path)
    assert (result.returncode, "Did you mean other" in result.stderr) == (2, True)
    assert shell("codex-logs pack p -o /nowhere/p.zip", tmp_path).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".codex", "p.zip", "p.zip.part"]


def test_pack_of_a_purged_session_says_so(tmp_path: Path, sessions: Path) -> None:
    """What was purged on purpose can't be packed, and no empty zip pretends."""
    succeed("codex-ingestd purge --days 0 --session p --sources --rows", tmp_path)
    result = shell("codex-logs pack p", tmp_path)
    assert (result.returncode, "purged" in result.stderr) == (1, True)
    assert not (tmp_path / "p.zip").exists()
