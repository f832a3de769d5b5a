"""`doctor`: all is fine, or each thing that isn't, with what to do."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from codex.logging.store.sqlite import Store
from codex_ingestd.doctor import checks, filesystem
from codex_ingestd.doctor.checks import Finding
from codex_ingestd.settings.values import load
from tests.commands import UNPRIVILEGED, shell
from tests.daemon import Daemon, wait_for
from tests.faults.test_limits import limited

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and drops rights: root only")


class Diagnosis:
    """What one `codex-ingestd doctor --json` came to."""

    def __init__(self, code: int, answer: dict[str, Any]) -> None:
        self.code = code
        self.findings = [Finding(**row) for row in answer["findings"]]
        assert answer["well"] == (code == 0)

    def of(self, check: str, level: str) -> str:
        """What it found there, with what to do."""
        return told(self.findings, check, level)


def told(findings: Iterable[Finding], check: str, level: str) -> str:
    """Messages and hints of a check, of one level."""
    return "\n".join(f"{one.message}: {one.hint}" for one in findings if (one.check, one.level) == (check, level))


def diagnose(
    daemon: Daemon, *arguments: str, under: str = "", env: dict[str, str] | None = None, append: bool = False
) -> Diagnosis:
    """Of the daemon's folder and database."""
    command = [sys.executable, "-m", "codex_ingestd.cli", "doctor", "--json", "--watch", str(daemon.log_dir)]
    command += ["--db", str(daemon.database), *([] if append else ["--no-append"]), *arguments]
    result = shell(f"{under} {shlex.join(command)}", daemon.database.parent, env)
    assert result.returncode in (0, 1), result.stderr
    return Diagnosis(result.returncode, json.loads(result.stdout))


@pytest.fixture
def ingested(daemon: Daemon) -> None:
    """One log is in the database."""
    (daemon.log_dir / "s.ndjson").write_text('{"message":"one"}\n')
    shell(f"codex-ingestd once --watch {daemon.log_dir} --db {daemon.database}", daemon.log_dir)


def test_a_daemon_that_is_well_takes_the_test_append(daemon: Daemon) -> None:
    """Nothing to do; the line stays in a session of its own. Where this user can't append, that isn't tried."""
    daemon.start()
    wait_for(lambda: daemon.status()["health"]["healthy"], what="the daemon to be well")
    found = diagnose(daemon, append=True)
    assert found.code == 0
    assert {finding.level for finding in found.findings} <= {"fine", "note"}
    assert "became a row" in found.of("append", "fine")
    assert "by the daemon" in found.of("append", "fine")
    assert "is well" in found.of("daemon", "fine")
    assert [row.session_id for row in daemon.rows()] == ["codex-doctor"]
    daemon.log_dir.chmod(0o555)
    found = diagnose(daemon, append=True, under=UNPRIVILEGED)
    assert "1 logs" in found.of("folder", "fine")
    assert "not tried" in found.of("append", "note")


def test_without_a_daemon_the_test_brings_its_own(daemon: Daemon) -> None:
    """It leaves nothing behind; that none runs is a warning alone. People get a line for each finding."""
    found = diagnose(daemon, append=True)
    assert found.code == 0
    assert "codex-ingestd run" in found.of("daemon", "warning")
    assert "by a daemon of this trial's own" in found.of("append", "fine")
    assert "will be made" in found.of("database", "note")
    assert os.listdir(daemon.database.parent) == [daemon.log_dir.name]
    text = shell("codex-ingestd doctor --no-append", daemon.database.parent).stdout
    assert "warning  daemon        no daemon serves this database\n" in text
    assert text.endswith("0 problems, 1 warning\n")
    assert "\033" not in text


def test_a_frozen_daemon_is_found_out(daemon: Daemon) -> None:
    """The test append doesn't arrive; and soon it has given no sign of life."""
    daemon.start()
    wait_for(lambda: daemon.status()["health"]["healthy"], what="the daemon to be well")
    daemon.freeze()
    found = diagnose(daemon, append=True)
    assert found.code == 1
    assert "was no row after 10 s" in found.of("append", "problem")
    assert "no sign of life" in diagnose(daemon).of("daemon", "problem")


def test_what_lies_open_is_told(daemon: Daemon, ingested: None) -> None:
    """A world-writable folder, a database that others may open, a pipe under a log's name; settings; the clock."""
    folder = daemon.database.parent
    with closing(Store(str(daemon.database))) as store:
        store.connection.execute("UPDATE generations SET committed_at = ?", (time.time() + 86400,))
    os.mkfifo(daemon.log_dir / "pipe.ndjson")
    daemon.log_dir.chmod(0o777)
    folder.chmod(0o777)
    daemon.database.chmod(0o644)
    (folder / "codex-ingestd.toml").write_text("hok = 1\n")
    found = diagnose(daemon, env={"TEST_MODE": "1"})
    assert f"chmod o-w {daemon.log_dir}" in found.of("folder", "problem")
    assert "is a named pipe" in found.of("folder", "note")
    assert f"chmod go-w {folder}" in found.of("database", "problem")
    assert f"chmod 600 {daemon.database}" in found.of("database", "warning")
    assert "hok: there is no such key" in found.of("configuration", "problem")
    assert "Did you mean hook?" in found.of("configuration", "problem")
    assert "Unset TEST_MODE" in found.of("configuration", "problem")
    assert "the newest commit is of" in found.of("clock", "problem")


def test_what_this_user_may_not_do_is_told(daemon: Daemon, ingested: None) -> None:
    """Read a log, write to a folder, make one that is missing."""
    folder = daemon.database.parent
    (daemon.log_dir / "s.ndjson").chmod(0)
    for place in (daemon.log_dir, folder):
        place.chmod(0o555)
    found = diagnose(daemon, "--watch", str(folder / "missing"), under=UNPRIVILEGED)
    assert "1 logs can't be read" in found.of("folder", "problem")
    assert "this user can't make it" in found.of("folder", "problem")
    assert "no pulse is taken" in found.of("folder", "warning")
    assert "can't write to it" in found.of("database", "problem")


def test_without_watches_it_says_so(daemon: Daemon) -> None:
    """By a trial where no daemon runs, by the daemon's word where one does."""
    under = shlex.join(limited(max_inotify_watches=0))
    found = diagnose(daemon, under=under)
    assert "inotify watch limit reached" in found.of("watches", "warning")
    assert "max_user_watches" in found.of("watches", "warning")
    daemon.start(under=limited(max_inotify_watches=0))
    assert "inotify watch limit reached" in diagnose(daemon).of("watches", "warning")


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
@pytest.mark.parametrize(
    ("answer", "reason"), [("error=ENOLCK", "No locks available"), ("retval=0", "two had the lock of one file")]
)
def test_a_folder_without_locks_is_told(daemon: Daemon, answer: str, reason: str) -> None:
    """The system refuses to lock any file, or gives a lock to everybody, as some network file systems do."""
    found = diagnose(daemon, under=f"strace -f -qq -o /dev/null -e trace=flock -e inject=flock:{answer}")
    assert f"can't be locked: {reason}" in found.of("locks", "problem")
    assert f"no database can be kept there: {reason}" in found.of("locks", "problem")


def in_namespace(script: str) -> str:
    """In front of a command: it runs where this script has mounted something, unseen by all others."""
    return shlex.join(["unshare", "-m", "sh", "-c", f'{script} && exec "$@"', "sh"])


@needs_root
def test_a_network_file_system_is_told(daemon: Daemon, tmp_path: Path) -> None:
    """By the kernel's table of mounts."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {tmp_path} rw shared:1 - nfs4 host:/home rw\n")
    found = diagnose(daemon, under=in_namespace(f"mount --bind {table} /proc/$$/mountinfo"))
    assert "is on nfs4" in found.of("folder", "warning")
    assert "local disk" in found.of("database", "problem")


@needs_root
@pytest.mark.parametrize(
    ("options", "level", "message"),
    [
        ("size=16k", "problem", "0 MiB are free"),
        ("size=200m", "warning", "200 MiB are free"),
        ("size=2g,nr_inodes=50", "problem", "more files can be made"),
    ],
)
def test_a_disk_that_is_nearly_full_is_told(
    daemon: Daemon, tmp_path: Path, options: str, level: str, message: str
) -> None:
    """In bytes and in files, on a small one of its own; one that can't take even a trial database says that too."""
    daemon.database = tmp_path / "small" / "x.db"
    daemon.database.parent.mkdir()
    under = in_namespace(f"mount -t tmpfs -o {options} none {daemon.database.parent}")
    found = diagnose(daemon, under=under)
    assert message in found.of("disk", level)
    assert ("no database can be kept there" in found.of("locks", "problem")) == (options == "size=16k")


def test_a_sqlite_that_damages_is_told() -> None:
    """Older than 3.51.3."""
    assert "apsw" in told(checks.sqlite("3.51.2"), "sqlite", "problem")
    assert told(checks.sqlite("3.100.0"), "sqlite", "fine")


def test_a_database_that_cant_serve_is_told(database: Path) -> None:
    """Of a newer program, an older one, another one; no database at all."""
    with closing(Store(str(database))) as store:
        store.connection.pragma("user_version", 1)
        assert "the next start brings it to" in told(checks.database(str(database)), "database", "note")
        store.connection.pragma("user_version", 99)
        assert "Upgrade codex-ingestd" in told(checks.database(str(database)), "database", "problem")
        store.connection.pragma("application_id", 1)
        assert "isn't this program's" in told(checks.database(str(database)), "database", "note")
    database.write_text("no database" * 1000)
    assert "no SQLite database" in told(checks.database(str(database)), "database", "problem")


def test_git_and_lfs_are_looked_for(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning only where sessions are finalized; outside a repository a note."""
    real = shutil.which("git")
    assert real is not None
    settings = load({"db": str(database)}).settings
    assert "in no git repository" in told(checks.git(settings), "git", "note")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    if shutil.which("git-lfs") is not None:
        assert told(checks.git(settings), "git", "fine")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "git isn't on the PATH" in told(checks.git(settings), "git", "note")
    finalizing = settings._replace(finalize=True)
    assert "Install git." in told(checks.git(finalizing), "git", "warning")
    (tmp_path / "bin" / "git").symlink_to(real)
    assert "Install git-lfs" in told(checks.git(finalizing), "git", "warning")


def test_tables_of_mounts_are_read() -> None:
    """The kernel's with its escapes, and macOS's; of two on one place the later one counts."""
    linux = filesystem.linux_mounts(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /mnt/a\\040b rw shared:5 master:1 - nfs4 host:/x rw\n"
        "31 22 0:41 / /home rw - ext4 /dev/sdb rw\n"
        "32 31 0:42 / /home rw - fuse.sshfs host: rw\n"
    )
    places = {"/etc": "ext4", "/mnt/a b/c": "nfs4", "/mnt/a": "ext4", "/home": "fuse.sshfs", "/homes": "ext4"}
    assert {path: filesystem.kind_in(linux, path) for path in places} == places
    mac = filesystem.other_mounts(
        "/dev/disk1s1 on / (apfs, sealed, local, read-only, journaled)\n"
        "//me@nas/data on /Volumes/my data (smbfs, nodev, nosuid, mounted by me)\n"
    )
    assert filesystem.kind_in(mac, "/Volumes/my data/x") == "smbfs"
    assert filesystem.kind_in(mac, "/Users/me") == "apfs"
