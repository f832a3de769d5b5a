"""Whoever may write in a folder of logs puts links there: nothing elsewhere is read, written or removed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import portalocker
import pytest

from codex.logging import append_ndjson
from codex.logging.errors import SourceError
from codex.logging.purge import Wish, purge
from codex.logging.store.sqlite import Store
from codex_ingestd.instance import Instance
from tests.commands import ROOT, shell, succeed
from tests.daemon import Daemon, wait_for
from tests.importer import Importer, Recorded

LINE = b'{"message":"mine"}\n'
SECRET = b'{"message":"of another user"}\n'
HELPER = ROOT / "lib" / "codex" / "logging" / "session_logging.sh"
IDS = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "a/b",
    "a\\b",
    "a\nb",
    "\x1b]0;x\x07",
    "-rf",
    "--help",
    "x" * 300,
    "\udcff",
    "nul",
    "a.",
    "$(touch owned)",
    "'; DROP TABLE events; --",
    "\u202egnp",
]


class Trap(NamedTuple):
    """A log in a sub-folder of the root, and another user's folder with a file of the same name."""

    root: Path
    log: Path
    victim: Path

    def spring(self) -> None:
        """Put a link to the other user's folder in the sub-folder's place."""
        self.log.parent.rename(self.root / ".aside")
        (self.root / "sub").symlink_to(self.victim.parent)


@pytest.fixture
def trap(log_dir: Path, tmp_path: Path) -> Trap:
    """Set, and not yet sprung."""
    found = Trap(log_dir, log_dir / "sub" / "s.ndjson", tmp_path / "home" / "s.ndjson")
    for path, data in ((found.log, LINE), (found.victim, SECRET)):
        path.parent.mkdir()
        path.write_bytes(data)
    return found


@pytest.fixture
def importer(log_dir: Path, database: Path) -> Iterator[Importer]:
    """One over the folder of logs."""
    with closing(Importer(log_dir, database)) as opened:
        yield opened


def test_a_folder_swapped_for_a_link_is_not_read(trap: Trap, importer: Importer, database: Path) -> None:
    """A link in the middle of a path that the ledger knows: no byte of what it leads to is taken, and it is told."""
    importer.take("sub/s.ndjson")
    trap.spring()
    with pytest.raises(SourceError, match="link leads there"):
        importer.take("sub/s.ndjson")
    assert [life.bytes for life in Recorded(database).lives()] == [LINE]


def test_a_daemon_is_not_led_elsewhere(daemon: Daemon, trap: Trap) -> None:
    """Links that come while it runs, to a folder and to a file: others go on, and nothing of theirs is recorded."""
    daemon.start()
    daemon.wait_for_rows(1)
    trap.spring()
    (trap.root / "t.ndjson").symlink_to(trap.victim)
    (trap.root / "u.ndjson").write_bytes(LINE)
    daemon.wait_for_rows(1, "u")
    wait_for(lambda: daemon.told("skipped: it is a symbolic link"), what="word of the link")
    assert daemon.stop() == 0
    assert {row.message for row in daemon.rows()} == {"mine"}


def test_purge_removes_nothing_through_a_link(trap: Trap, importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that becomes a link between the last look and the removal: the other user's file stays."""
    importer.take("sub/s.ndjson")
    lock = portalocker.lock

    def spring_and_lock(*arguments: object) -> None:
        if trap.log.parent.is_dir() and not trap.log.parent.is_symlink():
            trap.spring()
        lock(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(portalocker, "lock", spring_and_lock)
    everything = Wish(before=float("inf"), session_ids=(), sources=True, rows=False, dry_run=False)
    assert [result.kept_because for result in purge(importer.store, everything)] == [None]
    assert not (trap.root / ".aside" / "s.ndjson").exists()
    assert [result.kept_because is None for result in purge(importer.store, everything)] == [False]
    assert trap.victim.read_bytes() == SECRET


def test_writers_do_not_append_through_a_link(log_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log that is a link to another user's file: that one stays as it is, the writer warns and goes on."""
    victim = tmp_path / "authorized_keys"
    victim.write_bytes(b"ssh-ed25519 AAAA\n")
    for name in ("s.ndjson", "s.meta"):
        (log_dir / name).symlink_to(victim)
    append_ndjson(log_dir / "s.ndjson", {"message": "mine"})
    assert "not logged" in caplog.text
    environment = {"CODEX_SESSION_LOG_DIR": str(log_dir), "CODEX_SESSION_ID": "s"}
    done = shell(f". {shlex.quote(str(HELPER))}; codex_session_start", tmp_path, environment)
    assert done.stderr.count("not logged") == 2
    assert victim.read_bytes() == b"ssh-ed25519 AAAA\n"


def test_pack_takes_no_file_of_others(trap: Trap, importer: Importer, database: Path) -> None:
    """A session's `.meta` that is a link isn't packed, nor is a link in the way of the zip written through."""
    importer.take("sub/s.ndjson")
    (trap.root / "sub" / "s.meta").symlink_to(trap.victim)
    (trap.root / "p.zip.part").symlink_to(trap.victim)
    succeed(f"codex-logs pack s -o p.zip --db {database}", trap.root)
    assert "s.meta" not in succeed("python -m zipfile -l p.zip", trap.root)
    (trap.root / "out.part").symlink_to(trap.victim)
    succeed(f"codex-ingestd restore s --output out --db {database}", trap.root)
    assert trap.victim.read_bytes() == SECRET


def test_a_lock_is_not_taken_through_a_link(database: Path, tmp_path: Path) -> None:
    """The lock beside the database, which the daemon writes to and cuts, is no link to somebody's file."""
    victim = tmp_path / "victim"
    victim.write_bytes(SECRET)
    Path(f"{database}.lock").symlink_to(victim)
    with pytest.raises(Exception, match=r"\.lock"), Instance(str(database)):
        pass
    assert victim.read_bytes() == SECRET


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal"])
def test_a_pipe_in_the_place_of_a_database_hangs_nobody(suffix: str, database: Path) -> None:
    """Readers, writers, status and page: each says what is there, and ends."""
    with closing(Store(str(database))):
        pass
    pipe = Path(f"{database}{suffix}")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    commands = ("codex-logs sessions", "codex-import-ndjson --all", "codex-ingestd status", "codex-logs web --no-open")
    for command in commands:
        done = shell(f"{command} --db {database}", database.parent, timeout=20)
        assert done.returncode in (1, 2), (command, done)
        assert f"{pipe} is no file" in done.stdout + done.stderr, (command, done)


@pytest.mark.parametrize("session_id", IDS, ids=ascii)
def test_a_hostile_session_id_is_refused(session_id: str, tmp_path: Path) -> None:
    """By writer, helper and importer: a clear error, no traceback, and nothing is made anywhere."""
    environment = {"CODEX_SESSION_ID": session_id}
    program = "from codex.logging import log_event; import os; log_event(os.environ['CODEX_SESSION_ID'], 'user', 'x')"
    for command in (
        'codex-import-ndjson --session "$CODEX_SESSION_ID"',
        f". {shlex.quote(str(HELPER))}; codex_session_start",
        f"python -c {shlex.quote(program)}",
    ):
        done = shell(command, tmp_path, environment)
        assert "can't name a log file" in done.stderr, command
        assert "import_ndjson" not in done.stderr
    assert list(tmp_path.rglob("*")) == []
