"""Secrets stay home: what finalize writes and stages where a session holds some, with real git."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from codex.logging.staging import stage
from tests.commands import shell, succeed
from tests.daemon import Daemon, wait_for
from tests.planted import leaks, look_alikes, secrets, unpacked, write_log

COPY = "codex_session_logs.db"


@pytest.fixture
def repository(tmp_path: Path, log_dir: Path, environment: pytest.MonkeyPatch) -> Path:
    """A repository around `log_dir` and `database`."""
    environment.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    environment.setenv("CODEX_SESSION_LOG_DIR", "sessions")
    environment.setenv("CODEX_LOG_DB_PATH", "session_logs.db")
    succeed("git init -q", tmp_path)
    return tmp_path


def finalize(folder: Path, code: int, flags: str = "") -> dict[str, Any]:
    """What `codex-ingestd finalize --json` in the folder says."""
    result = shell(f"codex-ingestd finalize --json {flags}", folder)
    assert result.returncode == code, result.stdout + result.stderr
    return dict(json.loads(result.stdout))


def staged(repository: Path) -> dict[str, bytes]:
    """Each blob that git holds, staged or not, by its hash."""
    objects = succeed("git cat-file --batch-all-objects --batch-check='%(objecttype) %(objectname)'", repository)
    names = [line.split()[1] for line in objects.splitlines() if line.startswith("blob")]
    return {
        name: subprocess.run(["git", "cat-file", "blob", name], cwd=repository, capture_output=True, check=True).stdout
        for name in names
    }


def test_nothing_of_a_secret_is_staged(repository: Path, log_dir: Path, database: Path, tmp_path: Path) -> None:
    """No blob and no segment in git holds a planted secret; the look-alikes are there, the live database is as it was.

    The copy verifies, says that it is redacted, and gives the session's lines back without the secrets.
    """
    planted, others = secrets(), look_alikes()
    log = write_log(log_dir, [text for one in planted for text in (one.text, "between")] + others)
    done = finalize(repository, 4)
    assert [Path(path).name for path in done["staged"]] == [COPY]
    assert {one["session_id"] for one in done["secrets"]} == {"a"}
    assert {one["seq"] for one in done["secrets"]} == {2 * place + 1 for place in range(len(planted))}
    for number, blob in enumerate(staged(repository).values()):
        elsewhere = tmp_path / f"blob-{number}"
        elsewhere.write_bytes(blob)
        assert not leaks(planted, unpacked(elsewhere) if blob.startswith(b"SQLite") else blob)
    assert not list(repository.glob(f"{COPY}[.-][psw]*"))
    assert set(leaks(planted, unpacked(database))) == {one.kind for one in planted}
    assert shell("codex-ingestd verify --deep", repository).returncode == 0
    verified = json.loads(succeed(f"codex-ingestd verify --deep --json --db {COPY}", repository))
    assert (verified["redacted"], verified["findings"]) == (1, [])
    assert succeed("codex-ingestd restore a", repository) == log.read_text("utf-8")
    restored = succeed(f"codex-ingestd restore a --db {COPY}", repository).splitlines()
    assert len(restored) == 2 * len(planted) + len(others)
    for text, line in zip(others, restored[2 * len(planted) :], strict=True):
        said = line if line.startswith("no JSON") else "".join(json.loads(line, object_pairs_hook=_texts))
        assert repr(text) in said or text in said or json.dumps(text)[1:-1] in said


def _texts(pairs: list[tuple[str, Any]]) -> str:
    return "".join(str(value) for _, value in pairs)


def test_secret_in_other_tables_is_not_staged(repository: Path, log_dir: Path, database: Path) -> None:
    """What a program keeps in a table of its own in the same file is looked at as well."""
    write_log(log_dir, ["hello"])
    succeed("codex-import-ndjson --all", repository)
    planted = secrets()[0]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
        connection.execute("INSERT INTO notes VALUES (?)", (f"don't lose {planted.text}",))
    done = finalize(repository, 4)
    assert [(one["session_id"], one["generation"]) for one in done["secrets"]] == [("notes", 0)]
    with closing(sqlite3.connect(repository / COPY)) as connection:
        (note,) = connection.execute("SELECT note FROM notes").fetchone()
    assert note.startswith("don't lose ")
    assert "[REDACTED:" in note
    assert not leaks([planted], (repository / COPY).read_bytes())


def test_clean_sessions_are_staged_whole(repository: Path, log_dir: Path, database: Path) -> None:
    """Without a secret both files are staged, with exit code 0; where nothing is new the copy stays as it is.

    A secret that comes later stops the database alone.
    """
    write_log(log_dir, look_alikes())
    done = finalize(repository, 0)
    assert [Path(path).name for path in done["staged"]] == ["session_logs.db", COPY]
    assert (done["secrets"], done["notes"]) == ([], [])
    finalize(repository, 0)
    copy = (repository / COPY).read_bytes()
    finalize(repository, 0)
    assert (repository / COPY).read_bytes() == copy
    planted = secrets()[:1]
    write_log(log_dir, ["x", planted[0].text])
    done = finalize(repository, 4)
    assert [Path(path).name for path in done["staged"]] == [COPY]
    assert f"put /{log_dir.name}/ in {repository}/.gitignore" in " ".join(done["notes"])
    assert f"put /{database.name}.key in {repository}/.gitignore" in " ".join(done["notes"])
    assert not any(leaks(planted, blob) for blob in staged(repository).values())


def test_rows_that_came_after_the_scan_are_not_staged(repository: Path, log_dir: Path, database: Path) -> None:
    """What is committed between the scan and `git add` is in no blob: the copy is staged in the database's place."""
    write_log(log_dir, ["hello"])
    finalize(repository, 0)
    planted = secrets()[:1]
    write_log(log_dir, ["x", planted[0].text])
    succeed("codex-import-ndjson --all", repository)
    done = stage(str(database), str(repository / COPY), scanned=True)
    assert [Path(path).name for path in done.paths] == [database.name, COPY]
    hashes = {line.split()[1] for line in succeed("git ls-files --stage", repository).splitlines()}
    assert len(hashes) == 1
    assert not any(leaks(planted, blob) for blob in staged(repository).values())


@pytest.mark.parametrize("how", ["flag", "variable", "list"])
def test_secrets_that_are_allowed_are_staged(
    repository: Path, log_dir: Path, environment: pytest.MonkeyPatch, how: str
) -> None:
    """The flag, the variable and the allow-list each let both files be staged as they are."""
    planted = secrets()[0]
    write_log(log_dir, ["x", planted.text])
    (one,) = finalize(repository, 4)["secrets"]
    if how == "variable":
        environment.setenv("CODEX_ALLOW_SECRETS", "1")
    if how == "list":
        (repository / "secrets-allow").write_text(f"hash:{one['hash']}\n", "utf-8")
    done = finalize(repository, 0, "--allow-secrets" if how == "flag" else "")
    assert len(done["staged"]) == 2


def test_hook_of_the_daemon_stages_no_secret(repository: Path, daemon: Daemon) -> None:
    """The hook writes and stages the redacted copy, and warns with session and line."""
    planted = secrets()[0]
    daemon.start("--finalize")
    log = write_log(daemon.log_dir, ["x", planted.text])
    with log.open("a", encoding="utf-8") as file:
        file.write('{"type":"session_end"}\n')
    wait_for(lambda: daemon.told("hook ran"))
    assert any("secret in a line 2: aws-access-key" in str(told["message"]) for told in daemon.told("secret in"))
    assert succeed("git diff --cached --name-only", repository) == f"{COPY}\n"
    assert daemon.stop() == 0
    assert not any(leaks([planted], blob) for blob in staged(repository).values())


def test_command_lists_places_and_shows_no_secret(repository: Path, log_dir: Path, database: Path) -> None:
    """`codex-logs secrets` tells session, line, rule, hash and bytes of each, exits with 1, and looks on from there."""
    planted = secrets()
    log = write_log(log_dir, ["x", planted[0].text, planted[3].text, planted[0].text])
    succeed("codex-import-ndjson --all", repository)
    listed = shell("codex-logs secrets --json", repository)
    found = json.loads(listed.stdout)
    assert (listed.returncode, [one["seq"] for one in found]) == (1, [2, 3, 4])
    assert found[0]["hash"] == found[2]["hash"] != found[1]["hash"]
    data = log.read_bytes()
    spans = [data[one["offset"] : one["offset"] + one["length"]].decode() for one in found]
    assert spans == [planted[0].secret, planted[3].secret, planted[0].secret]
    write_log(log_dir, ["x", planted[6].text], "b")
    succeed("codex-import-ndjson --all", repository)
    table = shell("codex-logs secrets", repository)
    assert (table.returncode, len(table.stdout.splitlines())) == (1, 5)
    assert not leaks(planted, table.stdout.encode() + listed.stdout.encode())
    assert shell("codex-logs secrets b", repository).stdout.count("\n") == 2
    write_log(log_dir, ["nothing"], "c")
    succeed("codex-import-ndjson --all", repository)
    assert shell("codex-logs secrets c --json", repository).returncode == 0
