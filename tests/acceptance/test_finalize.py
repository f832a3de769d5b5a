"""Finalize as a user runs it: the copy, and what git has afterwards, with real git and real Git LFS."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from codex.logging.query_logs import Selection, read_rows
from codex.logging.staging import STAGE_LIMIT_BYTES
from codex.logging.store.connection import open_reader
from tests.commands import BIN, ROOT, shell, succeed
from tests.daemon import Daemon, wait_for

COPY = "codex_session_logs.db"
PLACE = {"CODEX_SESSION_LOG_DIR": "sessions", "CODEX_LOG_DB_PATH": "session_logs.db"}
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs isn't installed")


@pytest.fixture(autouse=True)
def git_settings(tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch) -> None:
    """Nobody's git settings but these."""
    settings = tmp_path_factory.mktemp("git") / "config"
    settings.write_text('[user]\nname = T\nemail = t@example.org\n[protocol "file"]\nallow = always\n', "utf-8")
    environment.setenv("GIT_CONFIG_GLOBAL", str(settings))
    environment.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name, value in PLACE.items():
        environment.setenv(name, value)


@pytest.fixture
def repository(tmp_path: Path, log_dir: Path) -> Path:
    """A repository around `log_dir` and `database`, with one commit."""
    succeed("git init -q && git commit -q --allow-empty -m first", tmp_path)
    return tmp_path


def append(folder: Path, count: int, name: str = "a") -> None:
    """So many lines more in a session of the folder's `sessions`."""
    (folder / "sessions").mkdir(exist_ok=True)
    with (folder / "sessions" / f"{name}.ndjson").open("a", encoding="utf-8") as log:
        log.writelines(f'{{"message":"{n}"}}\n' for n in range(count))


def finalize(folder: Path, env: dict[str, str] | None = None, code: int = 0) -> dict[str, Any]:
    """What `codex-ingestd finalize --json` in the folder says."""
    result = shell("codex-ingestd finalize --json", folder, env)
    assert result.returncode == code, result.stdout + result.stderr
    return dict(json.loads(result.stdout))


def rows_of(database: Path) -> int:
    """The rows of a database that passes SQLite's own check."""
    with closing(open_reader(str(database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return len(list(read_rows(str(database), Selection())))


def staged_rows(repository: Path, name: str, place: Path, *, lfs: bool) -> int:
    """The rows of what git has staged under a name, checked out to another place; LFS or not must be as said."""
    blob = subprocess.run(["git", "cat-file", "blob", f":{name}"], cwd=repository, capture_output=True, check=True)
    pointer = re.search(rb"^oid sha256:(\w+)$", blob.stdout, re.MULTILINE)
    assert (pointer is not None) == lfs, blob.stdout[:100]
    elsewhere = place / f"staged-{time.monotonic_ns()}.db"
    if pointer is None:
        elsewhere.write_bytes(blob.stdout)
    else:
        folder = Path(succeed("git rev-parse --path-format=absolute --git-common-dir", repository).strip())
        oid = pointer[1].decode()
        shutil.copy(folder / "lfs" / "objects" / oid[:2] / oid[2:4] / oid, elsewhere)
    return rows_of(elsewhere)


def both_staged(repository: Path, place: Path, *, lfs: bool = False) -> tuple[int, int]:
    """The staged rows of the database and of the copy."""
    database, copy = (staged_rows(repository, name, place, lfs=lfs) for name in ("session_logs.db", COPY))
    return database, copy


@contextmanager
def writing(log: Path, lines_a_second: int) -> Iterator[None]:
    """A writer at that rate, a line a write, within the block."""
    stop = threading.Event()

    def write() -> None:
        began, count = time.monotonic(), 0
        with log.open("ab", buffering=0) as file:
            while not stop.wait(0.002):
                while count < (time.monotonic() - began) * lines_a_second:
                    file.write(b'{"role":"user","message":"%d"}\n' % count)
                    count += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("lfs", [False, pytest.param(True, marks=needs_lfs)])
def test_copy_and_blobs_are_whole_beside_a_daemon_that_writes(
    repository: Path, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory, lfs: bool
) -> None:
    """With 1,000 lines a second coming in, copy and staged blobs hold all that was committed before finalize began."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    daemon.start()
    with writing(daemon.log_dir / "busy.ndjson", 1000):
        for _ in range(4):
            daemon.wait_for_rows(len(daemon.rows()) + 500)
            committed = len(daemon.rows())
            done = finalize(repository, {"ALLOW_AUTOLFS": str(int(lfs))})
            assert not done["failures"]
            assert rows_of(repository / COPY) >= committed
            assert min(both_staged(repository, elsewhere, lfs=lfs)) >= committed
    assert daemon.stop() == 0


@pytest.mark.parametrize("lfs", [False, pytest.param(True, marks=needs_lfs)])
def test_log_that_cannot_be_emptied_is_staged_all_the_same(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, lfs: bool
) -> None:
    """While an old reader keeps rows in the write-ahead log, the database's path gets a complete database."""
    folder = repository / "place"
    folder.mkdir()
    if lfs:
        succeed("git lfs install --local && git lfs track place/session_logs.db", repository)
    append(folder, 10)
    finalize(folder)
    with closing(open_reader(str(folder / "session_logs.db"))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        append(folder, 90)
        assert [Path(path).name for path in finalize(folder)["staged"]] == ["session_logs.db", COPY]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert staged_rows(repository, "place/session_logs.db", elsewhere, lfs=lfs) == 100
    assert staged_rows(repository, f"place/{COPY}", elsewhere, lfs=False) == 100


def test_untouched_database_is_clean_after_staging(repository: Path) -> None:
    """With no daemon, the staged database is the file itself: `git status` knows no later change."""
    append(repository, 3)
    finalize(repository)
    assert succeed("git status --short -- '*.db'", repository) == f"A  {COPY}\nA  session_logs.db\n"


def test_documented_ignore_file_leaves_the_databases(repository: Path, daemon: Daemon) -> None:
    """With the README's .gitignore, what a daemon and its hook leave in the repository is the two databases alone."""
    readme = (ROOT / "lib" / "codex" / "logging" / "README.md").read_text("utf-8")
    found = re.search(r"<!-- ignore -->\n```gitignore\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    (repository / ".git" / "info" / "exclude").write_text(f"{found[1]}*.ndjson\n*.log\n", "utf-8")
    daemon.start("--finalize")
    (daemon.log_dir / "a.ndjson").write_text('{"type":"session_end"}\n', "utf-8")
    wait_for(lambda: daemon.told("hook ran"))
    wait_for((daemon.log_dir / ".codex-ingestd.pulse").exists)
    status = succeed("git status --porcelain --untracked-files=all", repository)
    assert {line[3:] for line in status.splitlines()} == {COPY, "session_logs.db"}


def test_copy_is_one_private_file(repository: Path) -> None:
    """The copy needs no log beside it, only its owner may read it, and no part of it is left behind."""
    append(repository, 3)
    done = finalize(repository, {"GH_COPILOT_BACKUP_ROOT": "deep/backups"})
    assert done["copy"] == str(repository / COPY)
    (backup,) = (repository / "deep" / "backups").glob(f"{repository.name}-*/{COPY}")
    assert done["backup"] == str(backup)
    assert done["rows"] == 3
    for copy in (repository / COPY, backup):
        assert copy.stat().st_mode & 0o777 == 0o600
        journal = f"sqlite3 'file:{copy}?immutable=1' 'PRAGMA journal_mode; SELECT count(*) FROM session_events'"
        assert succeed(journal, repository) == "delete\n3\n"
        assert not list(copy.parent.glob(f"{COPY}[.-][psw]*"))


def test_no_workspace_overwrites_the_backup_of_another(tmp_path: Path) -> None:
    """Workspaces of one name, in one backup folder, have a copy each, which their later ones replace."""
    env = {"GH_COPILOT_BACKUP_ROOT": str(tmp_path / "backups"), "CODEX_LOG_DB_PATH": ".codex/session_logs.db"}
    for count, parent in enumerate(("a", "b", "a"), 1):
        folder = tmp_path / parent / "project"
        folder.mkdir(parents=True, exist_ok=True)
        append(folder, count)
        finalize(folder, env)
    backups = list((tmp_path / "backups").glob(f"project-*/{COPY}"))
    assert sorted(rows_of(backup) for backup in backups) == [2, 4]
    assert len(list((tmp_path / "backups").iterdir())) == 2


def test_backup_that_fails_is_told_and_the_rest_is_done(repository: Path) -> None:
    """A backup folder that can't be made costs the backup, not the copy or the staging; the exit code is 1."""
    append(repository, 3)
    (repository / "file").touch()
    done = finalize(repository, {"GH_COPILOT_BACKUP_ROOT": "file/below"}, code=1)
    assert "not backed up" in done["failures"][0]
    assert len(done["staged"]) == 2


def test_session_that_cannot_be_read_is_told_and_the_rest_is_done(repository: Path) -> None:
    """A file under its writer's lock is not imported; the copy is made of what there is, with exit code 1."""
    append(repository, 3)
    append(repository, 3, "locked")
    with subprocess.Popen(
        ["flock", "sessions/locked.ndjson", "sh", "-c", "echo; exec cat"],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = finalize(repository, code=1)
        holder.communicate()
    assert "locked.ndjson" in done["failures"][0]
    assert rows_of(repository / COPY) == 3


def only(place: Path, *programs: str) -> dict[str, str]:
    """An environment whose PATH has these programs and ours alone."""
    for program in ("bash", *programs):
        (place / program).symlink_to(str(shutil.which(program)))
    return {"PATH": f"{BIN}{os.pathsep}{place}"}


def test_no_repository_costs_the_staging_alone(tmp_path: Path) -> None:
    """Outside a repository the copy is made, a note says what was not staged, and the exit code is 0."""
    append(tmp_path, 3)
    done = finalize(tmp_path)
    assert rows_of(tmp_path / COPY) == 3
    assert done["staged"] == []
    assert "not a git repository" in done["notes"][0]


def test_no_git_costs_the_staging_alone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without git on the PATH the copy is made, a note says so, and the exit code is 0."""
    append(repository, 3)
    done = finalize(repository, only(tmp_path_factory.mktemp("bin")))
    assert rows_of(repository / COPY) == 3
    assert "git can't be run" in done["notes"][0]


def test_ignored_files_are_left_out(repository: Path) -> None:
    """What .gitignore keeps out isn't staged, and a note says so; what is tracked is staged all the same."""
    append(repository, 3)
    (repository / ".gitignore").write_text("*.db\n", "utf-8")
    done = finalize(repository)
    assert done["staged"] == []
    assert len([note for note in done["notes"] if "ignored" in note]) == 2
    succeed(f"git add -f {COPY}", repository)
    append(repository, 3)
    assert finalize(repository)["staged"] == [str(repository / COPY)]


def test_held_index_costs_the_staging_alone(repository: Path) -> None:
    """Beside another git that holds the index, the copy is made, exit code 1 tells; the next finalize stages."""
    append(repository, 3)
    (repository / ".git" / "index.lock").touch()
    done = finalize(repository, code=1)
    assert "index.lock" in done["failures"][0]
    assert rows_of(repository / COPY) == 3
    (repository / ".git" / "index.lock").unlink()
    assert len(finalize(repository)["staged"]) == 2


def test_link_is_not_staged(repository: Path) -> None:
    """A database that is a symbolic link would be staged as a link: it is left out, with a note."""
    append(repository, 3)
    (repository / "session_logs.db").symlink_to("real.db")
    done = finalize(repository)
    assert "symbolic link" in done["notes"][0]
    assert done["staged"] == [str(repository / COPY)]


def test_hook_of_another_repository_does_not_lead_astray(repository: Path, tmp_path: Path) -> None:
    """Called where git's own variables name another repository, it stages in the one that holds the database."""
    succeed("git init -q other", tmp_path)
    append(repository, 3)
    env = {"GIT_DIR": str(tmp_path / "other" / ".git"), "GIT_INDEX_FILE": str(tmp_path / "other" / ".git" / "index")}
    assert len(finalize(repository, env)["staged"]) == 2
    assert succeed("git ls-files", tmp_path / "other") == ""
    assert COPY in succeed("git ls-files", repository)


@pytest.mark.parametrize("lfs", [False, pytest.param(True, marks=needs_lfs)])
@pytest.mark.parametrize("kind", ["worktree", "submodule", "subfolder"])
def test_place_within_git(repository: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, lfs: bool) -> None:
    """In a worktree, a submodule or a folder below the top, both are staged in the repository that holds them."""
    if kind == "worktree":
        succeed("git worktree add -q -b side place", repository)
    elif kind == "submodule":
        succeed("git init -q origin && git -C origin commit -q --allow-empty -m first", repository)
        succeed("git submodule --quiet add ./origin place", repository)
    else:
        (repository / "place").mkdir()
    before = succeed("git ls-files", repository)
    append(repository / "place", 5)
    done = finalize(repository / "place", {"ALLOW_AUTOLFS": str(int(lfs))})
    assert len(done["staged"]) == 2
    top = Path(succeed("git rev-parse --show-toplevel", repository / "place").strip())
    below = "place/" if kind == "subfolder" else ""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("session_logs.db", COPY):
        assert staged_rows(top, below + name, elsewhere, lfs=lfs) == 5
    if top != repository:
        assert succeed("git ls-files", repository) == before


def test_failing_pre_commit_hook_does_not_matter(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Staging runs no hooks and commits nothing."""
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    hook.chmod(0o755)
    append(repository, 3)
    finalize(repository)
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere")) == (3, 3)
    assert succeed("git log --oneline | wc -l", repository).strip() == "1"


@needs_lfs
@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("allowed", [False, True])
def test_lfs_is_set_up_only_where_it_is_allowed(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, tracked: bool, allowed: bool
) -> None:
    """ALLOW_AUTOLFS=1 turns tracked and untracked files into LFS's, .gitattributes staged; without it nothing does."""
    append(repository, 3)
    if tracked:
        finalize(repository)
        succeed("git commit -q -m databases", repository)
    done = finalize(repository, {"ALLOW_AUTOLFS": str(int(allowed))})
    assert len(done["staged"]) == 2
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere"), lfs=allowed) == (3, 3)
    names = succeed("git ls-files", repository).split()
    assert (".gitattributes" in names) == allowed
    if allowed:
        assert "*.db filter=lfs" in succeed("git cat-file blob :.gitattributes", repository)
        assert "pre-push" in succeed("ls .git/hooks", repository)


@needs_lfs
def test_pre_push_hook_of_others_is_left_alone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Git LFS doesn't install over it, and is not half set up: a note says so, and the files are staged as they are."""
    hook = repository / ".git" / "hooks" / "pre-push"
    hook.write_text("#!/bin/sh\nexit 0\n", "utf-8")
    append(repository, 3)
    done = finalize(repository, {"ALLOW_AUTOLFS": "1"})
    assert "Hook already exists" in done["notes"][0]
    assert hook.read_text("utf-8") == "#!/bin/sh\nexit 0\n"
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere")) == (3, 3)
    assert ".gitattributes" not in succeed("git ls-files", repository)


@needs_lfs
def test_lfs_that_is_there_is_used(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where LFS tracks the files already, they are staged through it, whatever their size, and nothing is changed."""
    succeed("git lfs install --local && git lfs track '*.db'", repository)
    attributes = (repository / ".gitattributes").read_text("utf-8")
    append(repository, 3)
    make_large(repository / "session_logs.db")
    assert len(finalize(repository)["staged"]) == 2
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere"), lfs=True) == (3, 3)
    assert (repository / ".gitattributes").read_text("utf-8") == attributes


@needs_lfs
def test_lfs_without_its_filter_is_none(repository: Path) -> None:
    """`filter=lfs` where no such filter is set up would store the file whole: a large one is refused."""
    (repository / ".gitattributes").write_text("*.db filter=lfs diff=lfs merge=lfs -text\n", "utf-8")
    append(repository, 3)
    make_large(repository / "session_logs.db")
    assert finalize(repository)["staged"] == []


@needs_lfs
def test_large_file_is_refused_with_the_commands_that_help(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Over the limit and not in LFS: the copy is made, nothing is staged, and the two commands shown make it work."""
    append(repository, 3)
    make_large(repository / "session_logs.db")
    done = finalize(repository)
    assert done["staged"] == []
    assert len(done["notes"]) == 2
    assert rows_of(repository / COPY) == 3
    commands = re.findall(r"`(git lfs [^`]+)`", done["notes"][0])
    assert len(commands) == 2
    for command in commands:
        succeed(command, repository)
    assert len(finalize(repository)["staged"]) == 2
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere"), lfs=True) == (3, 3)


def test_missing_git_lfs_is_told(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """ALLOW_AUTOLFS=1 without git-lfs: a note says so, and small files are staged as they are."""
    append(repository, 3)
    done = finalize(repository, {"ALLOW_AUTOLFS": "1", **only(tmp_path_factory.mktemp("bin"), "git")})
    assert "Git LFS could not be set up" in done["notes"][0]
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere")) == (3, 3)


def run(program: str, folder: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A Python program run in the folder by a fresh interpreter."""
    (folder / "program.py").write_text(textwrap.dedent(program), "utf-8")
    return shell("python program.py", folder, env)


def test_function_imports_first_and_gives_the_copy(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With no daemon and no import, the copy holds what was just written; its path comes back."""
    program = """
        from codex.logging import session
        from codex.logging.finalize import finalize_codex_log_db

        with session():
            pass
        print(finalize_codex_log_db())
    """
    result = run(program, repository)
    assert (result.stdout, result.stderr) == (f"{repository / COPY}\n", "")
    assert rows_of(repository / COPY) == 2
    assert both_staged(repository, tmp_path_factory.mktemp("elsewhere")) == (2, 2)


def test_one_log_for_all_sessions_is_imported_as_well(tmp_path: Path) -> None:
    """Where CODEX_LOG_DB_PATH names a log, what was written there is in the copy beside the default database."""
    program = """
        from codex.logging import log_event
        from codex.logging.finalize import finalize_codex_log_db

        log_event("a", "user", "hello")
        log_event("b", "user", "hello")
        print(finalize_codex_log_db())
    """
    result = run(program, tmp_path, {"CODEX_LOG_DB_PATH": "all.ndjson"})
    assert result.stdout == f"{tmp_path / '.codex' / COPY}\n", result.stderr
    assert rows_of(tmp_path / ".codex" / COPY) == 2


def test_working_directory_may_change_meanwhile(tmp_path: Path) -> None:
    """Starts, messages and ends written from several folders are in one database and in its one copy."""
    (tmp_path / "elsewhere").mkdir()
    program = """
        import os
        from codex.logging import end_session, log_event, start_session
        from codex.logging.finalize import finalize_codex_log_db

        start_session("moved")
        os.chdir("elsewhere")
        log_event("moved", "user", "from elsewhere")
        end_session("moved")
        print(finalize_codex_log_db())
    """
    assert run(program, tmp_path).stdout == f"{tmp_path / COPY}\n"
    assert rows_of(tmp_path / COPY) == 3
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("how", ["finally", "except"])
def test_own_exception_of_the_caller_comes_out(tmp_path: Path, how: str) -> None:
    """Where finalize can't work, the exception under way comes out, and the failure is a warning."""
    (tmp_path / "session_logs.db").write_bytes(b"no database " * 1000)
    program = f"""
        from codex.logging.finalize import finalize_codex_log_db

        try:
            raise LookupError("the caller's own")
        {how}:
            finalize_codex_log_db()
            {"raise" if how == "except" else ""}
    """
    result = run(program, tmp_path)
    assert result.stderr.splitlines()[-1] == "LookupError: the caller's own"
    assert "not finalized" in result.stderr
    assert "DatabaseError" not in result.stderr


def test_failure_is_raised_where_nothing_else_is_under_way(tmp_path: Path) -> None:
    """A caller without an exception of its own hears that there is no copy."""
    (tmp_path / "session_logs.db").write_bytes(b"no database " * 1000)
    result = run("from codex.logging.finalize import finalize_codex_log_db\nfinalize_codex_log_db()", tmp_path)
    assert "DatabaseError" in result.stderr.splitlines()[-1]
    assert not (tmp_path / COPY).exists()


def test_staging_that_fails_is_a_warning(tmp_path: Path) -> None:
    """Outside a repository the function returns the copy, and warns of what was not staged."""
    append(tmp_path, 3)
    result = run("from codex.logging.finalize import finalize_codex_log_db\nfinalize_codex_log_db()", tmp_path)
    assert result.returncode == 0
    assert "not staged" in result.stderr
    assert rows_of(tmp_path / COPY) == 3


def test_test_mode_writes_nothing_at_all(repository: Path) -> None:
    """TEST_MODE=1: no import, no copy, no backup, no git, by function and by command."""
    append(repository, 3)
    before = sorted(path for path in repository.rglob("*") if ".git" not in path.parts)
    env = {"TEST_MODE": "1", "GH_COPILOT_BACKUP_ROOT": "backups", "ALLOW_AUTOLFS": "1"}
    program = "from codex.logging.finalize import finalize_codex_log_db\nprint(finalize_codex_log_db())"
    assert succeed(f"python -c '{program}'", repository, env) == f"{repository / COPY}\n"
    finalize(repository, env)
    succeed("codex-ingestd finalize", repository, env)
    assert sorted(path for path in repository.rglob("*") if ".git" not in path.parts) == before
    assert succeed("git ls-files", repository) == ""


def test_damaged_database_leaves_the_former_copy(repository: Path) -> None:
    """A copy that doesn't pass SQLite's check replaces nothing; the exit code is 1 and a hint says what to do."""
    append(repository, 3000)
    finalize(repository)
    former = (repository / COPY).read_bytes()
    damaged = bytearray((repository / "session_logs.db").read_bytes())
    for page in range(len(damaged) // 2 // 16384, len(damaged) // 16384):
        damaged[page * 16384 : page * 16384 + 64] = b"\xff" * 64
    (repository / "session_logs.db").write_bytes(damaged)
    result = shell("codex-ingestd finalize", repository)
    assert result.returncode == 1
    assert "hint: " in result.stderr
    assert (repository / COPY).read_bytes() == former


def test_database_under_the_copys_name_is_refused(repository: Path) -> None:
    """A database named as its own copy would be is a setting that can't be used."""
    result = shell(f"codex-ingestd finalize --db {COPY}", repository)
    assert result.returncode == 2
    assert not (repository / COPY).exists()


def make_large(database: Path) -> None:
    """Somebody's own table takes the database over the limit."""
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("CREATE TABLE theirs (bytes)")
        connection.execute("INSERT INTO theirs VALUES (zeroblob(?))", (STAGE_LIMIT_BYTES,))
