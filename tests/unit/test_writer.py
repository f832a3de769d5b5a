"""The writer: what a record becomes, and what an append does to a file and its folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType

import pytest

from codex.logging import Appender, SessionLogger, append_ndjson, log_event, session
from codex.logging.encoding import encode
from tests.daemon import wait_for

Append = Callable[[dict[str, object]], None]


class Mute:
    """An object that can't even be shown."""

    def __str__(self) -> str:
        raise OSError("no words")


def nested(depth: int) -> object:
    """A list in a list in a list …"""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def generations(path: Path) -> list[Path]:
    """The live file and its rotations, oldest first."""
    rotated = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: -int(file.suffix[1:]))
    return [file for file in (*rotated, path) if file.is_file()]


def numbers(path: Path) -> list[int]:
    """The `n` of every line of every generation, oldest first; fails on a line that is no JSON."""
    return [json.loads(line)["n"] for file in generations(path) for line in file.read_text().splitlines()]


def append_run(append: Append, first: int, length: int) -> None:
    """Records numbered from `first` on."""
    for n in range(first, first + length):
        append({"n": n})


@pytest.fixture
def log(log_dir: Path) -> Path:
    """Where a session's file may be made."""
    return log_dir / "s.ndjson"


@pytest.fixture(params=["append_ndjson", "Appender"])
def append(request: pytest.FixtureRequest, log: Path) -> Iterator[Append]:
    """Both ways to append to `log`."""
    if request.param == "append_ndjson":
        yield lambda record: append_ndjson(log, record)
    else:
        with Appender(log) as appender:
            yield appender.append


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ({7}, [7]),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        (datetime(2026, 1, 31, 9, 0, tzinfo=UTC), "2026-01-31 09:00:00+00:00"),
        (Decimal("1.50"), "1.50"),
        (Path("/a/b"), "/a/b"),
        ((1, None, True), [1, None, True]),
        (2**64, 2**64),
        pytest.param(10**5000, hex(10**5000), id="5001 digits"),
        (Mute(), "<Mute>"),
        ({None: 1, True: 2, 3: 4, 1.5: 5}, {"null": 1, "true": 2, "3": 4, "1.5": 5}),
        ({(1, 2): 3, b"k": 4}, {"[1, 2]": 3, "k": 4}),
        ("\ud800 \udcff", "\ud800 \udcff"),
        ("a\nb\r\n\0\u2028\x85é", "a\nb\r\n\0\u2028\x85é"),
    ],
)
@pytest.mark.parametrize("beside", [None, float("nan")], ids=["alone", "beside NaN"])
def test_every_value_becomes_one_line_of_json(value: object, said: object, beside: object) -> None:
    """What JSON can't say is said nearest to it, whatever else stands in the record."""
    line = encode({"v": value, "beside": beside})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["v"] == said


def test_a_cycle_is_cut() -> None:
    """A record that holds itself ends where it would begin again."""
    record: dict[str, object] = {"a": 1}
    record["self"] = record
    assert json.loads(encode(record)) == {"a": 1, "self": "<dict>"}


def test_what_is_nested_too_deep_is_cut() -> None:
    """10,000 levels are no error; the record around them is whole."""
    record = json.loads(encode({"a": 1, "deep": nested(10_000), "z": 2}))
    assert (record["a"], record["z"]) == (1, 2)
    assert "<list>" in json.dumps(record["deep"])


@pytest.mark.parametrize("record", [None, [], "text", b"{}", 1, [("a", 1)]])
def test_what_is_no_dict_is_a_type_error(log: Path, record: dict[str, object]) -> None:
    """The one mistake that is told by an exception, and nothing is written."""
    with pytest.raises(TypeError, match="a record is a dict"):
        append_ndjson(log, record)
    assert not log.exists()


def test_appends_go_behind_what_is_there(append: Append, log: Path) -> None:
    """Compact UTF-8, in order, in the same file: nothing is rewritten."""
    append({"n": 1, "text": "é"})
    inode = log.stat().st_ino
    append({"n": 2})
    assert log.read_bytes() == '{"n":1,"text":"é"}\n{"n":2}\n'.encode()
    assert log.stat().st_ino == inode


def test_a_torn_tail_is_closed_first(append: Append, log: Path) -> None:
    """What a dead writer left can't fuse with the next record."""
    log.write_bytes(b'{"n":0}\n{"n":')
    append({"n": 1})
    append({"n": 2})
    assert log.read_bytes() == b'{"n":0}\n{"n":\n{"n":1}\n{"n":2}\n'


def test_a_log_is_private(append: Append, log: Path) -> None:
    """File and folder are the owner's alone."""
    log.parent.rmdir()
    append({"n": 1})
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_the_mode_that_is_asked_for_is_had(append: Append, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CODEX_LOG_FILE_MODE holds whatever the umask, for new files only."""
    monkeypatch.setenv("CODEX_LOG_FILE_MODE", "0660")
    mask = os.umask(0o077)
    try:
        append({"n": 1})
    finally:
        os.umask(mask)
    assert log.stat().st_mode & 0o777 == 0o660
    log.chmod(0o640)
    append({"n": 2})
    assert log.stat().st_mode & 0o777 == 0o640


def test_test_mode_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TEST_MODE=1: no file, no folder, whatever is called."""
    monkeypatch.setenv("TEST_MODE", "1")
    monkeypatch.setenv("CODEX_SESSION_LOG_DIR", str(tmp_path / "a"))
    append_ndjson(tmp_path / "b" / "x.ndjson", {"n": 1})
    log_event("s", "user", "hello")
    with Appender(tmp_path / "c" / "x.ndjson") as appender, SessionLogger("s") as logger, session(session_id="s"):
        appender.append({"n": 1})
        appender.write(b"{}\n")
        logger.log("user", "hello")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_went_away_is_made_again(append: Append, log: Path) -> None:
    """Deleted, renamed, or gone with its folder: the next record is in a new file of that name."""
    append({"n": 1})
    log.unlink()
    append({"n": 2})
    assert numbers(log) == [2]
    log.rename(log.with_suffix(".old"))
    append({"n": 3})
    assert numbers(log) == [3]
    log.unlink()
    log.with_suffix(".old").unlink()
    log.parent.rmdir()
    append({"n": 4})
    assert numbers(log) == [4]


def test_a_truncated_file_goes_on_at_its_start(append: Append, log: Path) -> None:
    """No hole of NULs after a copytruncate."""
    append({"n": 1})
    os.truncate(log, 0)
    append({"n": 2})
    assert log.read_bytes() == b'{"n":2}\n'


def test_what_cant_be_written_is_one_warning(append: Append, log: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No exception reaches the agent; the first lost record is told of at once, with its size."""
    log.mkdir()
    append({"n": 1})
    assert [record.name for record in caplog.records] == ["codex.logging"]
    assert "8 bytes" in caplog.text


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that takes no folders")
def test_a_folder_that_cant_be_made_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Where a folder that is there says of a new one in it that there is no such place."""
    append_ndjson("/proc/nowhere/sessions/s.ndjson", {"n": 1})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_vanished_working_folder_is_one_warning(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A relative path that can't be made absolute any more doesn't raise."""
    monkeypatch.chdir(log_dir)
    log_dir.rmdir()
    append_ndjson("seen/first/here.ndjson", {"n": 1})
    assert len(caplog.records) == 1


def test_warnings_that_are_logged_through_us_dont_recurse(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent may send its own logging to its session's log, also when that can't be written."""
    monkeypatch.setattr("codex.logging.writer._lost", {})
    heard: list[str] = []

    class ToSession(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())
            append_ndjson(log, {"n": len(heard)})

    handler = ToSession()
    logging.getLogger().addHandler(handler)
    log.mkdir()
    try:
        append_ndjson(log, {"n": 0})
    finally:
        logging.getLogger().removeHandler(handler)
    assert len(heard) == 1


def test_a_handler_that_raises_doesnt_reach_the_agent(log: Path) -> None:
    """Not even a broken logging configuration makes an append raise."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("broken")

    handler = Broken()
    logging.getLogger("codex.logging").addHandler(handler)
    log.mkdir()
    try:
        append_ndjson(log, {"n": 0})
    finally:
        logging.getLogger("codex.logging").removeHandler(handler)


def test_rotation_shifts_and_keeps_every_line(append: Append, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is renamed once it has reached the size; older ones move up; all is there, in order."""
    monkeypatch.setenv("NDJSON_MAX_BYTES", "40")
    for n in range(50):
        append({"n": n, "pad": "x" * 10})
    assert numbers(log) == list(range(50))
    files = generations(log)
    assert len(files) == 25
    assert all(file.stat().st_size >= 40 for file in files[:-1])


def test_a_gap_in_the_numbers_is_filled(append: Append, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the names up to the first free one move."""
    for number, n in ((1, 20), (3, 10)):
        Path(f"{log}.{number}").write_text(f'{{"n":{n}}}\n')
    log.write_text('{"n":30}\n')
    monkeypatch.setenv("NDJSON_MAX_BYTES", "1")
    append({"n": 40})
    assert numbers(log) == [10, 20, 30, 40]
    assert not Path(f"{log}.4").exists()


def test_a_folder_under_a_rotated_name_costs_nothing(
    append: Append, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is moved up like a file; no line is lost, nor what it holds."""
    Path(f"{log}.1").mkdir()
    Path(f"{log}.1", "inside").touch()
    log.write_text('{"n":1}\n')
    monkeypatch.setenv("NDJSON_MAX_BYTES", "1")
    append({"n": 2})
    append({"n": 3})
    assert numbers(log) == [1, 2, 3]
    assert Path(f"{log}.3", "inside").exists()


def test_a_file_that_cant_be_renamed_grows_on(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No rotation, one warning in all, every line."""
    log = log_dir / ("x" * 248 + ".ndjson")  # the longest name there is: none behind it
    monkeypatch.setenv("NDJSON_MAX_BYTES", "1")
    for n in range(5):
        append_ndjson(log, {"n": n})
    assert numbers(log) == list(range(5))
    assert len(caplog.records) == 1


def test_threads_may_share_an_appender(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record once, with rotation in between."""
    monkeypatch.setenv("NDJSON_MAX_BYTES", "2000")
    with Appender(log) as appender:
        threads = [
            threading.Thread(target=append_run, args=(appender.append, first, 300)) for first in range(0, 2400, 300)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(numbers(log)) == list(range(2400))


def child(work: Callable[[], object]) -> int:
    """A forked process that does this work and nothing else; it exits 0 when the work returned."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def ended(pid: int) -> int | None:
    """The exit code of a child, None as long as it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def test_a_forked_child_has_no_share_in_the_lock(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the parent holds it, the child appends without, and so doesn't rotate."""
    monkeypatch.setattr("codex.logging.writer.LOCK_SECONDS", 0.1)
    with Appender(log) as appender:
        appender.append({"n": 1})
        fcntl.flock(appender._descriptor, fcntl.LOCK_EX)
        monkeypatch.setenv("NDJSON_MAX_BYTES", "1")
        pid = child(lambda: appender.append({"n": 2}))
        wait_for(lambda: ended(pid) == 0)
        assert generations(log) == [log]
        appender.append({"n": 3})
    assert numbers(log) == [1, 2, 3]


def test_parent_and_child_append_at_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both through the Appender that was open at the fork: every record once, with rotation in between."""
    monkeypatch.setenv("NDJSON_MAX_BYTES", "300")
    with Appender(log) as appender:
        appender.append({"n": -1})
        pid = child(lambda: append_run(appender.append, 0, 500))
        append_run(appender.append, 500, 500)
        wait_for(lambda: ended(pid) == 0)
    assert sorted(numbers(log)) == list(range(-1, 1000))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_another_threads_append(log: Path) -> None:
    """The child doesn't wait for a thread that it hasn't got."""
    with Appender(log) as appender:
        appender.append({"n": 0})
        holder = os.open(log, os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        thread = threading.Thread(target=appender.append, args=({"n": 1},))
        thread.start()
        waiting = Appender._lock.__code__
        wait_for(lambda: sys._current_frames()[thread.ident or 0].f_code is waiting)
        pid = child(lambda: appender.append({"n": 2}))
        fcntl.flock(holder, fcntl.LOCK_UN)
        thread.join()
        wait_for(lambda: ended(pid) == 0, seconds=5)
        os.close(holder)
    assert sorted(numbers(log)) == [0, 1, 2]


@contextmanager
def alarm(handler: Callable[[int, FrameType | None], object], seconds: float, interval: float = 0) -> Iterator[None]:
    """SIGALRM after so many seconds, and then again at each interval."""
    former = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_a_signal_handler_may_append_in_the_middle_of_an_append(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It doesn't wait for the lock that its own thread holds, and neither record is harmed."""
    monkeypatch.setenv("NDJSON_MAX_BYTES", "5000")
    signals = count(1)
    handled: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        n = next(signals)
        (appender.append if n % 2 else partial(append_ndjson, log))({"n": -n})
        handled.append(-n)

    began = time.monotonic()
    with Appender(log) as appender, alarm(handler, 0.0003, 0.0007):
        for n in range(3000):
            (appender.append if n % 2 else partial(append_ndjson, log))({"n": n})
    assert time.monotonic() - began < 1.9
    assert len(handled) > 20
    assert sorted(numbers(log)) == sorted([*handled, *range(3000)])


def test_a_signal_handler_may_raise_in_the_middle_of_an_append(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt at any moment leaves the lock free and every line whole."""
    monkeypatch.setenv("NDJSON_MAX_BYTES", "5000")

    def handler(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    written = 0
    with Appender(log) as appender:
        for microseconds in range(100, 400):
            with suppress(KeyboardInterrupt), alarm(handler, microseconds / 1e6):
                while True:
                    appender.append({"n": written})
                    written += 1
            other = os.open(log, os.O_RDONLY | os.O_CREAT)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(other)
    assert set(numbers(log)) - {written} == set(range(written))
