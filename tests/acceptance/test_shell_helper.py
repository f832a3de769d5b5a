"""The sourceable shell helper: the same records as the library's, from every shell that is here."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import portalocker
import pytest

from codex.logging import config, import_all, session, start_session
from codex.logging.errors import SessionIdError
from codex.logging.restore import chosen_generations, restored, session_streams
from codex.logging.rows import Selection, read_rows
from codex.logging.store.connection import open_reader
from tests.commands import ROOT, UNPRIVILEGED, succeed
from tests.daemon import wait_for

HELPER = ROOT / "lib" / "codex" / "logging" / "session_logging.sh"
SHELLS = [name for name in ("dash", "bash", "zsh", "busybox sh") if shutil.which(name.split()[0])]
DOCUMENTED = """
set -eu
codex_session_start "$@" || :
trap 'codex_session_end $? || :' EXIT
trap 'exit 143' TERM
"""
HOSTILE = [
    b"", b"-n", b"%s\\n", b"a\nb\n", b'"quoted"', b"back\\slash\\", b"tab\t\r\x01\x1f\x7f", b"$(false) `false` $HOME *",
    "é € 😀 \u2028".encode(), b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82A",
    b"\xf0\x9f\x98\xf0\x9f\x98\x80", b"x" * 5000,
]  # fmt: skip


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """The command line of one shell."""
    return str(request.param).split()


def run(
    shell: Sequence[str],
    script: str,
    folder: Path,
    *arguments: bytes,
    env: Mapping[str, str] | None = None,
    under: str = "",
) -> subprocess.CompletedProcess[str]:
    """The finished script, which has sourced the helper, run in a folder with arguments."""
    command = [*under.split(), *shell, "-c", f". '{HELPER}'\n{script}", "script", *arguments]
    variables = {**os.environ, **(env or {})}
    return subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def records(folder: Path, session_id: str = "s", log_dir: str = ".codex/sessions") -> list[dict[str, object]]:
    """The records of a session's file."""
    text = (folder / log_dir / f"{session_id}.ndjson").read_text("ascii")
    return [json.loads(line) for line in text.splitlines()]


def test_hostile_text_makes_the_round_trip(shell: list[str], tmp_path: Path, log_dir: Path, database: Path) -> None:
    """Each line is JSON, argv and cwd come back to the byte, and the importer takes every line, losslessly."""
    folder = tmp_path / os.fsdecode(b'new\nline "q" \\ \xff \xc3\xa9\n')
    folder.mkdir()
    env = {"CODEX_SESSION_ID": "s", "CODEX_SESSION_LOG_DIR": str(log_dir)}
    result = run(shell, f"{DOCUMENTED}exit 7", folder, *HOSTILE, env=env)
    assert (result.returncode, result.stdout, result.stderr) == (7, "", "")
    start, end = records(log_dir, log_dir="")
    assert [os.fsencode(argument) for argument in start["argv"]] == HOSTILE  # type: ignore[attr-defined]
    assert start["cwd"] == os.path.realpath(folder)
    assert (end["exit_code"], end["duration_s"]) == (7, 0)
    assert import_all(log_dir, database) == {"s": 2}
    rows = list(read_rows(str(database), Selection("s")))
    assert [(row.seq, row.role, row.message) for row in rows] == [
        (1, "system", "session_start"),
        (2, "system", "session_end"),
    ]
    with closing(open_reader(str(database))) as connection:
        generations = chosen_generations(session_streams(connection, "s"), None)
        assert b"".join(restored(connection, generations)) == (log_dir / "s.ndjson").read_bytes()


def test_any_bytes_are_escaped_as_python_does(shell: list[str], tmp_path: Path) -> None:
    """1,000 random strings, made of the edges of UTF-8, read as Python's surrogateescape reads them."""
    dice = random.Random(20260131)
    edges = [1, 31, 34, 65, 92, 127, 128, 143, 144, 159, 160, 191, 192, 193, 194, 223, 224, 225, 236, 237, 238, 239]
    edges += [240, 241, 243, 244, 245, 255]
    arguments = [bytes(dice.choices(edges, k=dice.randrange(8))) for _ in range(1000)]
    assert run(shell, 'codex_session_start "$@"', tmp_path, *arguments, env={"CODEX_SESSION_ID": "s"}).returncode == 0
    assert records(tmp_path)[0]["argv"] == [os.fsdecode(argument) for argument in arguments]


def test_records_are_those_of_the_library(shell: list[str], tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """Keys in the same order, times in the same form, and the same .meta file."""
    run(shell, 'codex_session_start "$@"; codex_session_end 3', tmp_path, b"x", env={"CODEX_SESSION_ID": "s"})
    environment.chdir(tmp_path)
    with pytest.raises(SystemExit), session(["x"], session_id="python"):
        raise SystemExit(3)
    for ours, theirs in zip(records(tmp_path), records(tmp_path, "python"), strict=True):
        assert list(ours) == list(theirs)
        assert {**ours, "ts": 0} == {**theirs, "ts": 0, "session_id": "s"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", str(ours["ts"]))
    meta, theirs_meta = ((tmp_path / f".codex/sessions/{name}.meta").read_text() for name in ("s", "python"))
    assert meta == f"{records(tmp_path)[0]['ts']} session_start s\n"
    assert theirs_meta.split()[1:] == ["session_start", "python"]


def test_caller_is_left_alone(shell: list[str], tmp_path: Path) -> None:
    """Options, traps, IFS, umask, folder and variables are as before, save CODEX_SESSION_ID; options don't matter."""
    script = """
    HOME=/nowhere; IFS=0123456789e:; mine=1; set -efuC; umask 027; trap 'echo ended' EXIT; trap : HUP
    date() { echo wrong; }; ls() { echo wrong; }; cat() { echo wrong; }
    state() { set; set -o; trap; umask; pwd; echo "$-"; printf '<%s>' "$IFS" "$@"; }
    state "$@" > before
    codex_session_start "$@" > out
    codex_session_end > out2
    state "$@" > after
    """
    result = run(shell, script, tmp_path, b"*", b"a b", env={"CODEX_SESSION_ID": "s"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "ended\n", "")
    own = (
        r"_codex_(home|given|status)|_|RANDOM|SRANDOM|SECONDS|EPOCH\w+|BASH_\w+|PIPESTATUS|pipestatus|LINENO|\?|TTYIDLE"
    )
    before, after = (
        [line for line in (tmp_path / name).read_text().splitlines() if not re.match(rf"(\S+ )*({own})=", line)]
        for name in ("before", "after")
    )
    assert before == after
    start, end = records(tmp_path)
    assert (start["argv"], end["exit_code"], end["duration_s"]) == (["*", "a b"], 0, 0)
    assert [(tmp_path / name).read_text() for name in ("out", "out2")] == ["", ""]


def test_session_id_is_kept_and_exported(shell: list[str], tmp_path: Path) -> None:
    """CODEX_SESSION_ID, else SESSION_ID_SOURCE, else a new UUID4; children get it, and a second start keeps it."""
    script = "codex_session_start; codex_session_start; sh -c 'echo \"$CODEX_SESSION_ID\"'"
    assert run(shell, script, tmp_path, env={"CODEX_SESSION_ID": "a", "SESSION_ID_SOURCE": "b"}).stdout == "a\n"
    assert run(shell, script, tmp_path, env={"CODEX_SESSION_ID": "", "SESSION_ID_SOURCE": "b"}).stdout == "b\n"
    made = [run(shell, script, tmp_path).stdout.strip() for _ in range(3)]
    assert len(set(made)) == 3
    assert [(uuid.UUID(one).version, str(uuid.UUID(one))) for one in made] == [(4, one) for one in made]
    assert [len(records(tmp_path, name)) for name in ("a", "b", *made)] == [2] * 5


IDS = [
    "a", "_", "9", "a.b@c+d=e,f~g-h", "a b", "x" * 200, "x" * 201, "-a", ".a", "../a", "a/b", "a\n", "a\nb", "é", "a*",
    "a.", "a ", "con", "CON.x", "con  .x", "con x", "nul", "lpt1", "lpt0", "com10", "a'b", 'a"b', "a\\b", "a:b", " a",
]  # fmt: skip


@pytest.mark.parametrize("session_id", IDS)
def test_hostile_ids_are_refused_as_in_the_library(session_id: str, tmp_path: Path) -> None:
    """An id that can't name a file gives a message and status 2, writes nothing, and doesn't end the script."""
    try:
        config.check_session_id(session_id)
        expected = 0
    except SessionIdError:
        expected = 2
    script = 'codex_session_start || echo "start $?"\ncodex_session_end || echo "end $?"'
    for shell in SHELLS:
        result = run(shell.split(), script, tmp_path, env={"CODEX_SESSION_ID": session_id})
        assert (result.returncode, result.stdout) == (0, "start 2\nend 2\n" if expected else ""), shell
        assert result.stderr.count("the session id can't name a log file") == expected
    assert bool(list(tmp_path.iterdir())) == (expected == 0)


def test_documented_use_survives_errexit(shell: list[str], tmp_path: Path) -> None:
    """Under set -eu a refused id or a folder that can't be made doesn't end the script, nor change its exit code."""
    script = f"{DOCUMENTED}echo reached; exit 4"
    refused = run(shell, script, tmp_path, env={"CODEX_SESSION_ID": "../x"})
    assert (refused.returncode, refused.stdout) == (4, "reached\n")
    (tmp_path / "file").touch()
    lost = run(shell, script, tmp_path, env={"CODEX_SESSION_LOG_DIR": "file/x"})
    assert (lost.returncode, lost.stdout) == (4, "reached\n")
    assert lost.stderr.count("codex: not logged: ") == 3


def test_folder_without_rights_is_warned_of(shell: list[str], tmp_path: Path) -> None:
    """Logging that can't be is warned of on standard error, and the functions return 0."""
    (tmp_path / "logs").mkdir(mode=0o500)
    env = {"CODEX_SESSION_LOG_DIR": "logs", "CODEX_SESSION_ID": "s"}
    result = run(shell, "codex_session_start && codex_session_end && echo fine", tmp_path, env=env, under=UNPRIVILEGED)
    assert result.stdout == "fine\n"
    assert f"codex: not logged: {tmp_path}/logs/s.ndjson can't be written" in result.stderr


def test_what_is_no_file_is_not_waited_for(shell: list[str], tmp_path: Path) -> None:
    """A named pipe under the log's name doesn't hang the script."""
    os.mkfifo(tmp_path / "s.ndjson")
    result = run(shell, "codex_session_start", tmp_path, env={"CODEX_SESSION_LOG_DIR": ".", "CODEX_SESSION_ID": "s"})
    assert "s.ndjson is not a regular file" in result.stderr


@pytest.mark.parametrize("value", ["1", "TRUE", " on "])
def test_test_mode_writes_nothing(shell: list[str], tmp_path: Path, value: str) -> None:
    """With TEST_MODE=1 there is an id, and no file."""
    script = 'codex_session_start && codex_session_end && echo "$CODEX_SESSION_ID"'
    assert run(shell, script, tmp_path, env={"TEST_MODE": value, "CODEX_SESSION_ID": "s"}).stdout == "s\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "mode"), [("", 0o600), ("640", 0o640), ("0644", 0o644), ("99", 0o600), ("040", 0o640)]
)
def test_files_are_private(shell: list[str], tmp_path: Path, asked: str, mode: int) -> None:
    """New logs have mode 0600, or what CODEX_LOG_FILE_MODE says, whatever the umask; new folders are private."""
    run(shell, "umask 0; codex_session_start", tmp_path, env={"CODEX_LOG_FILE_MODE": asked, "CODEX_SESSION_ID": "s"})
    sessions = tmp_path / ".codex" / "sessions"
    assert stat.S_IMODE((sessions / "s.ndjson").stat().st_mode) == mode
    assert stat.S_IMODE(sessions.stat().st_mode) == 0o700


@pytest.mark.parametrize("variable", ["CODEX_LOG_DB_PATH", "CODEX_DB_PATH"])
def test_one_file_for_all_sessions(shell: list[str], tmp_path: Path, variable: str) -> None:
    """A database path that ends in .ndjson is where the records go; each session finds its own start again."""
    script = "for CODEX_SESSION_ID in a b; do codex_session_start; done; CODEX_SESSION_ID=a; codex_session_end 0"
    run(shell, script, tmp_path, env={variable: "logs/all.ndjson"})
    found = records(tmp_path, "all", "logs")
    assert [(record["type"], record["session_id"]) for record in found] == [
        ("session_start", "a"),
        ("session_start", "b"),
        ("session_end", "a"),
    ]
    assert found[2]["duration_s"] == 0
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["all.meta", "all.ndjson"]


@pytest.mark.parametrize("setting", ["", "rel/logs", "~/logs"])
def test_relative_folder_is_settled_at_the_start(shell: list[str], tmp_path: Path, setting: str) -> None:
    """A later chdir changes nothing; ~ is the home folder; a folder's name may be any bytes."""
    folder = tmp_path / os.fsdecode(b" \xff\n")
    folder.mkdir()
    env = {"CODEX_SESSION_LOG_DIR": setting, "CODEX_SESSION_ID": "s", "HOME": str(folder / "home")}
    run(shell, "codex_session_start; cd /; codex_session_end 0", folder, env=env)
    assert len(records(folder, log_dir=setting.replace("~", "home") or ".codex/sessions")) == 2


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("codex_session_end 0", 0), ("codex_session_end 255", 255), ("codex_session_end -1", -1),
        ("false || codex_session_end", 1), ("(exit 42) || codex_session_end", 42), ("true; codex_session_end", 0),
        ("codex_session_end 08", None), ("codex_session_end x", None), ("codex_session_end ''", None),
        ("codex_session_end '1,'", None),
    ],
)  # fmt: skip
def test_exit_code(shell: list[str], tmp_path: Path, call: str, code: int | None) -> None:
    """The argument, else the status of the command before; null for what is no whole number."""
    run(shell, call, tmp_path, env={"CODEX_SESSION_ID": "s"})
    assert records(tmp_path)[0]["exit_code"] == code


@pytest.mark.parametrize(
    ("begun", "ended", "seconds"),
    [
        ("2026-11-21T06:11:06.286779Z", "2026-11-21T06:11:07.186779Z", 0),
        ("2026-11-21T06:11:06.286779Z", "2026-11-21T06:11:07.386779Z", 1),
        ("2026-11-21T06:11:06Z", "2026-11-21T07:21:16Z", 4210),
        ("2023-12-31T23:59:59Z", "2024-03-01T00:00:00Z", 60 * 86400 + 1),
        ("2000-02-28T00:00:00Z", "2026-01-31T09:00:00Z", 818154000),
        ("2026-11-21T06:11:06Z", "2026-11-21T06:11:00Z", 0),
        ("yesterday", "2026-11-21T06:11:00Z", None),
        (None, "2026-11-21T06:11:00Z", None),
    ],
)
def test_duration(shell: list[str], tmp_path: Path, begun: str | None, ended: str, seconds: int | None) -> None:
    """Whole seconds since the session's last start as its .meta file has it, also from another process; else null."""
    if begun is not None:
        meta = f"2020-01-01T00:00:00Z session_start s\n{begun} session_start s\n{ended} session_start other s\n"
        (tmp_path / "s.meta").write_text(meta)
    script = f"_codex_now() {{ echo {ended}; }}; codex_session_end 0"
    run(shell, script, tmp_path, env={"CODEX_SESSION_LOG_DIR": ".", "CODEX_SESSION_ID": "s"})
    assert records(tmp_path, log_dir=".")[0]["duration_s"] == seconds


def test_folder_that_is_gone(shell: list[str], tmp_path: Path) -> None:
    """In a deleted working folder cwd is null, as in the library."""
    (tmp_path / "gone").mkdir()
    script = "cd gone; rmdir ../gone; codex_session_start"
    run(shell, script, tmp_path, env={"CODEX_SESSION_LOG_DIR": str(tmp_path), "CODEX_SESSION_ID": "s"})
    assert records(tmp_path, log_dir=".")[0]["cwd"] is None


def test_terminated_script_ends_its_session(shell: list[str], tmp_path: Path) -> None:
    """As documented, SIGTERM leaves a session_end with 143."""
    command = [*shell, "-c", f". '{HELPER}'\n{DOCUMENTED}echo ready; while :; do sleep 0.05; done", "script"]
    env = {**os.environ, "CODEX_SESSION_ID": "s"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert [record.get("exit_code") for record in records(tmp_path)] == [None, 143]


def test_torn_tail_is_closed_first(shell: list[str], tmp_path: Path) -> None:
    """A dead writer's half line, whatever its last byte, doesn't fuse with the record."""
    for name, tail in (("a", b'{"half'), ("b", b"\0"), ("c", b'{"ts":1}\n'), ("d", b"")):
        (tmp_path / f"{name}.ndjson").write_bytes(tail)
        run(shell, "codex_session_start", tmp_path, env={"CODEX_SESSION_LOG_DIR": ".", "CODEX_SESSION_ID": name})
        before, record = (tmp_path / f"{name}.ndjson").read_bytes().removesuffix(b"\n").rpartition(b"\n")[::2]
        assert before == tail.removesuffix(b"\n")
        assert json.loads(record)["session_id"] == name


def test_one_write_under_the_lock(shell: list[str], tmp_path: Path) -> None:
    """A line of 1 MB is one write(2) to the descriptor that flock(2) was taken on."""
    log, calls = tmp_path / "s.ndjson", tmp_path / "calls"
    log.touch()
    trace = f"strace -ff -ttt -y -e trace=flock,write -P {log} -o {calls}"
    env = {"CODEX_SESSION_LOG_DIR": ".", "CODEX_SESSION_ID": "s"}
    script = 'x=$1; set --; while [ $# -lt 16 ]; do set -- "$@" "$x"; done; codex_session_start "$@"'
    assert run(shell, script, tmp_path, b"y" * 65536, env=env, under=trace).stderr == ""
    lines = sorted(line for path in tmp_path.glob("calls.*") for line in path.read_text().splitlines())
    found = [match.groups() for line in lines if (match := re.search(rf"(flock|write)\(\d+<{log}>.*= (\d+)$", line))]
    assert found == [("flock", "0"), ("write", str(log.stat().st_size))]


def test_stuck_lock_is_not_waited_for_for_ever(shell: list[str], tmp_path: Path) -> None:
    """While another process holds the lock the helper waits; after 2 s it appends all the same."""
    log = tmp_path / "s.ndjson"
    log.touch()
    with log.open("ab") as held:
        portalocker.lock(held, portalocker.LockFlags.EXCLUSIVE)
        began = time.monotonic()
        run(shell, "codex_session_start", tmp_path, env={"CODEX_SESSION_LOG_DIR": ".", "CODEX_SESSION_ID": "s"})
        assert time.monotonic() - began > 1.9
    assert len(records(tmp_path, log_dir=".")) == 1


def test_rotation_by_other_writers_loses_nothing(shell: list[str], log_dir: Path) -> None:
    """Sessions from shells and a library writer that rotates each few lines: every line is there once, none torn."""
    write = "from codex.logging import append_ndjson\nwhile True: append_ndjson('s.ndjson', {'n': 1, 'x': 'y' * 200})"
    env = {"CODEX_SESSION_LOG_DIR": ".", "CODEX_SESSION_ID": "s"}
    rotating = {**os.environ, "NDJSON_MAX_BYTES": "100000"}
    with subprocess.Popen([sys.executable, "-c", write], cwd=log_dir, env=rotating) as writer:
        try:
            wait_for((log_dir / "s.ndjson").exists)
            script = "for n in 1 2 3 4 5 6 7 8 9 10; do codex_session_start $n; done"
            assert run(shell, script, log_dir, env=env).stderr == ""
        finally:
            writer.kill()
    lines = [line for path in log_dir.glob("s.ndjson*") for line in path.read_bytes().splitlines()]
    found = [json.loads(line) for line in lines if b"session_start" in line]
    assert sorted(int(record["argv"][0]) for record in found) == list(range(1, 11))
    assert (log_dir / "s.ndjson.1").exists()


def test_without_flock_it_appends_all_the_same(shell: list[str], tmp_path: Path) -> None:
    """Where there is no flock(1) the append is one write, without the lock; nothing is said of it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("awk", "cat", "chmod", "date", "dd", "ls", "mkdir", "od", "sed", "tail", "tr", "printf"):
        (tools / name).symlink_to(str(shutil.which(name)))
    command = [str(shutil.which(shell[0])), *shell[1:]]
    result = run(command, "codex_session_start; codex_session_end 0", tmp_path, env={"PATH": str(tools)})
    assert (result.returncode, result.stderr) == (0, "")
    (log,) = (tmp_path / ".codex" / "sessions").glob("*.ndjson")
    assert [json.loads(line)["type"] for line in log.read_text().splitlines()] == ["session_start", "session_end"]


def test_sessions_of_both_kinds_share_a_file(shell: list[str], tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """The library begins the session, the shell ends it, with the duration since that start."""
    environment.chdir(tmp_path)
    start_session("s")
    run(shell, "codex_session_end 0", tmp_path, env={"CODEX_SESSION_ID": "s"})
    assert [(record["type"], record.get("duration_s")) for record in records(tmp_path)] == [
        ("session_start", None),
        ("session_end", 0),
    ]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck isn't installed")
def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    """As POSIX sh and as bash, in every degree."""
    for dialect in ("sh", "dash", "bash"):
        succeed(f"shellcheck --shell {dialect} --severity style '{HELPER}'", tmp_path)


def test_command_tells_where_it_is(tmp_path: Path) -> None:
    """`codex-logs shell-helper` prints the path that a shell can source."""
    assert Path(succeed("codex-logs shell-helper", tmp_path).rstrip("\n")).samefile(HELPER)
