"""`codex-import-ndjson` and its functions."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging import import_all, import_session
from codex.logging.store.connection import open_reader, scalar
from tests.commands import UNPRIVILEGED, shell, succeed


def write(folder: Path, name: str, *messages: str) -> Path:
    """A session file of some messages."""
    path = folder / f"{name}.ndjson"
    with path.open("a") as log:
        log.writelines(json.dumps({"role": "user", "message": message}) + "\n" for message in messages)
    return path


def test_one_session_or_all(log_dir: Path, database: Path) -> None:
    """The functions give the counts of new rows, and nothing is imported twice."""
    write(log_dir, "a", "1", "2")
    write(log_dir, "b", "3")
    assert import_session("a", log_dir, database) == 2
    assert import_all(log_dir, database) == {"a": 0, "b": 1}
    write(log_dir, "a", "4")
    assert import_all(log_dir, database) == {"a": 1, "b": 0}


def test_missing_session_is_an_error(log_dir: Path, database: Path) -> None:
    """A session without a file raises FileNotFoundError from Python and exits with 1 from the shell."""
    with pytest.raises(FileNotFoundError):
        import_session("nobody", log_dir, database)
    result = shell(f"codex-import-ndjson --session nobody --log-dir '{log_dir}' --db '{database}'", log_dir)
    assert (result.returncode, "hint:" in result.stderr) == (1, True)


def test_usage(log_dir: Path) -> None:
    """Neither or both of --session and --all is bad usage; --help shows an example."""
    assert shell("codex-import-ndjson", log_dir).returncode == 2
    assert shell("codex-import-ndjson --all --session a", log_dir).returncode == 2
    assert "codex-import-ndjson --all" in succeed("python -m codex.logging.import_ndjson --help", log_dir)


def test_one_bad_file_stops_no_other(log_dir: Path, database: Path) -> None:
    """A file that may not be read fails, by name; the others arrive; the exit code is 1."""
    bad = write(log_dir, "bad", "1")
    write(log_dir, "good", "2", "3")
    (log_dir / "link.ndjson").symlink_to(bad)
    bad.chmod(0)
    result = shell(f"{UNPRIVILEGED} codex-import-ndjson --all --log-dir '{log_dir}' --db '{database}' --json", log_dir)
    summary = json.loads(result.stdout)
    assert result.returncode == 1
    assert (summary["files"], summary["rows"]) == (2, 2)
    assert [failure["path"] for failure in summary["failed"]] == [str(bad)]
    assert "symbolic link" in summary["skipped"][0]


def test_unchanged_sessions_cost_little(log_dir: Path, database: Path) -> None:
    """A second import of 1,000 sessions adds nothing, and opens none of them."""
    for number in range(1000):
        write(log_dir, f"s{number:04}", "x", "y")
    assert sum(import_all(log_dir, database).values()) == 2000
    command = f"strace -f -c -e trace=flock codex-import-ndjson --all --log-dir '{log_dir}' --db '{database}' --json"
    began = time.perf_counter()
    result = shell(command, log_dir)
    summary = json.loads(result.stdout)
    assert (summary["files"], summary["rows"]) == (1000, 0)
    assert "flock" not in result.stderr
    assert time.perf_counter() - began < 30


def test_what_is_imported_is_indexed(log_dir: Path, database: Path, tmp_path: Path) -> None:
    """All of it, also what an import before left to the daemon."""
    (log_dir / "s.ndjson").write_text('{"message":"hello"}\n' * 3)
    command = f"codex-import-ndjson --all --log-dir {log_dir} --db {database}"
    succeed(f"{command} --no-index", tmp_path)
    assert indexed(database) == 0
    (log_dir / "t.ndjson").write_text('{"message":"hello"}\n')
    succeed(command, tmp_path)
    assert indexed(database) == 4


def indexed(database: Path) -> int:
    """How many messages with that word the index has."""
    with closing(open_reader(str(database))) as connection:
        return int(scalar(connection, "SELECT count(*) FROM search_index('hello')"))
