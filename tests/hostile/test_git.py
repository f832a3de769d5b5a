"""A hostile repository: what of it runs when finalize stages, and where what is staged goes."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from codex.logging.staging import offers, traces
from tests.commands import shell, succeed

WRITE = "from codex.logging import session\nwith session() as me: pass"
COMMANDS = (
    "core.fsmonitor",
    "core.pager",
    "pager.log",
    "core.editor",
    "core.sshCommand",
    "core.askPass",
    "core.gitProxy",
    "credential.helper",
    "diff.external",
    "diff.evil.textconv",
    "gpg.program",
    "core.alternateRefsCommand",
    "filter.lfs.clean",
    "filter.lfs.process",
)
HOOKS = ("post-index-change", "pre-commit", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman")


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """What a hostile command would leave behind."""
    return tmp_path / "owned"


@pytest.fixture
def repository(tmp_path: Path, owned: Path, environment: pytest.MonkeyPatch) -> Path:
    """One whose configuration and hooks name a program wherever git takes one, with a session in it."""
    folder, evil = tmp_path / "work", tmp_path / "evil"
    evil.write_text(f'#!/bin/sh\necho "$0" "$@" >> {shlex.quote(str(owned))}\nexec cat\n')
    evil.chmod(0o755)
    folder.mkdir()
    environment.setenv("CODEX_SESSION_ID", "s")
    environment.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    succeed("git init -q .", folder)
    for hook in HOOKS:
        (folder / ".git" / "hooks" / hook).symlink_to(evil)
    for name in COMMANDS:
        succeed(f"git config {name} {evil}", folder)
    succeed(f"git config alias.add '!{evil}' && git config alias.lfs '!{evil}'", folder)
    succeed("git config log.showSignature true && git config core.hooksPath .git/hooks", folder)
    succeed(f"git config remote.origin.url 'ext::{evil}' && git config protocol.ext.allow always", folder)
    (folder / ".gitattributes").write_text("*.db diff=evil\n")
    succeed(f"python -c {shlex.quote(WRITE)}", folder)
    owned.unlink(missing_ok=True)
    return folder


def finalize(repository: Path, variables: dict[str, str] | None = None) -> list[str]:
    """The names that are staged."""
    return [
        Path(path).name
        for path in json.loads(succeed("codex-ingestd finalize --json", repository, variables))["staged"]
    ]


def test_no_command_of_the_repository_runs(repository: Path, owned: Path) -> None:
    """fsmonitor, hooks, pager, aliases, signatures, protocols: both files are staged, and nothing else has run."""
    assert len(finalize(repository)) == 2
    database = str(repository / ".codex" / "session_logs.db")
    assert traces([database]) != []
    assert offers(str(repository / ".codex" / "sessions"), f"{database}.key") != []
    assert not owned.exists(), owned.read_text()


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs isn't installed")
@pytest.mark.parametrize("tracked", [False, True], ids=["set up", "there"])
def test_lfs_itself_is_what_runs(repository: Path, owned: Path, tracked: bool) -> None:
    """A filter in LFS's name that is another program: Git LFS's own is run, and pointers are staged."""
    if tracked:
        (repository / ".gitattributes").write_text("*.db filter=lfs diff=lfs merge=lfs -text\n")
    else:
        succeed("git config --remove-section filter.lfs && git config --unset core.fsmonitor", repository)
    assert len(finalize(repository, {"ALLOW_AUTOLFS": "1"})) == 2
    staged = succeed("git -c core.fsmonitor=false cat-file blob :.codex/session_logs.db", repository)
    assert staged.startswith("version https://git-lfs")
    assert not owned.exists(), owned.read_text()


def test_a_folder_that_a_clone_brings_is_no_repository(tmp_path: Path, owned: Path) -> None:
    """`.codex` with all that a bare repository has, committed: its configuration names a filter, which doesn't run."""
    evil = tmp_path / "evil"
    evil.mkdir()
    succeed("git init -q . && git init -q --bare .codex && touch .codex/objects/a .codex/refs/a", evil)
    succeed("git config core.bare false && git config core.worktree ..", evil / ".codex")
    succeed(f"git config filter.evil.clean 'touch {owned}; cat'", evil / ".codex")
    (evil / ".codex" / ".gitattributes").write_text("*.db filter=evil\n")
    succeed("git add -f . && git -c user.name=a -c user.email=a commit -qm a && git clone -q . ../work", evil)
    work = tmp_path / "work"
    succeed(f"python -c {shlex.quote(WRITE)}", work, {"CODEX_SESSION_ID": "s"})
    told = shell("codex-ingestd finalize --json", work)
    assert not owned.exists()
    assert json.loads(told.stdout)["staged"] == [], told


def test_attributes_are_not_written_through_a_link(repository: Path, tmp_path: Path) -> None:
    """ALLOW_AUTOLFS=1 where .gitattributes leads to somebody's file: that one stays as it is."""
    victim = tmp_path / "bashrc"
    victim.write_text("# mine\n")
    (repository / ".gitattributes").unlink()
    (repository / ".gitattributes").symlink_to(victim)
    succeed("git config --remove-section filter.lfs", repository)
    assert len(finalize(repository, {"ALLOW_AUTOLFS": "1"})) == 2
    assert victim.read_text() == "# mine\n"


def test_variables_choose_no_other_repository(repository: Path, tmp_path: Path) -> None:
    """As in a hook of git: what is staged is staged where the database lies."""
    other = tmp_path / "other"
    other.mkdir()
    succeed("git init -q .", other)
    chosen = {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / "index"),
        "GIT_OBJECT_DIRECTORY": str(other / ".git" / "objects"),
        "GIT_QUARANTINE_PATH": str(other),
        "GIT_EXTERNAL_DIFF": "false",
    }
    assert len(finalize(repository, chosen)) == 2
    assert "session_logs.db" in succeed("git -c core.fsmonitor=false ls-files", repository)
    assert succeed("git ls-files", other) == ""
    assert not (other / "index").exists()


@pytest.mark.parametrize("name", ["-A.db", "--help.db", ":(top).db", "a b;touch owned.db", "*.db", "$(touch owned).db"])
def test_a_name_is_a_name(name: str, repository: Path, owned: Path) -> None:
    """A database whose name looks like an option, a pathspec or a command: that file is staged, and no other."""
    environment = {"CODEX_LOG_DB_PATH": f"./{name}"}
    (repository / "other.db").write_bytes(b"not asked for")
    assert set(finalize(repository, environment)) == {name, "codex_session_logs.db"}
    listed = shell("git -c core.fsmonitor=false ls-files -z", repository).stdout.split("\0")
    assert set(listed) - {""} == {name, "codex_session_logs.db"}
    assert not owned.exists()
    assert not list(repository.rglob("owned"))
