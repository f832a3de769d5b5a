"""`codex-logs search`: what was said is found, by a real daemon's index or without it; shown, never executed."""

from __future__ import annotations

import json
import os
import pty
import re
from pathlib import Path

import pytest

from codex.logging import append_ndjson
from tests.commands import BIN, shell, succeed
from tests.daemon import Daemon, wait_for

RECORDS = (
    ("one", "2026-01-30T09:00:00Z", "user", "Why is the connection refused?"),
    ("one", "2026-01-30T09:01:00Z", "assistant", "The pool is full: \x1b[31m connection \x1b[0m 12 \u202egnp.exe"),
    ("two", "2026-01-31T09:00:00Z", "user", "Connect it again, please"),
)


@pytest.fixture
def folder(tmp_path: Path, log_dir: Path, database: Path, environment: pytest.MonkeyPatch) -> Path:
    """A folder whose environment names some logs and a database that isn't there yet."""
    environment.setenv("CODEX_SESSION_LOG_DIR", str(log_dir))
    environment.setenv("CODEX_LOG_DB_PATH", str(database))
    environment.setenv("TZ", "UTC-1")
    for session, ts, role, message in RECORDS:
        with (log_dir / f"{session}.ndjson").open("a") as log:
            log.write(json.dumps({"ts": ts, "role": role, "message": message}) + "\n")
    return tmp_path


def places(output: str) -> list[tuple[str, int]]:
    """Session and line of the hits."""
    return [(hit["session_id"], hit["seq"]) for hit in json.loads(output)["hits"]]


@pytest.mark.parametrize("prepare", ["true", "codex-import-ndjson --all --no-index", "codex-import-ndjson --all"])
def test_found_with_an_index_or_without(folder: Path, prepare: str) -> None:
    """In log files alone, in a database whose index is behind, in one that is indexed."""
    succeed(prepare, folder)
    assert places(succeed("codex-logs search connection -full --json", folder)) == [("one", 1)]
    assert places(succeed("codex-logs search 'connect* OR pool' --sort time --json", folder)) == [
        ("two", 1),
        ("one", 2),
        ("one", 1),
    ]
    assert places(succeed("codex-logs search connect\\* since:2026-01-31 role:user --json", folder)) == [("two", 1)]


def test_what_was_appended_a_moment_ago(folder: Path, daemon: Daemon, log_dir: Path) -> None:
    """Whether the daemon has indexed it yet or not."""
    daemon.start()
    append_ndjson(log_dir / "three.ndjson", {"role": "user", "message": "the needle"})
    daemon.wait_for_rows(1, "three")
    assert places(succeed("codex-logs search needle --json", folder)) == [("three", 1)]


def test_a_daemon_killed_while_it_indexes(folder: Path, daemon: Daemon, log_dir: Path) -> None:
    """The next one goes on where it was: each message is in the index once."""
    with (log_dir / "big.ndjson").open("w") as log:
        for number in range(20_000):
            log.write(json.dumps({"role": "user", "message": f"needle {number} " + "hay " * 50}) + "\n")
    succeed("codex-import-ndjson --all --no-index", folder)
    indexed = "SELECT count(*) FROM search_index_docsize"
    daemon.start()
    wait_for(lambda: int(str(daemon.scalar(indexed))) > 0, 60, "the daemon to index")
    daemon.kill()
    found = json.loads(succeed("codex-logs search 'needle OR connect*' --json --exhaustive --limit 1", folder))
    assert found["total"] == 20_003
    daemon.start()
    wait_for(lambda: daemon.scalar(indexed) == 20_003, 60, "the rest to be indexed")
    found = json.loads(succeed("codex-logs search 'needle OR connect*' --json --exhaustive --limit 1", folder))
    assert found["total"] == 20_003


def test_two_importers_at_once(folder: Path, database: Path) -> None:
    """Each message is indexed once, whoever does it."""
    command = "codex-import-ndjson --all"
    succeed(f"codex-import-ndjson --all --no-index; {command} & {command} & {command}; wait", folder)
    count = succeed(f"sqlite3 {database} 'SELECT count(*) FROM search_index_docsize'", folder)
    assert int(count) == 3
    assert len(places(succeed("codex-logs search 'connect* OR pool' --json", folder))) == 3


def test_exit_codes_and_hints(folder: Path) -> None:
    """0 found, 1 nothing found, 2 not understood; and what to do next."""
    nothing = shell("codex-logs search rol:user nothing", folder)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "did you mean role:?" in nothing.stderr
    assert json.loads(shell("codex-logs search nothing --json", folder).stdout)["hits"] == []
    wrong = shell("codex-logs search one '\"two'", folder)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert '  one "two\n      ^\n' in wrong.stderr
    unknown = shell("codex-logs search session:onn connection", folder)
    assert (unknown.returncode, "Did you mean one" in unknown.stderr) == (2, True)


def test_shown_and_not_executed(folder: Path) -> None:
    """Local time, who, the words; a message's own orders to the terminal are shown as text."""
    text = succeed("codex-logs search connection", folder)
    assert "2026-01-30 10:00:00+0100  user\n    Why is the connection refused?\n" in text
    assert "\\x1b[31m connection \\x1b[0m 12 \\u202egnp.exe" in text
    assert not re.search("[\x1b\u202e]", text)
    assert "codex-logs show one --at" in text


@pytest.mark.parametrize("no_color", ["", "1"])
def test_words_are_marked_on_a_terminal(folder: Path, no_color: str) -> None:
    """In colour, unless NO_COLOR says otherwise."""
    output = on_a_terminal(["codex-logs", "search", "refused", "--no-pager"], {"NO_COLOR": no_color, "TERM": "xterm"})
    assert ("\x1b[33m\x1b[1mrefused" in output) == (not no_color)
    assert "refused" in output


def on_a_terminal(command: list[str], env: dict[str, str]) -> str:
    """What a command shows where its output is a terminal."""
    process, descriptor = pty.fork()
    if not process:
        os.execvpe(command[0], command, {**os.environ, **env, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    shown = b""
    try:
        while piece := os.read(descriptor, 4096):
            shown += piece
    except OSError:  # Linux says so where the last writer is gone
        pass
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    return shown.decode()
