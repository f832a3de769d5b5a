"""Sessions: which id, what their records say, and that each has one true end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from codex.logging import (
    SessionLogger,
    append_ndjson,
    config,
    end_session,
    get_session_id,
    log_event,
    log_message,
    session,
    start_session,
)
from codex.logging.errors import SessionIdError

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(autouse=True)
def folder(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sessions' files lie."""
    monkeypatch.setenv("CODEX_SESSION_LOG_DIR", str(log_dir))
    return log_dir


def records(path: Path) -> list[dict[str, object]]:
    """Every line of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ends(path: Path) -> list[dict[str, object]]:
    """Its session_end records: there must be one."""
    return [record for record in records(path) if record["type"] == "session_end"]


PRELUDE = """
import os, signal, sys, time
from codex.logging import SessionLogger, session
def idle():
    while True: time.sleep(0.01)  # a long sleep would outlast a signal that came just before it began
"""


def program(source: str) -> subprocess.Popen[str]:
    """A Python program of its own, whose session is `s`."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + source],
        env={**os.environ, "CODEX_SESSION_ID": "s"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(source: str) -> tuple[int, str]:
    """How such a program ended: its code (negative for a signal) and what it said."""
    process = program(source)
    said, complaints = process.communicate(timeout=20)
    return process.returncode, said + complaints


def test_an_id_is_made_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A UUID4, handed down to child processes by the environment."""
    monkeypatch.setenv("CODEX_SESSION_ID", "")
    session_id = get_session_id()
    assert uuid.UUID(session_id).version == 4
    assert get_session_id() == session_id == os.environ["CODEX_SESSION_ID"]


def test_a_given_id_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """SESSION_ID_SOURCE is used where CODEX_SESSION_ID is unset, and then kept there."""
    monkeypatch.setenv("CODEX_SESSION_ID", "")
    monkeypatch.setenv("SESSION_ID_SOURCE", "source")
    assert get_session_id() == "source" == os.environ["CODEX_SESSION_ID"]
    monkeypatch.setenv("CODEX_SESSION_ID", "codex")
    assert get_session_id() == "codex"


def test_threads_get_the_same_new_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first makes it, however long that takes."""
    monkeypatch.setenv("CODEX_SESSION_ID", "")
    make = uuid.uuid4

    def slow_make() -> uuid.UUID:
        threading.Event().wait(0.02)
        return make()

    monkeypatch.setattr(uuid, "uuid4", slow_make)
    found: set[str] = set()
    threads = [threading.Thread(target=lambda: found.add(get_session_id())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


@pytest.mark.parametrize("session_id", ["../../x", "a\0b", "x" * 300, "-x", "", ".", "con", "é", "a."])
def test_a_hostile_id_is_refused_everywhere(
    session_id: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every function that takes one, and from the environment; nothing is written, here or elsewhere."""
    with pytest.raises(SessionIdError):
        log_event(session_id, "user", "hello")
    with pytest.raises(SessionIdError):
        log_message(session_id, "user", "hello", tmp_path / "x.ndjson")
    with pytest.raises(SessionIdError):
        start_session(session_id)
    with pytest.raises(SessionIdError):
        end_session(session_id)
    with pytest.raises(SessionIdError):
        SessionLogger(session_id)
    with pytest.raises(SessionIdError), session(session_id=session_id):
        pass
    if session_id and "\0" not in session_id:
        monkeypatch.setenv("CODEX_SESSION_ID", session_id)
        with pytest.raises(SessionIdError):
            get_session_id()
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_a_message_has_a_role_we_know(folder: Path) -> None:
    """Another one is a ValueError that names those there are."""
    for role in ("system", "user", "assistant", "tool", "INFO", "WARN"):
        log_event("s", role, f"by {role}", meta={"model": "m", "message": "not this one"})
    with pytest.raises(ValueError, match="assistant"):
        log_event("s", "root", "hello")
    first, *rest = records(folder / "s.ndjson")
    assert len(rest) == 5
    assert TIME.fullmatch(str(first.pop("ts")))
    assert first == {"model": "m", "type": "message", "session_id": "s", "role": "system", "message": "by system"}


def test_a_session_has_a_start_an_end_and_a_meta_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seeds' keys and types."""
    monkeypatch.chdir(folder)
    with session(["agent", "--flag"], session_id="s"):
        log_event("s", "user", "hello")
    start, message, end = records(folder / "s.ndjson")
    assert (folder / "s.meta").read_text() == f"{start['ts']} session_start s\n"
    assert (folder / "s.meta").stat().st_mode & 0o777 == 0o600
    assert all(TIME.fullmatch(str(record.pop("ts"))) for record in (start, message, end))
    assert start == {"type": "session_start", "session_id": "s", "cwd": str(folder), "argv": ["agent", "--flag"]}
    assert end == {"type": "session_end", "session_id": "s", "exit_code": 0, "duration_s": 0}


def test_a_meta_file_tells_every_start(folder: Path) -> None:
    """A resumed session adds a line."""
    start_session("s")
    start_session("s")
    assert len((folder / "s.meta").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (SystemExit(0), 0),
        (SystemExit(None), 0),
        (SystemExit(3), 3),
        (SystemExit("text"), 1),
        (SystemExit(-1), 255),
        (SystemExit(True), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("bad"), 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("manager", [session, SessionLogger])
def test_the_end_tells_how_it_ended(
    manager: type[session] | type[SessionLogger], raised: BaseException, code: int, folder: Path
) -> None:
    """The exit code is the interpreter's; the exception itself goes on to the caller."""
    with pytest.raises(type(raised)) as caught, manager(session_id="s"):
        raise raised
    assert caught.value is raised
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] == code
    assert type(end["exit_code"]) is int
    assert type(end["duration_s"]) is int
    assert end.get("error") == (None if isinstance(raised, SystemExit) else f"{type(raised).__name__}: {raised}")


def test_an_exception_that_cant_be_shown_is_recorded_by_its_type(folder: Path) -> None:
    """Its broken __str__ doesn't take its place."""

    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("broken")

    with pytest.raises(Mute), session(session_id="s"):
        raise Mute
    assert ends(folder / "s.ndjson")[0]["error_type"] == "Mute"


@pytest.mark.parametrize("manager", [session, SessionLogger])
def test_a_failing_log_never_masks_the_callers_exception(
    manager: type[session] | type[SessionLogger], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log can't be written, or its name has become impossible: one warning each, the same exception."""

    def fail(running: session | SessionLogger) -> None:
        if running.session_id == "s":
            (folder / "s.ndjson").unlink()
            (folder / "s.ndjson").mkdir()
        else:
            running.session_id = "../t"
        raise ZeroDivisionError

    for session_id in ("s", "t"):
        with pytest.raises(ZeroDivisionError), manager(session_id=session_id) as running:
            fail(running)
    assert [record.getMessage()[:10] for record in caplog.records] == ["not logged", "session_en"]


def test_a_logger_keeps_its_file_open_and_notices_that_it_went(folder: Path) -> None:
    """Messages, start and end are in one file, in order."""
    with SessionLogger("s") as logger:
        (folder / "s.ndjson").rename(folder / "s.ndjson.1")
        logger.log("user", "hello", meta={"k": 1})
    assert [record["type"] for record in records(folder / "s.ndjson")] == ["message", "session_end"]


@pytest.mark.parametrize("variable", ["CODEX_LOG_DB_PATH", "CODEX_DB_PATH"])
def test_a_database_path_may_name_a_log(
    variable: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writers then write there, and nowhere else."""
    monkeypatch.setenv(variable, str(tmp_path / "all" / "one.ndjson"))
    with session(session_id="s"), SessionLogger("t") as logger:
        logger.log("user", "hello")
        log_event("s", "user", "hello")
    assert len(records(tmp_path / "all" / "one.ndjson")) == 6
    assert (tmp_path / "all" / "one.meta").exists()
    assert list(folder.iterdir()) == []
    log_event("s", "user", "hello", tmp_path / "other.db")
    assert len(records(folder / "s.ndjson")) == 1


def test_relative_paths_hold_from_first_use_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that changes its working folder goes on in the same file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(config, "_first_seen", {})
    monkeypatch.setenv("CODEX_SESSION_LOG_DIR", "logs")
    monkeypatch.chdir(tmp_path / "a")
    append_ndjson("own.ndjson", {"type": "other"})
    with session(session_id="s"):
        monkeypatch.chdir(tmp_path / "b")
        log_event("s", "user", "hello")
        append_ndjson("own.ndjson", {"type": "other"})
    assert len(records(tmp_path / "a" / "logs" / "s.ndjson")) == 3
    assert len(records(tmp_path / "a" / "own.ndjson")) == 2
    assert list((tmp_path / "b").iterdir()) == []


def test_the_end_is_written_at_exit(folder: Path) -> None:
    """A program that never leaves the `with` still ends; its code isn't known."""
    assert outcome("running = session(); running.__enter__(); sys.exit(3)") == (3, "")
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] is None


def test_a_program_that_exits_in_the_with_ends_once(folder: Path) -> None:
    """Not again at exit."""
    assert outcome("with session(): sys.exit(3)") == (3, "")
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] == 3


@pytest.mark.parametrize("manager", ["session", "SessionLogger"])
def test_a_forked_child_doesnt_end_the_session(manager: str, folder: Path) -> None:
    """Only the process that began it does, whichever way the child leaves."""
    source = f"""
with {manager}():
    children = []
    for leave in (sys.exit, os._exit, lambda code: os.kill(os.getpid(), signal.SIGTERM)):
        child = os.fork()
        if not child:
            leave(7)
            idle()
        children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(children)
"""
    assert outcome(source) == (0, f"[7, 7, {-signal.SIGTERM}]\n")
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] == 0


def terminated(source: str) -> tuple[int, str]:
    """How a program ended that got SIGTERM as soon as it had printed its first line."""
    process = program(source)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.terminate()
    said, complaints = process.communicate(timeout=20)
    return process.returncode, first + said + complaints


def test_sigterm_ends_the_session_and_the_process(folder: Path) -> None:
    """By the signal, as without us, and with its code in the record."""
    code, said = terminated("with session():\n    print(1, flush=True); idle()")
    assert (code, said) == (-signal.SIGTERM, "1\n")
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] == 143


def test_sigterm_ends_sessions_in_sessions(folder: Path) -> None:
    """Each of them, the inner one first."""
    source = "with session(), session(session_id='t'):\n    print(1, flush=True); idle()"
    assert terminated(source)[0] == -signal.SIGTERM
    assert [end["exit_code"] for name in "st" for end in ends(folder / f"{name}.ndjson")] == [143, 143]


def test_a_former_sigterm_handler_is_chained(folder: Path) -> None:
    """The program's own handler decides: here it leaves with a code, which is the session's."""
    source = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with session(), session(session_id='t'):
    print(1, flush=True); idle()
"""
    assert terminated(source) == (7, "1\n")
    assert [end["exit_code"] for name in "st" for end in ends(folder / f"{name}.ndjson")] == [7, 7]


def test_a_program_may_live_through_sigterm(folder: Path) -> None:
    """Its handler returned, before or after us in the chain: the session goes on to its own end."""
    source = """
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append('former'))
with session():
    ours = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *details: (got.append('later'), ours(*details)))
    print(1, flush=True)
    while not got: time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
print(got)
"""
    assert terminated(source) == (0, "1\n['later', 'former', 'later', 'former']\n")
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] == 0


def test_an_ignored_sigterm_stays_ignored(folder: Path) -> None:
    """nohup's kind of program doesn't begin to die."""
    source = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with session():
    os.kill(os.getpid(), signal.SIGTERM)
print(signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
"""
    assert outcome(source) == (0, "True\n")
    assert len(ends(folder / "s.ndjson")) == 1


def test_the_former_handler_is_back_after_the_session() -> None:
    """Nothing of ours stays behind."""
    before = signal.getsignal(signal.SIGTERM)
    with session(session_id="s"):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_session_may_live_in_a_thread(folder: Path) -> None:
    """Only the main thread may set handlers; elsewhere there is none, and no error."""

    def work() -> None:
        with session(session_id="s"):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(ends(folder / "s.ndjson")) == 1


def test_sigterm_while_the_end_is_written_waits_for_it(folder: Path) -> None:
    """The true end is in the log, whole and once, and the process still dies by the signal."""
    source = """
import fcntl, threading
from codex.logging.writer import Appender
def strike():
    main = threading.main_thread().ident
    while sys._current_frames()[main].f_code is not Appender._lock.__code__: time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
    fcntl.flock(holder, fcntl.LOCK_UN)
with session():
    holder = os.open(os.environ['CODEX_SESSION_LOG_DIR'] + '/s.ndjson', os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    threading.Thread(target=strike).start()
    sys.exit(3)
"""
    assert outcome(source) == (-signal.SIGTERM, "")
    (end,) = ends(folder / "s.ndjson")
    assert end["exit_code"] == 3
