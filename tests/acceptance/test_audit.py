"""`codex-ingestd verify` and `restore`, `codex-logs raw`: what an auditor types, beside a daemon and without."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging import append_ndjson, import_all
from codex.logging.restore import restored
from codex.logging.store.connection import open_reader
from codex.logging.store.streams import read_streams
from tests.commands import BIN, ROOT, UNPRIVILEGED, shell, succeed
from tests.daemon import Daemon, wait_for
from tests.record import everything

SAMPLES = sorted((ROOT.parent / "shared" / "samples").glob("*/*.jsonl"))
ODD = b'{"message":"1"}\n\n{"a":2}{"b":2} \r\nno json\n\0\0\n\xff\xfe\n{"message":"7"}'


@pytest.fixture
def audited(log_dir: Path, database: Path) -> Path:
    """The folder of a database with two sessions, `one` with a superseded life."""
    (log_dir / "one.ndjson").write_bytes(b'{"message":"first"}\n{"message":"second"}\n')
    import_all(log_dir, database)
    (log_dir / "one.ndjson").write_bytes(b'{"message":"first"}\n{"message":"2nd"}\n')
    (log_dir / "two.ndjson").write_bytes(ODD)
    import_all(log_dir, database)
    return database.parent


def verify(folder: Path, *arguments: str, under: str = "") -> subprocess.CompletedProcess[str]:
    """`codex-ingestd verify` of the database."""
    return shell(f"{under} codex-ingestd verify --db session_logs.db {' '.join(arguments)}", folder)


def test_a_sound_record_is_clean(audited: Path) -> None:
    """Exit code 0, and in one line what there is: generations, bytes, rewritten ones."""
    result = verify(audited, "--deep")
    assert result.returncode == 0, result.stdout
    said = "3 generations, 142 bytes, 1 without source, 1 rewritten: 0 findings in "
    assert result.stdout.startswith(said), result.stdout


def test_pending_bytes_are_counted(audited: Path) -> None:
    """What is behind the watermark is no finding."""
    with (audited / "sessions" / "two.ndjson").open("ab") as log:
        log.write(b'\n{"half')
    summary = json.loads(verify(audited, "--json").stdout)
    assert (summary["pending"], summary["findings"]) == (7, [])


def test_findings_name_session_generation_and_place(audited: Path) -> None:
    """For people a line each, for programs JSON; the exit code is 1."""
    (audited / "sessions" / "one.ndjson").write_bytes(b'{"message":"first"}\n{"message":"3rd"}\n')
    result = verify(audited)
    line = "one: source: generation 2, bytes 32 to 38: the source was changed after it was ingested"
    assert (result.returncode, result.stdout.splitlines()[0]) == (1, line)
    (finding,) = json.loads(verify(audited, "one", "--json").stdout)["findings"]
    assert (finding["kind"], finding["generation"], finding["offset"], finding["end"]) == ("source", 2, 32, 38)
    assert verify(audited, "two").returncode == 0


def test_many_findings_are_cut_short_for_people(audited: Path) -> None:
    """Fifty lines, and how many more there are; JSON has them all."""
    (audited / "sessions" / "many.ndjson").write_bytes(b'{"message":"x"}\n' * 120)
    import_all(audited / "sessions", audited / "session_logs.db")
    with closing(apsw.Connection(str(audited / "session_logs.db"))) as connection:
        connection.execute("DELETE FROM events WHERE generation = 4 AND seq % 2")
    result = verify(audited, "many")
    assert len(result.stdout.splitlines()) == 52
    assert "… and 10 more: --json shows them" in result.stdout
    assert len(json.loads(verify(audited, "many", "--json").stdout)["findings"]) == 60


def test_what_can_not_be_checked(audited: Path, tmp_path: Path) -> None:
    """Exit code 2 and the reason: no database, no such session, a file that is none, a source without permission."""
    for arguments, reason in {"--db no.db": "there is no database", "oen": "Did you mean one"}.items():
        result = verify(audited, arguments)
        assert (result.returncode, reason in result.stderr) == (2, True), result.stderr
    assert not (audited / "no.db").exists()
    (tmp_path / "text.db").write_text("no database\n" * 100)
    assert verify(audited, "--db text.db").returncode == 2
    (audited / "sessions" / "one.ndjson").chmod(0)
    result = verify(audited, under=UNPRIVILEGED)
    assert (result.returncode, "Permission denied" in result.stdout) == (2, True), result.stdout


def test_a_reader_s_copy_is_verified_where_nothing_can_be_written(audited: Path) -> None:
    """A folder without the right to write: a closed database is read as it is."""
    audited.chmod(0o500)
    try:
        result = verify(audited, under=UNPRIVILEGED)
    finally:
        audited.chmod(0o700)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_log_that_can_not_be_read_is_not_passed_over(daemon: Daemon, log_dir: Path) -> None:
    """What a killed daemon left in the write-ahead log is part of the record: without it nothing is checked."""
    (log_dir / "s.ndjson").write_bytes(b'{"message":"x"}\n')
    daemon.start()
    daemon.wait_for_rows(1)
    daemon.kill()
    folder = daemon.database.parent
    Path(f"{daemon.database}-shm").unlink()
    folder.chmod(0o500)
    try:
        result = verify(folder, under=UNPRIVILEGED)
    finally:
        folder.chmod(0o700)
    assert (result.returncode, "write-ahead log" in result.stderr) == (2, True), result.stdout + result.stderr
    assert json.loads(verify(folder, "--json").stdout)["bytes"] == 16


def test_restore_gives_the_bytes_back(audited: Path) -> None:
    """To standard output or to a new file, byte for byte, with the source long gone."""
    for path in (audited / "sessions").iterdir():
        path.unlink()
    restored = subprocess.run(
        [BIN / "codex-ingestd", "restore", "two", "--db", "session_logs.db"], cwd=audited, capture_output=True
    )
    assert (restored.returncode, restored.stdout) == (0, ODD)
    command = "codex-ingestd restore --db session_logs.db one"
    assert succeed(f"{command} --generation 1", audited) == '{"message":"first"}\n{"message":"second"}\n'
    succeed(f"{command} -o one.ndjson", audited)
    assert (audited / "one.ndjson").read_text() == '{"message":"first"}\n{"message":"2nd"}\n'


def test_restore_overwrites_nothing_and_leaves_no_halves(audited: Path) -> None:
    """A file that is there stays; a record with a hole gives no file."""
    command = "codex-ingestd restore --db session_logs.db one"
    (audited / "there").write_text("mine")
    result = shell(f"{command} -o there", audited)
    assert (result.returncode, "hint:" in result.stderr, (audited / "there").read_text()) == (2, True, "mine")
    with closing(apsw.Connection(str(audited / "session_logs.db"))) as connection:
        connection.execute("UPDATE segments SET bytes = zeroblob(5)")
    result = shell(f"{command} -o new", audited)
    assert (result.returncode, "codex-ingestd verify" in result.stderr) == (1, True)
    assert [name for name in os.listdir(audited) if name.startswith("new")] == []


def test_restore_of_what_is_not_there(audited: Path) -> None:
    """Exit code 2, and what there is instead."""
    for arguments, hint in {"oen": "Did you mean one?", "one --generation 9": "It has 1, 2."}.items():
        result = shell(f"codex-ingestd restore --db session_logs.db {arguments}", audited)
        assert (result.returncode, hint in result.stderr, result.stdout) == (2, True, "")


def test_raw_gives_each_physical_line(audited: Path) -> None:
    """With its line end, whatever it holds: glued objects, nothing, NULs, bytes that are no text, an open tail."""
    lines = ODD.splitlines(keepends=True)
    assert len(lines) == 7
    for number, line in enumerate(lines, 1):
        command = [BIN / "codex-logs", "raw", "two", str(number), "--db", "session_logs.db"]
        assert subprocess.run(command, cwd=audited, capture_output=True, check=True).stdout == line
    assert shell("codex-logs raw two 8 --db session_logs.db", audited).returncode == 2


@pytest.mark.skipif(not SAMPLES, reason="the recorded sessions are not here")
@pytest.mark.parametrize("ending", [".ndjson", ".jsonl"], ids=["as our own", "as their agents'"])
def test_real_sessions_come_back_byte_for_byte(log_dir: Path, database: Path, ending: str) -> None:
    """Each recorded file, without its source: restored it is what it was, and a database built anew is the same."""
    written = {f"{path.parent.name}-{path.stem}{ending}": path.read_bytes() for path in SAMPLES}
    for name, data in written.items():
        (log_dir / name).write_bytes(data)
    import_all(log_dir, database)
    assert verify(database.parent, "--deep").returncode == 0
    for name in written:
        (log_dir / name).unlink()
    with closing(open_reader(str(database))) as connection:
        streams = read_streams(connection)
        assert {stream.key: b"".join(restored(connection, stream.standing)) for stream in streams} == written
        before = everything(connection)
    assert verify(database.parent, "--deep").returncode == 0
    succeed("codex-ingestd rebuild --db session_logs.db", database.parent)
    with closing(open_reader(str(database))) as connection:
        assert everything(connection) == before


def test_verify_beside_a_daemon_that_goes_on(daemon: Daemon, log_dir: Path) -> None:
    """While lines are appended and files rotated, verify after verify is clean."""
    daemon.start()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            append_ndjson(log_dir / f"live-{number % 3}.ndjson", {"message": f"line {number}", "padding": "x" * 500})
            if number % 50 == 0:
                os.rename(log_dir / "live-0.ndjson", log_dir / f"live-0.ndjson.{9999 - number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        daemon.wait_for_rows(20)
        for arguments in ("--deep", "", "--deep"):
            result = verify(daemon.database.parent, arguments)
            assert result.returncode == 0, result.stdout
    finally:
        stop.set()
        writer.join()


@pytest.mark.long
def test_a_daemon_merges_verifies_and_says_so(daemon: Daemon, log_dir: Path) -> None:
    """Left alone it merges what rests, and finds an edit that no look at head and tail shows; `status` tells."""
    path = log_dir / "s.ndjson"
    daemon.start()
    for number in range(300):
        append_ndjson(path, {"message": f"line {number}"})
    daemon.wait_for_rows(300)
    wait_for(lambda: daemon.scalar("SELECT count(*) FROM segments") == 1, 60, "the merge")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    daemon.kill()
    path.write_bytes(data)
    status = path.stat()
    with closing(apsw.Connection(str(daemon.database))) as connection:
        connection.execute("UPDATE generations SET modified = ?", (status.st_mtime_ns,))
        connection.execute("DELETE FROM meta WHERE key = 'verified'")
    daemon.start()
    wait_for(lambda: daemon.status()["findings"], 60, "the finding")
    (finding,) = daemon.status()["first_findings"]
    assert (finding["kind"], finding["offset"]) == ("source", len(data) // 2)
    said = succeed(f"codex-ingestd status --db {daemon.database}", log_dir)
    assert f"s, generation 1, offset {len(data) // 2}: the source was changed" in said
    assert len(daemon.told("verify: the source was changed")) == 1
    with closing(open_reader(str(daemon.database))) as connection:
        assert connection.pragma("integrity_check") == "ok"
