"""Writers as processes: many at once, and with a stuck lock, a full disk, failing calls, no rights."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex.logging import Appender, append_ndjson, import_session

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace isn't installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and drops rights: root only")

WRITER = """
import sys
from codex.logging import Appender, append_ndjson
writer, records, *paths = sys.argv[1:]
appenders = [Appender(path) for path in paths]
for n in range(int(records)):
    record = {"writer": int(writer), "n": n, "pad": "é" * (n % 97)}
    if int(writer) % 2:
        appenders[n % len(paths)].append(record)
    else:
        append_ndjson(paths[n % len(paths)], record)
"""


def lines(folder: Path) -> list[dict[str, int]]:
    """Every line of every file of every generation; fails on one that is torn."""
    found = []
    for file in folder.glob("*.ndjson*"):
        data = file.read_bytes()
        assert data.endswith(b"\n") or not data
        found += [json.loads(line) for line in data.splitlines()]
    return found


def write_at_once(folder: Path, records: int, limit: int) -> None:
    """Eight processes append that many records each to three files that rotate; every one is there once."""
    paths = [str(folder / f"{name}.ndjson") for name in "abc"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(writer), str(records), *paths],
            env={**os.environ, "NDJSON_MAX_BYTES": str(limit)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in range(8)
    ]
    assert [process.communicate()[1] for process in processes] == [""] * 8
    found = Counter((line["writer"], line["n"]) for line in lines(folder))
    assert found == Counter((writer, n) for writer in range(8) for n in range(records))
    assert len(list(folder.glob("*.ndjson.*"))) > 3


def test_eight_processes_lose_and_double_nothing(log_dir: Path) -> None:
    """No record lost, none twice, no torn line, over all rotations."""
    write_at_once(log_dir, 1500, 100_000)


@pytest.mark.long
def test_eight_processes_rotate_all_the_time(log_dir: Path) -> None:
    """The same with a rotation each few records."""
    write_at_once(log_dir, 5000, 2_000)


@needs_strace
@pytest.mark.parametrize("odd", [0, 1], ids=["append_ndjson", "Appender"])
def test_a_record_is_one_write(odd: int, log_dir: Path) -> None:
    """One system call a record, also where a torn tail is closed first."""
    log = log_dir / "s.ndjson"
    log.write_bytes(b'{"torn":')
    trace = ["strace", "-f", "-qq", "-e", "trace=write,writev,pwrite64,pwritev", "-P", str(log)]
    done = subprocess.run(
        [*trace, sys.executable, "-c", WRITER, str(odd), "3", str(log)], capture_output=True, check=True, text=True
    )
    calls = done.stderr.splitlines()
    assert [call.startswith("write(") for call in calls] == [True] * 3
    assert [json.loads(line)["n"] for line in log.read_bytes().splitlines()[1:]] == [0, 1, 2]


@needs_strace
@pytest.mark.parametrize("odd", [0, 1], ids=["append_ndjson", "Appender"])
@pytest.mark.parametrize("when", ["1", "2", "1+"])
@pytest.mark.parametrize("call", ["openat", "flock", "newfstatat", "pread64", "write", "close"])
def test_a_failing_call_never_stops_the_agent(call: str, when: str, odd: int, log_dir: Path) -> None:
    """No exception, no line torn or doubled; of the first record that isn't there a warning at once, of others one."""
    log = log_dir / "s.ndjson"
    log.write_bytes(b'{"writer":9,"n":9}\n')
    inject = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:error=EIO:when={when}", "-P", str(log)]
    done = subprocess.run(
        [*inject, sys.executable, "-c", WRITER, str(odd), "3", str(log)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    found = [line["n"] for line in lines(log_dir)]
    assert len(set(found)) == len(found)
    lost = {9, 0, 1, 2} - set(found)
    warnings = re.findall(r"not logged: .*; (\d+) records", done.stderr)
    assert list(map(int, warnings)) == ([1, len(lost) - 1] if lost else [])
    assert bool(lost) == (when == "1+" and call not in {"flock", "close"})


FORKED = """
import os, sys
from codex.logging import append_ndjson
for n in range(3):
    append_ndjson(sys.argv[1], {"n": n})
if child := os.fork():
    os.waitpid(child, 0)
else:
    append_ndjson(sys.argv[1], {"n": 3})
"""


def test_each_process_tells_of_its_own_losses(log_dir: Path) -> None:
    """A forked child tells of what it lost itself, and the parent of the rest at its end."""
    done = subprocess.run([sys.executable, "-c", FORKED, str(log_dir)], capture_output=True, check=True, text=True)
    assert re.findall(r"(\d+) records", done.stderr) == ["1", "1", "2"]


@pytest.fixture
def holder(log_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of `s.ndjson`, and was stopped by SIGSTOP."""
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(log_dir / "s.ndjson")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


def test_a_stopped_process_with_the_lock_is_waited_for_once(
    log_dir: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first record waits about 2 s, the others not at all; each line arrives whole, and then all is as before."""
    log = log_dir / "s.ndjson"
    monkeypatch.setenv("NDJSON_MAX_BYTES", "1")
    with Appender(log) as appender:
        began = time.monotonic()
        appender.append({"n": 0})
        assert 1.9 < time.monotonic() - began < 3.9
        for n in range(1, 20):
            append_ndjson(log, {"n": n})
        assert time.monotonic() - began < 5
        assert [line["n"] for line in lines(log_dir)] == list(range(20))
        holder.kill()
        holder.wait()
        appender.append({"n": 20})
    assert log.read_bytes() == b'{"n":20}\n'
    assert len(lines(log_dir)) == 21
    monkeypatch.setattr("codex.logging.writer.LOCK_SECONDS", 0.2)
    with log.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        append_ndjson(log, {"n": 21})
        assert time.monotonic() - began > 0.2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@needs_root
@pytest.mark.parametrize("kept_open", [True, False])
def test_a_full_disk_costs_the_records_that_dont_fit(
    kept_open: bool, small_disk: Path, caplog: pytest.LogCaptureFixture, environment: pytest.MonkeyPatch
) -> None:
    """No exception, one warning a minute, no torn line; with space again all goes on."""
    log = small_disk / "s.ndjson"
    (small_disk / "filler").write_bytes(bytes(32_000))
    with Appender(log) as appender:
        for n in range(100):
            record = {"n": n, "pad": "x" * 997}
            appender.append(record) if kept_open else append_ndjson(log, record)
        written = [line["n"] for line in lines(small_disk)]
        assert written == list(range(len(written)))
        assert 20 < len(written) < 40
        assert "; 1 records (10" in caplog.text
        (small_disk / "filler").unlink()
        environment.setattr("codex.logging.writer._TELL_SECONDS", 0.0)
        append_ndjson(log, {"n": 100})
        appender.append({"n": 101})
    assert [line["n"] for line in lines(small_disk)] == [*written, 100, 101]
    assert f"; {99 - len(written)} records (" in caplog.text
    assert len(caplog.records) == 2


@needs_root
def test_a_folder_without_rights_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """As another user than root: nothing raised, nothing written."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o555)
        log = Path(name, "s.ndjson")
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                append_ndjson(log, {"n": 1})
                Appender(log).append({"n": 2})
                os.write(tell, caplog.text.encode())
                code = 0
            finally:
                os._exit(code)
        os.close(tell)
        with os.fdopen(told) as heard:
            complaints = heard.read().splitlines()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ["Permission denied" in complaint for complaint in complaints] == [True]
        assert os.listdir(name) == []


def test_the_importer_takes_whatever_the_writer_writes(log_dir: Path, database: Path) -> None:
    """Each record is a row, none a reject, however odd its values were."""
    nested: object = 0
    for _ in range(1000):
        nested = [nested]
    odd = [
        float("nan"),
        {1},
        b"\xff",
        10**5000,
        10**400,
        "\ud800",
        "a\nb\0\u2028",
        nested,
        {None: {(1, 2): 3}},
        "x" * 10**6,
    ]
    for value in odd:
        append_ndjson(log_dir / "s.ndjson", {"type": "message", "role": "user", "message": value, "more": value})
    assert import_session("s", str(log_dir), str(database)) == len(odd)


LIGHT = """
import sys
import codex.logging
heavy = {"apsw", "sqlite3", "watchdog", "rich", "click", "portalocker", "msgspec", "zstandard", "logging", "uuid"}
heavy.add("tomllib")
print(sorted(heavy & {name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_importing_the_package_is_light() -> None:
    """An agent that only appends pays for nothing else."""
    source = f"import sys; before = set(sys.modules)\n{LIGHT}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


OTHER_PLATFORM = """
import os, sys, types
sys.modules["fcntl"] = None
for name in ("pread", "fchmod", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"):
    delattr(os, name)
locks = []
portalocker = types.ModuleType("portalocker")
portalocker.LockFlags = types.SimpleNamespace(EXCLUSIVE=1, NON_BLOCKING=4)
portalocker.LockException = type("LockException", (Exception,), {})
portalocker.lock = lambda descriptor, flags: locks.append(flags)
portalocker.unlock = lambda descriptor: locks.append(0)
sys.modules["portalocker"] = portalocker
sys.platform = "win32"
from codex.logging import append_ndjson
os.environ["NDJSON_MAX_BYTES"] = "20"
for n in range(10):
    append_ndjson(sys.argv[1], {"n": n})
assert set(locks) == {5, 0}
"""


def test_it_appends_without_the_calls_of_posix(log_dir: Path) -> None:
    """Where fcntl, pread and fchmod are missing, as on Windows, the lock is portalocker's."""
    subprocess.run([sys.executable, "-c", OTHER_PLATFORM, str(log_dir / "s.ndjson")], check=True)
    assert sorted(line["n"] for line in lines(log_dir)) == list(range(10))
    assert len(list(log_dir.iterdir())) > 2
