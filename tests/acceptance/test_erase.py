"""`codex-logs erase`: what was erased is nowhere any more, what stays is as it was, and the daemon goes on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from tests.commands import BIN, shell, succeed
from tests.daemon import Daemon, wait_for
from tests.traces import traces

TEXT = 'zebrafinch "ö/\\ 7781'


@pytest.fixture
def workspace(tmp_path: Path, log_dir: Path, environment: pytest.MonkeyPatch) -> Path:
    """The folder around `log_dir` and `database`, with a place for backups."""
    environment.setenv("CODEX_SESSION_LOG_DIR", log_dir.name)
    environment.setenv("CODEX_LOG_DB_PATH", "session_logs.db")
    environment.setenv("GH_COPILOT_BACKUP_ROOT", "backups")
    return tmp_path


def write(workspace: Path, name: str, *messages: str) -> Path:
    """Append to a session's log, as an agent does."""
    log = workspace / "sessions" / f"{name}.ndjson"
    with log.open("a", encoding="utf-8") as file:
        for number, message in enumerate(messages):
            meta = {"call": {"arguments": json.dumps({"text": message})}}
            record = {"role": "user", "message": message, **meta}
            file.write(json.dumps(record, ensure_ascii=number % 2 == 0) + "\n")
    return log


class Writer(threading.Thread):
    """Appends lines, each fifth of which says the text, by turns as an agent does and as who takes no lock."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log
        self.count = 0
        self.others: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.01):
            text = f"{TEXT} {self.count}" if self.count % 5 == 0 else f"line {self.count}"
            self.append(json.dumps({"role": "user", "message": text}).encode() + b"\n")
            if self.count % 5:
                self.others.append(text)
            self.count += 1

    def append(self, line: bytes) -> None:
        """Write a line to the log."""
        with self.log.open("ab", buffering=0) as file:
            if self.count % 2:
                fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line)

    def wait_for_more(self, count: int) -> None:
        """Until so many more are there."""
        wanted = self.count + count
        wait_for(lambda: self.count >= wanted, what="lines")


class Packer(Writer):
    """As an agent that keeps its log compressed, and unpacks it for each line."""

    def append(self, line: bytes) -> None:
        """Unpack the log, write a line to it, and compress it again, after a while."""
        packed, part = self.log.with_name(f"{self.log.name}.zst"), self.log.with_name(".part")
        if packed.exists():
            part.write_bytes(zstandard.decompress(packed.read_bytes()))
            part.rename(self.log)
            packed.unlink()
        super().append(line)
        part.write_bytes(zstandard.compress(self.log.read_bytes()))
        part.rename(packed)
        self.log.unlink()
        self.ended.wait(0.3)


@contextmanager
def writing(writer: Writer) -> Iterator[Writer]:
    """Somebody appends to a log meanwhile."""
    writer.start()
    try:
        yield writer
    finally:
        writer.ended.set()
        writer.join()


def said(workspace: Path, session: str) -> list[str]:
    """The messages of a session, as a reader gives them."""
    rows = json.loads(succeed(f"codex-logs --session-id {session} --format json", workspace))
    return [row["message"] for row in rows]


def assert_sound(workspace: Path) -> None:
    """The record verifies as a whole, and is the same when it is built anew."""
    succeed("codex-ingestd verify --deep", workspace)
    succeed("codex-ingestd rebuild --new rebuilt.db", workspace)
    (workspace / "rebuilt.db").unlink()


def test_a_session_is_nowhere_any_more(workspace: Path, daemon: Daemon) -> None:
    """Beside a daemon: not in the database, its copies and former states, nor in files; others are as they were."""
    write(workspace, "gone", *([f"says {TEXT}"] * 9))
    write(workspace, "gone", f"no end of {TEXT}")
    write(workspace, "other", "stays", "too")
    daemon.start()
    daemon.wait_for_rows(12)
    succeed("codex-ingestd finalize", workspace)
    for former in ("session_logs.db.before-rebuild", "session_logs.db.schema-6", "codex_session_logs.db.part"):
        (workspace / former).write_bytes((workspace / "codex_session_logs.db").read_bytes())
    assert len({place.partition(":")[0] for place in traces(workspace, TEXT)}) >= 6
    told = json.loads(succeed("codex-logs erase gone --yes --json", workspace))
    assert [Path(path).name for path in told["files"]] == ["gone.ndjson"]
    assert traces(workspace, TEXT) == []
    assert [path.name for path in workspace.glob("*.db*") if "before" in path.name or "schema" in path.name] == []
    query = "SELECT key FROM meta WHERE key LIKE 'un%'"
    assert json.loads(succeed(f'codex-logs sql "{query}" --json --db codex_session_logs.db', workspace)) == []
    write(workspace, "other", "goes on")
    write(workspace, "gone", "a new life")
    wait_for(lambda: len(daemon.rows()) == 4, what="what was written since")
    assert (said(workspace, "other"), said(workspace, "gone")) == (["stays", "too", "goes on"], ["a new life"])
    assert daemon.stop() == 0
    assert_sound(workspace)


def test_a_text_is_erased_while_its_session_is_written(workspace: Path, daemon: Daemon) -> None:
    """The daemon ingests on in the same file, each line once, in order; what was finalized is without it too."""
    log = write(workspace, "live", "begins", TEXT)
    daemon.start()
    daemon.wait_for_rows(2)
    succeed("codex-ingestd finalize", workspace)
    before = log.stat().st_ino
    with writing(Writer(log)) as writer:
        for _ in range(2):
            writer.wait_for_more(20)
            told = shell(f"codex-logs erase live --match {shlex.quote(TEXT)} --yes --json", workspace)
            assert told.returncode == 0, told.stderr
            assert json.loads(told.stdout)["places"] >= 1
    last = shell(f"codex-logs erase live --match {shlex.quote(TEXT)} --yes", workspace)
    assert last.returncode in (0, 1), last.stderr
    rows = daemon.wait_for_rows(2 + writer.count, seconds=60)
    assert traces(workspace, TEXT) == []
    assert [row.message for row in rows if "REDACTED" not in row.message] == ["begins", *writer.others]
    assert (log.stat().st_ino, daemon.scalar("SELECT count(*) FROM generations")) == (before, 1)
    assert daemon.stop() == 0
    assert_sound(workspace)


def test_a_text_is_erased_from_a_file_that_is_packed_again_and_again(workspace: Path, daemon: Daemon) -> None:
    """The daemon takes what is written anew for the same log; no line is lost, and none is there twice."""
    log = write(workspace, "live", "begins", TEXT)
    daemon.start()
    daemon.wait_for_rows(2)
    with writing(Packer(log)) as writer:
        for _ in range(2):
            writer.wait_for_more(4)
            told = shell(f"codex-logs erase live --match {shlex.quote(TEXT)} --yes", workspace)
            assert told.returncode in (0, 1), told.stderr
    last = shell(f"codex-logs erase live --match {shlex.quote(TEXT)} --yes", workspace)
    assert (last.returncode in (0, 1), "kept" in last.stderr) == (True, False), last.stderr
    rows = daemon.wait_for_rows(2 + writer.count, seconds=60)
    assert traces(workspace, TEXT) == []
    assert [row.message for row in rows if "REDACTED" not in row.message] == ["begins", *writer.others]
    names = {path.name for path in log.parent.iterdir()} - {".codex-ingestd.pulse"}
    assert (names, daemon.scalar("SELECT count(*) FROM generations")) == ({"live.ndjson.zst"}, 1)
    assert daemon.stop() == 0
    assert_sound(workspace)


def test_it_asks_first(workspace: Path) -> None:
    """Where nobody can be asked, nothing is done; a dry run says what would be, and does nothing."""
    log = write(workspace, "s", TEXT)
    succeed("codex-import-ndjson --all", workspace)
    refused = shell("codex-logs erase s", workspace)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    told = succeed("codex-logs erase s --dry-run", workspace)
    assert "would go" in told
    assert str(log) in told
    assert said(workspace, "s") == [TEXT]


@pytest.mark.parametrize(("answer", "left"), [("n", [TEXT]), ("y", [])])
def test_it_asks_at_a_terminal(workspace: Path, answer: str, left: list[str]) -> None:
    """What is to go is shown, and a plain yes lets it go."""
    write(workspace, "s", "stays", TEXT)
    succeed("codex-import-ndjson --all", workspace)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [BIN / "codex-logs", "erase", "s", "--match", TEXT]
    result = subprocess.run(command, cwd=workspace, stdin=theirs, capture_output=True, text=True, timeout=60)
    os.close(theirs)
    os.close(ours)
    assert "of 1 line (#2)" in result.stderr
    assert [text for text in said(workspace, "s") if text == TEXT] == left
    assert result.returncode == (130 if left else 0)


def test_what_git_holds_is_told(workspace: Path, environment: pytest.MonkeyPatch) -> None:
    """By path, with what to run; git's index and history are as they were."""
    environment.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    write(workspace, "s", TEXT)
    git = "git -c user.name=n -c user.email=e@x"
    succeed(f"git init -q && codex-ingestd finalize && {git} commit -qm one && git add sessions", workspace)
    before = succeed("git ls-files -s; git rev-parse HEAD", workspace)
    told = shell("codex-logs erase s --yes", workspace)
    assert told.returncode == 0
    for name in ("session_logs.db", "codex_session_logs.db"):
        assert f"git filter-repo --invert-paths --path {name}" in told.stderr
    assert f"git -C {workspace} rm --cached -- sessions/s.ndjson" in told.stderr
    assert succeed("git ls-files -s; git rev-parse HEAD", workspace) == before
