"""Who else may read or write what is made here, and what is refused because others may write it."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging.errors import ConfigError
from codex.logging.owners import others_may_write
from codex.logging.secrets.placeholder import key_of
from codex.logging.store.private import refuse_open
from codex.logging.store.sqlite import Store
from codex_ingestd.instance import Instance
from tests.commands import UNPRIVILEGED, shell, succeed
from tests.daemon import Daemon

OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITE = """
from codex.logging import log_event, session
with session() as me:
    log_event(me.session_id, "user", "the key is AKIAZ7QXJ4WDN2RVT5KM")
"""
COMMANDS = """
codex-import-ndjson --all
codex-ingestd finalize
codex-logs secrets
codex-logs export last -o page.html
codex-logs export last --format jsonl -o rows.jsonl
codex-logs pack last -o p.zip
codex-ingestd restore s --output back.ndjson
codex-ingestd rebuild --new rebuilt.db
codex-ingestd checkpoint
codex-ingestd rebuild
"""


def test_all_that_is_made_is_private(tmp_path: Path, daemon: Daemon) -> None:
    """Under umask 0 no file or folder that any command or the daemon makes may be opened by others."""
    work = tmp_path / "work"
    work.mkdir()
    environment = {"CODEX_SESSION_ID": "s", "GH_COPILOT_BACKUP_ROOT": str(tmp_path / "work" / "backup")}
    succeed(f"git init -q .; umask 0; python -c {shlex.quote(WRITE)}", work, environment)
    for command in COMMANDS.split("\n"):
        done = shell(f"umask 0; {command}", work, environment)
        assert done.returncode in (0, 1, 4), done
    daemon.log_dir, daemon.database = work / "new" / "logs", work / "other" / "rows.db"
    mask = os.umask(0)
    try:
        daemon.start("--hook", "archive", env=environment)
        assert daemon.stop() == 0
    finally:
        os.umask(mask)
    made = [path for path in work.rglob("*") if ".git" not in path.relative_to(work).parts]
    assert {path.name for path in made} >= {
        "s.ndjson", "s.meta", "session_logs.db", "session_logs.db.key", "codex_session_logs.db", "backup", "logs",
        "page.html", "rows.jsonl", "p.zip", "back.ndjson", "rebuilt.db", "rows.db", "rows.db.lock",
    }  # fmt: skip
    assert [str(path) for path in made if path.stat().st_mode & OTHERS] == []


def test_what_lies_beside_an_open_database_is_private(database: Path) -> None:
    """Write-ahead log and shared memory, too, while it is written."""
    mask = os.umask(0)
    try:
        with closing(Store(str(database))) as store:
            store.note("a", "b")
            made = {path.name: path.stat().st_mode & OTHERS for path in database.parent.glob(f"{database.name}*")}
    finally:
        os.umask(mask)
    assert made == {database.name + suffix: 0 for suffix in ("", "-wal", "-shm")}


@pytest.mark.parametrize("what", ["folder", "", ".key", ".lock"])
def test_what_others_may_write_is_refused(what: str, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """By daemon and importer, as root and not: with the path, the remedy, and no row; unless told."""
    daemon.database = daemon.database.parent / "place" / "s.db"
    folder = daemon.database.parent
    with closing(Store(str(daemon.database))):
        key_of(str(daemon.database))
    Path(f"{daemon.database}.lock").touch(0o600)
    opened = folder if what == "folder" else Path(f"{daemon.database}{what}")
    (daemon.log_dir / "s.ndjson").write_bytes(b'{"message":"one"}\n')
    for mode, command in (
        (0o777, f"{UNPRIVILEGED} codex-import-ndjson --all --log-dir"),
        (0o722, "codex-ingestd once --watch"),
        (0o702, "codex-ingestd run --watch"),
    ):
        opened.chmod(mode)
        done = shell(f"{command} {daemon.log_dir} --db {daemon.database}", folder)
        assert (done.returncode, f"{opened}: others than" in done.stderr) == (2, True), done
        assert f"chmod go-w {opened}" in done.stderr
    assert daemon.rows() == []
    daemon.start("--writable-by-others")
    daemon.wait_for_rows(1)
    daemon.stop()
    monkeypatch.setenv("CODEX_WRITABLE_BY_OTHERS", "1")
    key_of(str(daemon.database))
    with closing(Store(str(daemon.database))), Instance(str(daemon.database)):
        pass


def test_a_key_that_others_may_write_is_not_used(database: Path) -> None:
    """They could have put it there, and try guesses against what it hashes."""
    key_of(str(database))
    Path(f"{database}.key").chmod(0o666)
    with pytest.raises(ConfigError, match=r"\.key: others than this user may write"):
        key_of(str(database))


def test_in_a_sticky_folder_what_is_there_must_be_ours(tmp_path: Path) -> None:
    """As in /tmp: one's own file is safe there, one or a link that another user has put there first is refused."""
    folder, own = tmp_path / "tmp", tmp_path / "bashrc"
    folder.mkdir()
    folder.chmod(0o1777)
    with closing(Store(str(folder / "mine.db"))):
        pass
    with closing(Store(str(folder / "theirs.db"))):
        pass
    (folder / "led.db-wal").symlink_to(own)
    try:
        os.chown(folder / "theirs.db", 4711, 4711)
        os.chown(folder / "led.db-wal", 4711, 4711, follow_symlinks=False)
    except PermissionError:
        pytest.skip("only root gives files away")
    for name in ("theirs.db", "led.db"):
        with pytest.raises(ConfigError, match="others than this user"):
            Store(str(folder / name))
    assert not own.exists()


@pytest.mark.parametrize("theirs", ["place", "place/s.db"])
def test_what_is_another_users_is_refused(theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, or a database, whose owner lets this user write there, as by an ACL that no mode shows."""
    if os.geteuid():
        pytest.skip("only root gives files away")
    database = tmp_path / "place" / "s.db"
    with closing(Store(str(database))):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    refuse_open(str(database))
    os.chown(tmp_path / theirs, 4711, 4711)
    with pytest.raises(ConfigError, match="others than this user") as refused:
        refuse_open(str(database))
    assert "another user's" in refused.value.hint


def test_a_group_of_ones_own_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each user has a group of that name, umask 002 is usual; a group with others in it is another matter."""
    if os.geteuid():
        pytest.skip("only root gives files away")
    mode = 0o770
    own = next(user for user in pwd.getpwall() if user.pw_uid and user.pw_uid == user.pw_gid)
    tmp_path.chmod(mode)
    os.chown(tmp_path, own.pw_uid, own.pw_gid)
    assert not others_may_write(tmp_path.stat())
    for gid in (own.pw_gid + 1, 4711):
        os.chown(tmp_path, own.pw_uid, gid)
        assert others_may_write(tmp_path.stat())
    os.chown(tmp_path, 0, 0)
    assert not others_may_write(tmp_path.stat())


@pytest.mark.parametrize("users", [True, False], ids=["the user's", "the working folder's"])
def test_settings_that_others_may_write_are_refused(users: bool, tmp_path: Path) -> None:
    """A file of settings can name a command: by nobody else; daemon and readers exit with 2, and say chmod."""
    file = tmp_path / (".config/codex-ingestd.toml" if users else "codex-ingestd.toml")
    file.parent.mkdir(exist_ok=True)
    file.write_text('hook = ["touch owned"]\n' if users else "finalize = true\n")
    file.chmod(0o666)
    for command in ("codex-ingestd run", "codex-logs sessions"):
        done = shell(command, tmp_path)
        assert (done.returncode, f"chmod go-w {file}" in done.stderr) == (2, True), done


def test_a_project_cannot_open_the_database(tmp_path: Path) -> None:
    """`writable-by-others` counts in the user's file alone; a value of another kind is told with its line."""
    file = tmp_path / "codex-ingestd.toml"
    file.write_text("writable-by-others = true\n")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex").chmod(0o777)
    (tmp_path / "logs").mkdir()
    for command in ("codex-ingestd run", "codex-import-ndjson --all --log-dir logs"):
        done = shell(command, tmp_path)
        assert done.returncode == 2, done
    users = tmp_path / ".config" / "codex-ingestd.toml"
    users.parent.mkdir()
    file.rename(users)
    succeed("codex-import-ndjson --all --log-dir logs", tmp_path)
    users.write_text('writable-by-others = "x"\n')
    done = shell("codex-ingestd validate", tmp_path)
    assert (done.returncode, f"{users}:1: writable-by-others: 'x' is not true or false" in done.stderr) == (2, True), (
        done
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("watch = " + "[" * 30_000, "nested too deep"),
        ("x = '''" + "a\n" * 30_000 + "'''", "more than"),
        ("#" * (1 << 20), "more than"),
        ("db = 1\n", "no name of a database"),
        ("db = [[]]\n[db.x]\n", "it is no TOML"),
        ("\0", "it is no TOML"),
    ],
    ids=["deep", "lines", "huge", "type", "redefined", "nul"],
)
def test_hostile_settings_are_told_in_a_line(text: str, told: str, tmp_path: Path) -> None:
    """Whatever came with a project: exit code 2 and a message, no traceback, no long wait."""
    (tmp_path / "codex-ingestd.toml").write_text(text)
    for command in ("codex-ingestd run", "codex-logs sessions"):
        done = shell(command, tmp_path, timeout=20)
        assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (2, True, False), done


def test_a_pipe_in_the_place_of_settings_hangs_nobody(tmp_path: Path) -> None:
    """As a project might bring it along by a script."""
    os.mkfifo(tmp_path / "codex-ingestd.toml")
    assert shell("codex-ingestd config", tmp_path, timeout=20).returncode == 0
