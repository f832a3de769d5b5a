"""Hooks: at least once for each session_end, recorded, retried, and in nobody's way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from codex.logging.store.connection import open_reader
from codex_ingestd.hooks import runner
from codex_ingestd.hooks.hook import Command, Details, HookError
from codex_ingestd.hooks.runner import HookRunners
from tests.commands import shell, succeed
from tests.daemon import Daemon, wait_for
from tests.importer import Importer

COPY = "codex_session_logs.db"
END = '{"ts":"2026-01-02T03:04:05Z","type":"session_end","exit_code":0,"duration_s":7,"summary":"well"}\n'


class Script:
    """An executable of the user's, which first appends what it is given as a line to `given`."""

    def __init__(self, folder: Path, then: str = "") -> None:
        self.path = folder / "hook.sh"
        self.given = folder / "given"
        self.given.touch()
        self.path.write_text(f"#!/bin/sh\ncat >> '{self.given}'\n{then}\n", "utf-8")
        self.path.chmod(0o755)

    def details(self) -> list[dict[str, Any]]:
        """What each run was given."""
        return [json.loads(line) for line in self.given.read_text("utf-8").splitlines()]

    def wait_for_runs(self, count: int) -> list[dict[str, Any]]:
        """What the runs were given, once there are that many."""
        wait_for(lambda: len(self.details()) >= count, what=f"{count} runs of the hook")
        return self.details()


def end(log_dir: Path, *names: str) -> None:
    """Append a message and an end to each of the sessions."""
    for name in names:
        with (log_dir / f"{name}.ndjson").open("a", encoding="utf-8") as log:
            log.write('{"role":"user","message":"hello"}\n' + END)


def runs(database: Path) -> list[tuple[Any, ...]]:
    """(session, seq, state, tries, error) of each run that is recorded."""
    query = "SELECT session_id, seq, state, tries, error FROM hook_runs ORDER BY hook, event"
    with closing(open_reader(str(database))) as connection:
        return list(connection.execute(query))


def wait_for_states(database: Path, *states: str) -> None:
    """Until the recorded runs are in these states."""
    wait_for(lambda: [run[2] for run in runs(database)] == list(states), what=f"{states}")


def living(group: str) -> list[str]:
    """The processes of the group that are no zombies."""
    table = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, check=True, text=True).stdout
    return [line for line in table.splitlines() if line.split()[0] == group and line.split()[1][0] != "Z"]


def test_command_runs_once_for_each_end(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """The command gets each session_end's details as one JSON line; what ran is recorded, and not run again."""
    script = Script(tmp_path, "echo thanks")
    daemon.start("--hook", str(script.path))
    end(log_dir, "a")
    details = script.wait_for_runs(1)[0]
    end(log_dir, "b", "a")
    script.wait_for_runs(3)
    wait_for_states(daemon.database, "done", "done", "done")
    assert runs(daemon.database) == [("a", 2, "done", 1, None), ("a", 4, "done", 1, None), ("b", 2, "done", 1, None)]
    assert details == {
        "session_id": "a",
        "generation": 1,
        "seq": 2,
        "part": 0,
        "kind": "session_end",
        "ts": "2026-01-02T03:04:05.000Z",
        "message": "session_end",
        "meta": {"type": "session_end", "exit_code": 0, "duration_s": 7, "summary": "well"},
        "path": str(log_dir / "a.ndjson"),
        "database": str(daemon.database),
        "tries": 1,
    }
    assert daemon.told("hook said: thanks", session_id="b")
    assert daemon.stop() == 0
    daemon.start("--hook", str(script.path))
    assert daemon.stop() == 0
    assert len(script.details()) == 3


def test_failing_command_is_tried_again(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """A command that fails is run again after 1 s, 2 s, …; its code and its words are recorded until it succeeds."""
    script = Script(tmp_path, f"[ $(wc -l < '{tmp_path}/given') -ge 3 ] || {{ echo not yet; exit 4; }}")
    daemon.start("--hook", str(script.path))
    end(log_dir, "a")
    script.wait_for_runs(1)
    wait_for(lambda: runs(daemon.database)[0][4], what="the error")
    assert runs(daemon.database) == [("a", 2, "due", 1, "ended with 4: not yet")]
    script.wait_for_runs(3)
    wait_for_states(daemon.database, "done")
    assert runs(daemon.database) == [("a", 2, "done", 3, None)]
    assert [details["tries"] for details in script.details()] == [1, 2, 3]
    assert len(daemon.told("hook failed: ended with 4: not yet")) == 2


def test_hanging_command_is_killed_and_holds_up_nothing(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """While a command hangs, rows come in and other hooks run; at its limit it is killed with all that it started."""
    script = Script(tmp_path, f"echo $$ > '{tmp_path}/pid'; sleep 30 & sleep 30")
    daemon.start("--hook", str(script.path), "--hook", "finalize", "--hook-seconds", "3")
    end(log_dir, "a")
    script.wait_for_runs(1)
    wait_for((tmp_path / "pid").exists)
    end(log_dir, "b")
    daemon.wait_for_rows(2, "b")
    wait_for(lambda: daemon.told("hook ran", hook="finalize"))
    group = (tmp_path / "pid").read_text("utf-8").strip()
    assert len(living(group)) >= 3
    wait_for(lambda: daemon.told("hook failed: killed after 3 s"))
    wait_for(lambda: not living(group))


def test_killed_daemon_runs_the_hook_at_its_next_start(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """SIGKILL while a hook is at work, after the commit of its event: the next daemon runs it."""
    script = Script(tmp_path, f"until [ -e '{tmp_path}/go' ]; do sleep 0.1; done")
    daemon.start("--hook", str(script.path))
    end(log_dir, "a")
    script.wait_for_runs(1)
    daemon.kill()
    (tmp_path / "go").touch()
    daemon.start("--hook", str(script.path))
    assert script.wait_for_runs(2)[1]["tries"] == 2
    wait_for_states(daemon.database, "done")


def test_end_that_was_committed_without_a_daemon_is_run(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """What an importer committed while no daemon ran is due at the next start."""
    script = Script(tmp_path)
    daemon.start("--hook", str(script.path))
    assert daemon.stop() == 0
    end(log_dir, "a")
    succeed(f"codex-import-ndjson --all --log-dir {log_dir} --db {daemon.database}", tmp_path)
    daemon.start("--hook", str(script.path))
    script.wait_for_runs(1)


def test_hook_begins_with_what_ends_after_it_was_configured(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """Sessions that ended before a hook was there are not its business; for a hook that was away they are."""
    script = Script(tmp_path)
    end(log_dir, "old")
    daemon.start()
    daemon.wait_for_rows(2)
    assert daemon.stop() == 0
    for arguments, name in (
        (("--hook", str(script.path)), "new"),
        ((), "away"),
        (("--hook", str(script.path)), "back"),
    ):
        daemon.start(*arguments)
        end(log_dir, name)
        daemon.wait_for_rows(2, name)
        assert daemon.stop() == 0
    assert {details["session_id"] for details in script.details()} == {"new", "away", "back"}


def test_end_just_before_a_stop_is_still_run(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """SIGTERM right behind a session_end: the hook has run when the daemon has ended."""
    script = Script(tmp_path)
    daemon.start("--hook", str(script.path))
    end(log_dir, "a")
    assert daemon.stop() == 0
    assert len(script.details()) == 1


@pytest.mark.long
def test_hanging_hook_delays_a_stop_by_ten_seconds_at_most(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """A stop waits 10 s for a hook, says so, and ends with 0; the run stays due."""
    script = Script(tmp_path, "exec sleep 60")
    daemon.start("--hook", str(script.path))
    end(log_dir, "a")
    script.wait_for_runs(1)
    assert daemon.stop(15) == 0
    assert daemon.told("hooks still at work")
    assert runs(daemon.database) == [("a", 2, "due", 1, None)]


def test_command_that_cannot_be_started_is_recorded(daemon: Daemon, log_dir: Path) -> None:
    """A program that isn't there fails like any other, and stops nobody."""
    daemon.start("--hook", "/no/such/program --flag")
    end(log_dir, "a")
    wait_for(lambda: daemon.told("hook failed: can't be started"))
    end(log_dir, "b")
    daemon.wait_for_rows(2, "b")


def test_finalize_runs_when_a_session_has_ended(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """With CODEX_FINALIZE=1 the copy holds the session's end, goes to the backup folder, and is staged."""
    succeed("git init -q", tmp_path)
    backups = tmp_path / "backups"
    daemon.start(env={"CODEX_FINALIZE": "1", "GH_COPILOT_BACKUP_ROOT": str(backups)})
    end(log_dir, "a")
    wait_for(lambda: daemon.told("hook ran", hook="finalize"))
    (backup,) = backups.glob(f"*/{COPY}")
    for copy in (tmp_path / COPY, backup):
        with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            kinds = connection.execute("SELECT kind FROM events ORDER BY id").fetchall()
        assert kinds == [("message",), ("session_end",)]
    assert succeed("git ls-files", tmp_path).split() == [COPY, "session_logs.db"]
    wait_for_states(daemon.database, "done")


def test_one_finalize_does_for_all_that_are_due(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """Twenty ends at once are one copy, not twenty."""
    daemon.start("--finalize")
    assert daemon.stop() == 0
    end(log_dir, *map(str, range(20)))
    succeed(f"codex-import-ndjson --all --log-dir {log_dir} --db {daemon.database}", tmp_path)
    daemon.start("--finalize")
    wait_for_states(daemon.database, *["done"] * 20)
    assert [record["events"] for record in daemon.told("hook ran")] == [20]


def test_finalize_that_could_not_stage_is_tried_again(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """A held index is a failure that passes: the next try stages."""
    succeed("git init -q", tmp_path)
    (tmp_path / ".git" / "index.lock").touch()
    daemon.start("--finalize")
    end(log_dir, "a")
    wait_for(lambda: daemon.told("index.lock"))
    (tmp_path / ".git" / "index.lock").unlink()
    wait_for_states(daemon.database, "done")
    assert COPY in succeed("git ls-files", tmp_path)


def test_archive_copies_outside_alone(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """The archive hook makes the copy in GH_COPILOT_BACKUP_ROOT and none beside the database."""
    daemon.start("--hook", "archive", env={"GH_COPILOT_BACKUP_ROOT": str(tmp_path / "backups")})
    end(log_dir, "a")
    wait_for(lambda: daemon.told("hook ran", hook="archive"))
    assert len(list((tmp_path / "backups").glob(f"*/{COPY}"))) == 1
    assert not (tmp_path / COPY).exists()


@pytest.mark.parametrize("hook", ["archive", "", "unterminated '"])
def test_hook_that_cannot_work_is_refused_at_the_start(tmp_path: Path, hook: str) -> None:
    """No place to archive to, no command, no command line: exit code 2 and a word on it."""
    result = shell(f'codex-ingestd run --hook "{hook}"', tmp_path)
    assert result.returncode == 2
    assert "error: " in result.stderr


class Recorder:
    """A hook within this process that notes its details, and fails as often as asked."""

    name, when = "recorder", "session_end"

    def __init__(self, *, covers: bool = False, failures: int = 0) -> None:
        self.covers = covers
        self.ran: list[Details] = []
        self._failures = failures

    def run(self, details: Details) -> None:
        """Note them."""
        self.ran.append(details)
        if len(self.ran) <= self._failures:
            raise HookError("asked to fail")


@pytest.fixture
def importer(log_dir: Path, database: Path) -> Iterator[Importer]:
    """An engine on `log_dir` and `database`."""
    with closing(Importer(log_dir, database)) as opened:
        yield opened


@pytest.fixture
def hasty(environment: pytest.MonkeyPatch) -> None:
    """Hooks are looked for, and tried again, without the usual waits; three tries are all."""
    environment.setattr(runner, "LOOK_SECONDS", 0.01)
    environment.setattr(runner, "_RETRY", (0.01, 0.02))
    environment.setattr(runner, "TRIES", 3)


@pytest.mark.usefixtures("hasty")
def test_end_on_a_line_that_was_begun_before_is_found(importer: Importer, log_dir: Path, database: Path) -> None:
    """An end that is glued on a line whose first part was looked at already is the same line's part 1."""
    recorder = Recorder()
    with HookRunners(str(database), [recorder]) as runners:
        (log_dir / "a.ndjson").write_text('{"message":"open tail"}', "utf-8")
        importer.sweep()
        looked = "SELECT count(*) FROM hook_watermarks WHERE generation = 1"
        wait_for(lambda: importer.store.connection.execute(looked).fetchone() == (1,))
        with (log_dir / "a.ndjson").open("a", encoding="utf-8") as log:
            log.write(END)
        importer.sweep()
        runners.drain()
    assert [(details.seq, details.part) for details in recorder.ran] == [(1, 1)]


@pytest.mark.usefixtures("hasty")
def test_ends_of_each_life_of_a_file_are_found(importer: Importer, log_dir: Path, database: Path) -> None:
    """Before and after a rotation, and in lines that came late to the rotated file."""
    recorder = Recorder()
    with HookRunners(str(database), [recorder]) as runners:
        end(log_dir, "a")
        importer.sweep()
        (log_dir / "a.ndjson").rename(log_dir / "a.ndjson.1")
        end(log_dir, "a")
        importer.sweep()
        wait_for(lambda: len(recorder.ran) == 2)
        with (log_dir / "a.ndjson.1").open("a", encoding="utf-8") as log:
            log.write(END)
        importer.sweep()
        runners.drain()
    assert [(details.generation, details.seq) for details in recorder.ran] == [(1, 2), (2, 4), (1, 5)]


@pytest.mark.usefixtures("hasty")
def test_hook_that_always_fails_is_given_up(importer: Importer, log_dir: Path, database: Path) -> None:
    """After its last try a run is recorded as failed, with the last error."""
    recorder = Recorder(failures=1000)
    with HookRunners(str(database), [recorder]):
        end(log_dir, "a")
        importer.sweep()
        wait_for_states(database, "failed")
    assert runs(database) == [("a", 2, "failed", 3, "asked to fail")]
    assert [details.tries for details in recorder.ran] == [1, 2, 3]


@pytest.mark.usefixtures("hasty")
def test_run_of_a_purged_session_is_over(importer: Importer, log_dir: Path, database: Path) -> None:
    """A run that waits for its next try when its session is purged is not made."""
    end(log_dir, "a")
    with HookRunners(str(database), [Recorder()]):
        importer.sweep()
    stream = importer.store.stream(str(log_dir), "a.ndjson")
    assert stream is not None
    with HookRunners(str(database), [Recorder(failures=1000)]) as runners:
        wait_for(lambda: runs(database) and runs(database)[0][3])
        importer.store.purge(stream)
        wait_for_states(database, "gone")
        runners.drain()


@pytest.mark.usefixtures("hasty")
def test_success_of_a_hook_that_covers_ends_what_waited(importer: Importer, log_dir: Path, database: Path) -> None:
    """A run that failed before is over with the next success, which was for a later session."""
    recorder = Recorder(covers=True, failures=1)
    with HookRunners(str(database), [recorder]):
        end(log_dir, "a")
        importer.sweep()
        wait_for(lambda: recorder.ran)
        end(log_dir, "b")
        importer.sweep()
        wait_for_states(database, "done", "done")
    assert len(recorder.ran) in {2, 3}


def test_what_a_command_says_is_bounded(tmp_path: Path) -> None:
    """Of ten megabytes the last 16 KiB are kept, and the command doesn't wait for anybody to read them."""
    script = Script(tmp_path, "head -c 10000000 /dev/zero | tr '\\0' x; echo the end; exit 1")
    details = Details("a", 1, 1, 0, "session_end", None, "", None, "", "", 1)
    with pytest.raises(HookError, match=r"x+the end") as failure:
        Command([str(script.path)]).run(details)
    assert len(str(failure.value)) < 17_000


def test_details_that_are_no_plain_json_are_given_as_text(tmp_path: Path) -> None:
    """Meta nested too deep to be decoded comes as a string; half a surrogate pair doesn't stop the command."""
    script = Script(tmp_path)
    deep = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"
    Command([str(script.path)]).run(Details("a", 1, 1, 0, "session_end", None, "\ud83d", deep, "", "", 1))
    assert script.details()[0]["meta"] == deep


def test_rebuilt_database_knows_what_ran(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """What hooks did, and what was due, is the same after `rebuild`."""
    script = Script(tmp_path)
    daemon.start("--hook", str(script.path))
    end(log_dir, "a")
    wait_for(lambda: daemon.told("hook ran"))
    assert daemon.stop() == 0
    before = runs(daemon.database)
    succeed(f"codex-ingestd rebuild --db {daemon.database}", tmp_path)
    assert runs(daemon.database) == before
    assert daemon.scalar("SELECT count(*) FROM hook_watermarks") == 2


@pytest.mark.long
def test_each_end_is_run_for_through_kills(daemon: Daemon, log_dir: Path, tmp_path: Path) -> None:
    """SIGKILL right behind commits, twenty times: at the end each session_end had its run, and is recorded as done."""
    script = Script(tmp_path)
    names = [f"s{number}" for number in range(200)]
    for start in range(0, 200, 10):
        daemon.start("--hook", str(script.path))
        end(log_dir, *names[start : start + 10])
        daemon.wait_for_rows(start * 2 + 11)
        daemon.kill()
    daemon.start("--hook", str(script.path))
    wait_for(lambda: {run[2] for run in runs(daemon.database)} == {"done"} and len(runs(daemon.database)) == 200)
    assert {details["session_id"] for details in script.details()} == set(names)
