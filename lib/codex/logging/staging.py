"""Stage the database and its copy with git: each a complete database, through Git LFS, and never an exception."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import apsw

from codex.logging.findings import is_scanned
from codex.logging.plain import counted

STAGE_LIMIT_BYTES = 50_000_000  # the large hosts warn from here on, and refuse twice as much
GIT_SECONDS = 120.0
_STILL_SECONDS = 2.0
_WRITERS_WAIT_MILLISECONDS = 20
_INDEX_SECONDS = 2.0
_INDEX_PAUSE = 0.05
# They would choose another repository than the one in which the database lies: a git hook sets them.
_CHOOSING = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
    }
)
# A repository's .git/config may name commands for each of these: nothing that is done here needs one. Only its filters
# stay: one that encrypts, left out, would have the rows staged in plain. What lies about without a `.git` is no
# repository: a clone brings such a folder along, with a configuration that somebody else wrote.
_NO_COMMANDS = (
    "core.fsmonitor=false",
    "core.pager=cat",
    "log.showSignature=false",
    "alias.lfs=",
    "maintenance.auto=0",
    "safe.bareRepository=explicit",
)
_NO_HOOKS = ("core.hooksPath=/dev/null",)
# What `git lfs install` writes there, whatever stands there by now.
_LFS = (
    "filter.lfs.clean=git-lfs clean -- %f",
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "filter.lfs.process=git-lfs filter-process",
    "filter.lfs.required=true",
)


class Staged(NamedTuple):
    """The paths that git has now; why others were left out for good; and why others failed, perhaps just now."""

    paths: list[str]
    notes: list[str]
    failures: list[str]


class _GitError(Exception):
    """What git said; `lasting` when trying again is no use."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class _Folder:
    """The folder of the database within its repository. Raises _GitError where there is no repository."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lfs: tuple[str, ...] = ()
        self._patience = _INDEX_SECONDS
        try:
            self.top = self.git("rev-parse", "--show-toplevel").removesuffix("\n")
            self.prefix = self.git("rev-parse", "--show-prefix").removesuffix("\n")
        except _GitError as error:
            raise _GitError(str(error), lasting=True) from error

    def git(self, *arguments: str, folder: str | None = None, codes: Sequence[int] = (0,), stdin: str = "") -> str:
        """What git prints. Raises _GitError."""
        variables = {name: value for name, value in os.environ.items() if name not in _CHOOSING}
        variables |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
        hooks = () if arguments[0] == "lfs" else _NO_HOOKS  # `git lfs install` puts its own where they are
        settings = [word for setting in (*_NO_COMMANDS, *hooks, *self._lfs) for word in ("-c", setting)]
        try:
            result = subprocess.run(  # noqa: S603
                ["git", *settings, "-C", folder or self.path, *arguments],  # noqa: S607
                env=variables,
                input=os.fsencode(stdin),
                capture_output=True,
                timeout=GIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _GitError(f"git {' '.join(arguments[:2])} took longer than {GIT_SECONDS:.0f} s") from error
        except OSError as error:
            raise _GitError(f"git can't be run: {error.strerror}", lasting=True) from error
        if result.returncode not in codes:
            said = os.fsdecode(result.stderr or result.stdout).strip().splitlines() or [f"code {result.returncode}"]
            raise _GitError(f"git {' '.join(arguments[:2])}: {said[0]}")
        return os.fsdecode(result.stdout)

    def change_index(self, *arguments: str, folder: str | None = None) -> None:
        """Run git on the index, again for a while where somebody else is changing it. Raises _GitError."""
        while True:
            try:
                self.git(*arguments, folder=folder)
            except _GitError as error:
                if "index.lock" not in str(error) or self._patience <= 0:
                    raise
                self._patience -= _INDEX_PAUSE
                time.sleep(_INDEX_PAUSE)
            else:
                return

    def add(self, name: str) -> None:
        """`git add` one file, whatever its name. Raises _GitError."""
        self.change_index("--literal-pathspecs", "add", "--", name)

    def ignored(self, names: Sequence[str]) -> set[str]:
        """Which of the names .gitignore keeps out; one that is tracked already isn't."""
        listing = self.git("check-ignore", "-z", "--stdin", codes=(0, 1), stdin="\0".join(f"./{n}" for n in names))
        return {name.removeprefix("./") for name in listing.split("\0") if name}

    def without_lfs(self, names: Sequence[str]) -> list[str]:
        """Those that git would store whole: no `filter=lfs`, or a filter of that name that isn't set up."""
        if not self.git("config", "--get-regexp", r"^filter\.lfs\.(clean|process)$", codes=(0, 1)):
            return list(names)
        self._lfs = _LFS
        words = self.git("check-attr", "-z", "filter", "--", *names).split("\0")
        return [name for name, value in zip(words[0::3], words[2::3], strict=False) if value != "lfs"]

    def set_up_lfs(self, patterns: Sequence[str]) -> None:
        """What a person would type: install, track, stage .gitattributes. Raises _GitError."""
        if os.path.islink(os.path.join(self.top, ".gitattributes")):
            raise _GitError(f"{self.top}/.gitattributes is a symbolic link")
        self.git("lfs", "install", "--local")
        self.git("lfs", "track", *patterns, folder=self.top)
        self.change_index("add", "--", ".gitattributes", folder=self.top)


def stage(database: str | None, copy: str, *, scanned: bool, copy_for_both: bool = False) -> Staged:
    """`git add` the copy, and the database (None: not that) in the same folder.

    With `scanned` nothing of the database is staged that came after the scan; with `copy_for_both` nothing of it at
    all: the copy is staged in its place. Outside a repository, or without git, that is a note.
    """
    staged = Staged([], [], [])
    paths = {os.path.basename(path): path for path in (database, copy) if path is not None}
    try:
        folder = _Folder(os.path.dirname(copy))
        names = _stageable(folder, paths, staged)
    except _GitError as error:
        what = " and ".join(paths.values())
        (staged.notes if error.lasting else staged.failures).append(f"not staged: {what}: {error}")
        return staged
    for name in names:
        try:
            if database is not None and paths[name] == database:
                if copy_for_both or not _add_still(folder, database, scanned):
                    _add_as(folder, copy, name)
            else:
                folder.add(name)
        except (_GitError, apsw.Error) as error:
            staged.failures.append(f"not staged: {paths[name]}: {error}")
        else:
            staged.paths.append(paths[name])
    return staged


def traces(paths: Sequence[str]) -> list[str]:
    """What git keeps of these files as they were, and how to be rid of it; nothing of git's is changed."""
    return [line for path in dict.fromkeys(paths) for line in _traces(path)]


def _traces(path: str) -> list[str]:
    name = os.path.basename(path)
    try:
        folder = _Folder(os.path.dirname(path))
        is_staged = bool(folder.git("--literal-pathspecs", "ls-files", "--cached", "--", name))
        commits = folder.git("--literal-pathspecs", "log", "--all", "--format=%h", "--", name).split()
    except (_GitError, OSError):
        return []
    told = [f"git holds {path} as it was"] if is_staged or commits else []
    if is_staged:
        git = f"git -C {shlex.quote(folder.top)}"
        place = shlex.quote(folder.prefix + name)
        again = f"{git} add -- {place}" if os.path.exists(path) else f"{git} rm --cached -- {place}"
        told.append(f"  in its index: `{again}`, and once no commit has it: `{git} gc --prune=now`")
    if commits:
        without = f"git filter-repo --invert-paths --path {shlex.quote(folder.prefix + name)}"
        told.append(
            f"  in {counted(len(commits), 'commit')}, {commits[0]} the latest, and wherever they were pushed: revoke"
            f" secrets; `{without}` writes the history anew"
        )
    return told


def offers(log_dir: str | None, key: str) -> list[str]:
    """What keeps the log files, and the key of the secrets' hashes, out of git, where nothing does so far."""
    logs = [] if log_dir is None else _open_to_git(log_dir, "session.ndjson", "the log files", "")
    name = os.path.basename(key)
    return [*logs, *_open_to_git(os.path.dirname(key), name, "the key of the hashes", name)]


def _open_to_git(path: str, name: str, what: str, ignored: str) -> list[str]:
    try:
        folder = _Folder(path)
        if folder.ignored([name]):
            return []
    except (_GitError, OSError):
        return []
    return [f"git takes {what} too, if added: put /{folder.prefix}{ignored} in {folder.top}/.gitignore"]


def _stageable(folder: _Folder, paths: dict[str, str], staged: Staged) -> list[str]:
    """The names that may be staged, with LFS set up where that is allowed; why not the others goes to `staged`."""
    links = {name for name, path in paths.items() if os.path.islink(path)}
    staged.notes.extend(f"not staged: {paths[name]} is a symbolic link" for name in links)
    ignored = folder.ignored([name for name in paths if name not in links])
    staged.notes.extend(f"not staged: {paths[name]} is ignored by git" for name in ignored)
    names = [name for name in paths if name not in links | ignored]
    whole = folder.without_lfs(names) if names else []
    patterns = sorted({"*" + (os.path.splitext(name)[1] or name) for name in whole})
    if whole and _may_set_up_lfs():
        try:
            folder.set_up_lfs(patterns)
        except _GitError as error:
            staged.notes.append(f"Git LFS could not be set up: {error}")
        whole = folder.without_lfs(names)
    refused = [name for name in whole if os.path.getsize(paths[name]) > STAGE_LIMIT_BYTES]
    for name in refused:
        staged.notes.append(
            f"not staged: {paths[name]} is larger than {STAGE_LIMIT_BYTES // 1_000_000} MB and not in Git LFS; run "
            f"`git lfs install --local` and `git lfs track {' '.join(map(repr, patterns))}` in {folder.top}, "
            "or set ALLOW_AUTOLFS=1"
        )
    return [name for name in names if name not in refused]


def _may_set_up_lfs() -> bool:
    return os.environ.get("ALLOW_AUTOLFS", "").strip().lower() in {"1", "true", "yes", "on"}


def _add_still(folder: _Folder, database: str, scanned: bool) -> bool:
    """Add the database's file; False where that alone isn't all, or has rows that weren't scanned for secrets."""
    # git reads the file alone. While the log holds rows, or a checkpoint writes pages, that would be less than a
    # database, or a torn one. So the log is emptied into the file, which is held still while git reads it.
    with _still(database) as connection:
        if connection is None or (scanned and not is_scanned(connection)):
            return False
        folder.add(os.path.basename(database))
        return True


def _add_as(folder: _Folder, copy: str, name: str) -> None:
    """Stage the copy under another file's path, through that path's filters."""
    blob = folder.git("hash-object", "-w", f"--path={name}", "--", os.path.basename(copy)).strip()
    folder.change_index("update-index", "--add", "--cacheinfo", f"100644,{blob},{folder.prefix}{name}")


@contextmanager
def _still(database: str) -> Iterator[apsw.Connection | None]:
    """Within it the file alone is the whole database, and stays so; None where that can't be had within 2 s.

    A reader that began while the log was empty reads the file alone, and no checkpoint writes under it; committing
    goes on, into the log.
    """
    deadline = time.monotonic() + _STILL_SECONDS
    with closing(apsw.Connection(database, flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(_WRITERS_WAIT_MILLISECONDS)
        connection.pragma("schema_version")  # before its first read a connection checkpoints nothing
        while not (is_still := _begin_still(connection, f"{database}-wal")) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield connection if is_still else None


def _begin_still(connection: apsw.Connection, log: str) -> bool:
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)  # the most of it, without a lock on writers
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        return False
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    try:
        if os.path.getsize(log) == 0:
            return True
    except FileNotFoundError:  # no write-ahead log: a reader keeps writers out
        return True
    connection.execute("ROLLBACK")
    return False
