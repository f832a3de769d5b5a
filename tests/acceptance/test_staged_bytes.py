"""What git holds after a finalize, byte for byte: whatever part of a database a secret was in, no blob has it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import zstandard

from tests import heldout
from tests.commands import shell, succeed
from tests.integration.test_upgrade import old_database
from tests.planted import Planted

COPY = "codex_session_logs.db"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@pytest.fixture
def repository(tmp_path: Path, log_dir: Path, environment: pytest.MonkeyPatch) -> Path:
    """A repository around `log_dir` and `database`."""
    environment.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    environment.setenv("CODEX_SESSION_LOG_DIR", "sessions")
    environment.setenv("CODEX_LOG_DB_PATH", "session_logs.db")
    succeed("git init -q", tmp_path)
    return tmp_path


def blobs(repository: Path, tmp_path: Path) -> list[bytes]:
    """What git's object store holds, and each database's segments unpacked."""
    listing = succeed("git cat-file --batch-all-objects --batch-check='%(objecttype) %(objectname)'", repository)
    found = []
    for line in listing.splitlines():
        kind, name = line.split()
        if kind == "blob":
            done = subprocess.run(["git", "cat-file", "blob", name], cwd=repository, capture_output=True, check=True)
            found.append(done.stdout)
    pointed = (
        list((repository / ".git" / "lfs" / "objects").rglob("*")) if (repository / ".git" / "lfs").exists() else []
    )
    found += [path.read_bytes() for path in pointed if path.is_file()]
    for number, blob in enumerate([blob for blob in found if blob.startswith(b"SQLite format 3")]):
        path = tmp_path / f"blob-{number}.db"
        path.write_bytes(blob)
        with closing(sqlite3.connect(path)) as connection:
            frames = [row[0] for row in connection.execute("SELECT bytes FROM segments")]
        found += map(zstandard.ZstdDecompressor().decompress, frames)
    return found


def leaks(secrets: list[str], held: list[bytes]) -> set[str]:
    """The secrets of which a line stands in the bytes: as UTF-8 or 16, as JSON has it, and as a word in any case."""
    pieces = {(one, line) for one in secrets for line in one.split("\n")}
    found = set()
    for data in held:
        low = data.lower()
        for one, line in pieces:
            forms = [line.encode(), json.dumps(line)[1:-1].encode(), line.encode("utf-16-le"), line.encode("utf-16-be")]
            if any(form in data for form in forms) or line.lower().encode() in low:
                found.add(one)
    return found


def finalize(folder: Path, code: int) -> dict[str, Any]:
    result = shell("codex-ingestd finalize --json", folder)
    assert result.returncode == code, result.stdout + result.stderr
    return dict(json.loads(result.stdout))


def agents(folder: Path, planted: list[Planted]) -> None:
    """Sessions of three formats with a secret in each place that becomes a column, or a word of one."""
    texts = iter([one.text for one in planted] * 2)
    lines: list[dict[str, Any]] = []
    for text in texts:
        lines += [
            {"message": text, "role": "user"},
            {"type": "tool", "arguments": {"command": next(texts, text)}},
            {"type": "action", "action": "run", "statement": next(texts, text), "metadata": json.dumps({"a": text})},
        ]
    lines += [{"type": "session_start", "cwd": f"/work/{TOKEN}/x", "argv": [TOKEN]}]
    (folder / "native.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    base = {"uuid": "u", "sessionId": "s", "timestamp": "2026-01-02T03:04:05Z", "cwd": f"/{TOKEN}", "gitBranch": TOKEN}
    calls = [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": f"export A={TOKEN}"}}]
    claude: list[dict[str, Any]] = [
        {"type": "summary", "summary": f"Use {TOKEN}", "leafUuid": "u", "sessionId": "s"},
        base | {"type": "assistant", "message": {"id": "m", "role": "assistant", "model": TOKEN, "content": calls}},
        base | {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": f"`{TOKEN}`"}]}},
    ]
    (folder / "claude.jsonl").write_text("".join(json.dumps(line) + "\n" for line in claude), "utf-8")
    codex: list[dict[str, Any]] = [
        {"type": "session_meta", "payload": {"id": "c", "cwd": f"/{TOKEN}", "git": {"branch": TOKEN}}},
        {
            "type": "response_item",
            "payload": {"type": "function_call", "name": TOKEN, "arguments": f'{{"a":"{TOKEN}"}}'},
        },
    ]
    (folder / "codex.jsonl").write_text("".join(json.dumps(line) + "\n" for line in codex), "utf-8")


@pytest.mark.parametrize("lfs", ["", "1"])
def test_no_column_and_no_index_of_a_staged_copy_has_a_secret(
    repository: Path, log_dir: Path, tmp_path: Path, environment: pytest.MonkeyPatch, lfs: str
) -> None:
    """Messages, meta, tools' arguments, models, folders, branches and titles, in three formats, with a search index."""
    environment.setenv("ALLOW_AUTOLFS", lfs)
    planted = heldout.secrets()
    agents(log_dir, planted)
    succeed("codex-import-ndjson --all", repository)
    finalize(repository, 4)
    held = blobs(repository, tmp_path)
    assert any(blob.startswith(b"SQLite format 3") for blob in held)
    assert not leaks([TOKEN, *(one.secret for one in planted)], held)


@pytest.mark.parametrize("place", ["free page", "within a page", "log", "vacuumed"])
def test_what_was_deleted_is_not_staged(
    repository: Path, log_dir: Path, database: Path, tmp_path: Path, place: str
) -> None:
    """A secret that no row has any more, but the file's free pages, a page's free bytes, or the write-ahead log."""
    (log_dir / "a.ndjson").write_text('{"message":"hello"}\n')
    succeed("codex-import-ndjson --all", repository)
    size = 60_000 if place == "free page" else 20
    with closing(apsw.Connection(str(database))) as connection:
        connection.pragma("secure_delete", False)
        connection.execute("CREATE TABLE notes (note TEXT)")
        connection.execute("INSERT INTO notes VALUES (?), ('kept')", (f"{'x' * size} {TOKEN} {'y' * size}",))
        connection.execute("DELETE FROM notes WHERE note <> 'kept'")
        if place == "vacuumed":
            connection.execute("VACUUM")
        if place == "log":
            finalize(repository, 0)
    if place != "log":
        finalize(repository, 0)
    held = blobs(repository, tmp_path)
    assert any(blob.startswith(b"SQLite format 3") for blob in held)
    assert not leaks([TOKEN], held)


@pytest.mark.parametrize("name", [f"{TOKEN}.ndjson", f"project-{TOKEN}/a.ndjson"])
def test_secret_in_a_name_is_refused(repository: Path, log_dir: Path, tmp_path: Path, name: str) -> None:
    """A session's id or its file's path can't be taken out of a copy: none is made, nothing is staged or told."""
    log = log_dir / name
    log.parent.mkdir(exist_ok=True)
    log.write_text('{"message":"hello"}\n')
    result = shell("codex-ingestd finalize", repository)
    assert (result.returncode, result.stdout) == (1, "")
    assert "a secret (github) can't be taken out of streams" in result.stderr
    assert TOKEN not in result.stderr
    assert not (repository / COPY).exists()
    assert blobs(repository, tmp_path) == []


@pytest.mark.parametrize("version", [1, 5])
def test_old_database_is_scanned_once_it_is_up_to_date(
    repository: Path, database: Path, tmp_path: Path, version: int
) -> None:
    """One that was made before secrets were looked for: what is in it is found, and its former state isn't staged."""
    old_database(database, version)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
        connection.execute("INSERT INTO notes VALUES (?)", (TOKEN,))
    assert [one["session_id"] for one in finalize(repository, 4)["secrets"]] == ["notes"]
    held = blobs(repository, tmp_path)
    assert any(blob.startswith(b"SQLite format 3") for blob in held)
    assert not leaks([TOKEN], held)


def test_redacted_copy_can_be_rebuilt(repository: Path, log_dir: Path) -> None:
    """It is built anew from its own segments, though the file that it came from is there: the secret doesn't return.

    A statement of the whole record can't be held against it, and is no finding.
    """
    (log_dir / "a.ndjson").write_text(json.dumps({"message": TOKEN}) + "\n")
    finalize(repository, 4)
    succeed(
        "codex-ingestd checkpoint > statements.ndjson && codex-ingestd verify --against statements.ndjson", repository
    )
    succeed(f"codex-ingestd verify --against statements.ndjson --db {COPY}", repository)
    succeed(f"codex-ingestd rebuild --db {COPY} && codex-ingestd verify --deep --db {COPY}", repository)
    with closing(sqlite3.connect(repository / COPY)) as connection:
        assert connection.execute("SELECT message FROM session_events").fetchone()[0].startswith("[REDACTED:github:")
        assert connection.execute("SELECT count(*) FROM redactions").fetchone() == (1,)
    assert TOKEN.encode() not in (repository / COPY).read_bytes()
