"""`codex-logs tail`: the newest events of many sessions, and those that come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import BIN, shell, succeed
from tests.daemon import Daemon, wait_for


class Tail:
    """`codex-logs tail -f` with its output in files."""

    def __init__(self, folder: Path, *arguments: str | Path) -> None:
        self._output, self._errors = folder / "tail.out", folder / "tail.err"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            command = [BIN / "codex-logs", "tail", "-f", *arguments]
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=os.environ
            )

    def wait_for(self, *texts: str) -> str:
        """The output once it holds the texts."""
        wait_for(lambda: all(text in self.output for text in texts), what=f"{texts} in the output")
        return self.output

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8")


Start = Callable[..., Tail]


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Start]:
    """Starts a tail in the test's folder; it is gone at the end."""
    begun: list[Tail] = []

    def start(*arguments: str | Path) -> Tail:
        begun.append(Tail(tmp_path, *arguments))
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.wait()


def append(log: Path, *messages: str, role: str = "user") -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for message in messages:
            file.write(json.dumps({"ts": "2026-01-31T09:00:00Z", "role": role, "message": message}) + "\n")


def test_what_comes_is_shown_until_ctrl_c(daemon: Daemon, tail: Start) -> None:
    """Of sessions that were there and of one that begins meanwhile, each event once and in its order."""
    append(daemon.log_dir / "a.ndjson", *(f"old {number}" for number in range(5)))
    daemon.start()
    daemon.wait_for_rows(5)
    following = tail("-n", "2", "--json", "--db", daemon.database)
    following.wait_for("old 4")
    for number in range(20):
        append(daemon.log_dir / f"{'ab'[number % 2]}.ndjson", f"new {number}")
    following.wait_for(*(f'"new {number}"' for number in range(20)))
    events = [json.loads(line) for line in following.output.splitlines()]
    said = {name: [event["message"] for event in events if event["session_id"] == name] for name in "ab"}
    assert said["a"] == ["old 3", "old 4", *(f"new {number}" for number in range(0, 20, 2))]
    assert said["b"] == [f"new {number}" for number in range(1, 20, 2)]
    following.process.send_signal(signal.SIGINT)
    assert (following.process.wait(20), following.errors) == (130, "")


def test_one_session_and_filters(daemon: Daemon, tail: Start) -> None:
    """Only what is asked for comes, also of a session that is named by its beginning."""
    for name in ("deploy", "other"):
        append(daemon.log_dir / f"{name}.ndjson", "old", role="assistant")
    daemon.start()
    daemon.wait_for_rows(2)
    following = tail("depl", "--role", "assistant", "--db", daemon.database)
    following.wait_for("old")
    append(daemon.log_dir / "other.ndjson", "of another session", role="assistant")
    append(daemon.log_dir / "deploy.ndjson", "by another role")
    append(daemon.log_dir / "deploy.ndjson", "wanted", role="assistant")
    lines = following.wait_for("wanted").splitlines()
    assert [line.partition(" deploy ")[2] for line in lines] == ["assistant: old", "assistant: wanted"]


@pytest.mark.parametrize("kept", ["database", "no database", "single log"])
def test_without_a_daemon_it_looks_for_itself(
    environment: pytest.MonkeyPatch, tmp_path: Path, tail: Start, kept: str
) -> None:
    """It says so, and goes on with what is appended, also where there is no database, or one log for all.

    What it reads by then stands in no file that has a name: nothing can stay of it.
    """
    environment.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    log = tmp_path / ".codex" / "sessions" / "s.ndjson"
    if kept == "single log":
        log = tmp_path / "all.ndjson"
        environment.setenv("CODEX_LOG_DB_PATH", str(log))
    append(log, "first")
    if kept == "database":
        succeed("codex-import-ndjson --all", tmp_path)
    following = tail()
    following.wait_for("first")
    wait_for(lambda: "no daemon brings new lines" in following.errors, what="the hint")
    append(log, "second")
    following.wait_for("second")
    append(log.with_name("t.ndjson") if kept == "database" else log, "third")
    assert following.wait_for("third").count("second") == 1
    assert following.errors.count("hint") == 1
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.parametrize("made", ["codex-ingestd rebuild", "codex-import-ndjson --all"])
def test_it_goes_on_when_the_database_is_replaced(tmp_path: Path, tail: Start, made: str) -> None:
    """A rebuild puts another file in its place, or there was none: what comes is shown, and nothing twice."""
    append(tmp_path / ".codex" / "sessions" / "s.ndjson", "first")
    if "rebuild" in made:
        succeed("codex-import-ndjson --all", tmp_path)
    following = tail()
    wait_for(lambda: "no daemon" in following.errors, what="it to follow")
    succeed(made, tmp_path)
    append(tmp_path / ".codex" / "sessions" / "s.ndjson", "second")
    append(tmp_path / ".codex" / "sessions" / "t.ndjson", "third")
    output = following.wait_for("second", "third")
    assert [output.count(text) for text in ("first", "second", "third")] == [1, 1, 1]
    assert following.errors.count("hint") == 1


def test_it_ends_when_nobody_reads(tmp_path: Path) -> None:
    """A reader that has what it wanted ends the pipe, though nothing comes any more."""
    append(tmp_path / ".codex" / "sessions" / "s.ndjson", "first", "second")
    command = "codex-logs tail -f 2> /dev/null | head -n 1; echo ${PIPESTATUS[0]}"
    result = shell(command, tmp_path, {"TZ": "UTC"})
    assert result.stdout.splitlines() == ["2026-01-31 09:00:00+0000 s user: first", "0"]


def test_the_newest_are_shown_a_line_each(tmp_path: Path) -> None:
    """With -n of all sessions by time; orders to a terminal are shown, not given; nothing for what isn't there."""
    append(tmp_path / ".codex" / "sessions" / "s.ndjson", "one", "two\nlines \x1b]0;x\x07")
    assert succeed("codex-logs tail -n 1", tmp_path).endswith("s user: two⏎lines \\x1b]0;x\\x07\n")
    assert succeed("codex-logs tail -n 1 --full", tmp_path).endswith("s user: two\n    lines \\x1b]0;x\\x07\n")
    assert succeed("codex-logs tail --kind tool_call", tmp_path) == ""
    result = shell("codex-logs tail x", tmp_path)
    assert (result.returncode, "no session 'x'" in result.stderr) == (2, True)
