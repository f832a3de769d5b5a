"""Looks at all that a daemon lives on, and says of each thing whether it is fine, and what to do where it isn't."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Literal, NamedTuple

import apsw

from codex.logging.config import test_mode
from codex.logging.errors import CodexLoggingError, ConfigError
from codex.logging.events import iso_time
from codex.logging.ingest.sources import scan
from codex.logging.store.connection import APPLICATION_ID, migrations, open_reader, scalar, translated
from codex.logging.store.private import refuse_open
from codex_ingestd.doctor import filesystem
from codex_ingestd.health.judge import Facts, judge
from codex_ingestd.hooks.hook import CopyAndStage
from codex_ingestd.settings.values import Problem, Settings
from codex_ingestd.watch.watcher import hindrance

SAFE_SQLITE = (3, 51, 3)  # older ones can damage a database that two connections write to in write-ahead mode
FREE_BYTES = 64 << 20  # as much as the longest line
AMPLE_BYTES = 1 << 30
FREE_FILES = 1000
AHEAD_SECONDS = 60.0
_GIT_SECONDS = 10.0

Level = Literal["fine", "note", "warning", "problem"]


class Finding(NamedTuple):
    """What a check found, and what to do; a `note` needs nothing, a `problem` keeps the daemon from its work."""

    check: str
    level: Level
    message: str
    hint: str = ""


def configuration(problems: list[Problem], files: list[str]) -> Iterator[Finding]:
    """What `validate` says, and TEST_MODE."""
    for problem in problems:
        yield Finding("configuration", "problem", str(problem), problem.hint)
    if test_mode():
        yield Finding("configuration", "problem", "TEST_MODE is set: nothing is written at all", "Unset TEST_MODE.")
    if not problems:
        yield Finding("configuration", "fine", ", ".join(files) or "no file: the defaults and the environment count")


def folders(settings: Settings) -> Iterator[Finding]:
    """The roots: there, private, readable, lockable."""
    for root in settings.folders:
        try:
            yield from _folder(root)
        except OSError as error:
            yield Finding("folder", "problem", f"{root}: {error.strerror}", "Give this user the right to it.")


def _folder(root: str) -> Iterator[Finding]:
    if not os.path.isdir(root):
        yield _missing("folder", root)
        return
    mode = os.stat(root).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        message = f"{root}: everybody may put logs into it, and take them away (mode {stat.S_IMODE(mode):o})"
        yield Finding("folder", "problem", message, f"chmod o-w {root}")
    if not os.access(root, os.W_OK):
        message = f"{root}: this user can't write to it: no test is made there, and no pulse is taken"
        yield Finding("folder", "warning", message, "Run it as the user whose agents write there.")
    elif reason := filesystem.lock_hindrance(root):
        message = f"{root}: files on it can't be locked: {reason}"
        yield Finding("locks", "problem", message, "Put the logs on a file system that has flock.")
    if (kind := filesystem.kind_of(root)) in filesystem.NETWORK:
        message = f"{root} is on {kind}: of what other hosts append nobody tells, sweeps find it within minutes"
        yield Finding("folder", "warning", message, "Run the daemon on the host where the agents write.")
    yield from _files(root)


def _files(root: str) -> Iterator[Finding]:
    count, closed, odd = 0, [], []
    for found in scan(root):
        count += 1
        if found.facts is None:
            odd.append(f"{found.location.path} {found.reason}")
        elif not os.access(found.location.path, os.R_OK):
            closed.append(found.location.path)
    if closed:
        message = f"{len(closed)} logs can't be read, {closed[0]} for one"
        yield Finding("folder", "problem", message, "Give this user the right to read them.")
    if odd:
        yield Finding("folder", "note", f"{len(odd)} names are passed over: {odd[0]}")
    if not closed:
        yield Finding("folder", "fine", f"{root}: {count} logs")


def _missing(check: str, path: str) -> Finding:
    parent = path
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if os.access(parent, os.W_OK | os.X_OK):
        return Finding(check, "note", f"{path} isn't there yet: it will be made")
    message = f"{path} isn't there, and this user can't make it in {parent}"
    return Finding(check, "problem", message, f"Make it, or give this user the right to write to {parent}.")


def watches(settings: Settings, facts: Facts | None) -> Iterator[Finding]:
    """Whether the system tells of changes: by the daemon's word, or by a trial where none runs."""
    there = [root for root in settings.folders if os.path.isdir(root)]
    reason = hindrance(there) if facts is None else facts.reason if facts.watcher == "polling" else ""
    if reason:
        hint = "Raise fs.inotify.max_user_watches and max_user_instances with sysctl, or watch fewer folders."
        yield Finding("watches", "warning", f"changes are polled for, each second: {reason}", hint)
    elif there:
        yield Finding("watches", "fine", f"the system tells of changes in {len(there)} folders")


def sqlite(version: str) -> Iterator[Finding]:
    """The library's own version, such as 3.51.3."""
    if tuple(map(int, version.split("."))) < SAFE_SQLITE:
        least = ".".join(map(str, SAFE_SQLITE))
        message = f"SQLite {version} can damage a database that several connections write to"
        yield Finding("sqlite", "problem", message, f"pip install --upgrade apsw, which brings {least} or newer.")
    else:
        yield Finding("sqlite", "fine", f"SQLite {version}")


def database(path: str) -> Iterator[Finding]:
    """The database's file and folder: private, sound, on a disk that can have it, with room."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        yield _missing("database", folder)
        return
    try:
        yield from _place(path, folder)
        yield from _room(folder)
        yield from _file(path)
    except OSError as error:
        yield Finding("database", "problem", f"{folder}: {error.strerror}", "Give this user the right to write there.")


def _place(path: str, folder: str) -> Iterator[Finding]:
    try:
        refuse_open(path)
    except ConfigError as error:
        yield Finding("database", "problem", str(error), error.hint)
    if (kind := filesystem.kind_of(folder)) in filesystem.NETWORK:
        message = f"{path} is on {kind}, where SQLite's write-ahead log doesn't work between hosts"
        yield Finding("database", "problem", message, "Put the database on a local disk.")
    if not os.access(folder, os.W_OK):
        message = f"{folder}: this user can't write to it"
        yield Finding("database", "problem", message, "Give this user the right, or choose another --db.")
        return
    for reason in filter(None, (filesystem.lock_hindrance(folder), filesystem.database_hindrance(folder))):
        message = f"{folder}: no database can be kept there: {reason}"
        yield Finding("locks", "problem", message, "Put the database on a local disk that has locks.")


def _room(folder: str) -> Iterator[Finding]:
    size, files = filesystem.room(folder)
    text = f"{folder}: {size >> 20} MiB are free"
    hint = "Make room; where the disk is full, rows wait in the logs, and nothing is lost."
    if size < AMPLE_BYTES:
        yield Finding("disk", "problem" if size < FREE_BYTES else "warning", text, hint)
    elif files is not None and files < FREE_FILES:
        yield Finding("disk", "problem", f"{folder}: only {files} more files can be made", hint)
    else:
        yield Finding("disk", "fine", text)


def _file(path: str) -> Iterator[Finding]:
    if not os.path.exists(path):
        yield Finding("database", "note", f"{path} isn't there yet: it will be made")
        return
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        message = f"{path}: others than its owner may open it (mode {mode:o})"
        yield Finding("database", "warning", message, f"chmod 600 {path}")
    try:
        with closing(open_reader(path)) as connection, translated(path):
            version, known = connection.pragma("user_version"), len(migrations())
            is_ours = connection.pragma("application_id") == APPLICATION_ID
            newest = scalar(connection, "SELECT max(committed_at) FROM generations") if is_ours else None
    except CodexLoggingError as error:
        yield Finding("database", "problem", str(error), error.hint)
        return
    if not is_ours:
        yield Finding("database", "note", f"{path} isn't this program's yet: the next start upgrades it or refuses it")
        return
    if version > known:
        message = f"{path} was made by a newer version (schema {version}, this program knows {known})"
        yield Finding("database", "problem", message, "Upgrade codex-ingestd, or choose another --db.")
        return
    if version < known:
        yield Finding("database", "note", f"{path} has schema {version}: the next start brings it to {known}")
    yield Finding("database", "fine", f"{path}: {os.path.getsize(path) >> 20} MiB")
    yield from _clock(newest, time.time())


def _clock(newest: float | None, now: float) -> Iterator[Finding]:
    if newest is not None and newest > now + AHEAD_SECONDS:
        message = f"the newest commit is of {iso_time(newest)}, and it is only {iso_time(now)} by this clock"
        yield Finding("clock", "problem", message, "Set the clock, and have it kept right: timedatectl set-ntp true.")
    else:
        yield Finding("clock", "fine", f"it is {iso_time(now)}")


def git(settings: Settings) -> Iterator[Finding]:
    """What the hook `finalize` needs; without that hook it is a note at most."""
    level: Level = "warning" if CopyAndStage.name in settings.hooks else "note"
    folder = os.path.dirname(settings.db)
    if shutil.which("git") is None:
        yield Finding("git", level, "git isn't on the PATH: finalize copies, and stages nothing", "Install git.")
    elif not os.path.isdir(folder) or not _runs("git", "-C", folder, "rev-parse", "--show-toplevel"):
        yield Finding("git", "note", f"{folder} is in no git repository: finalize copies, and stages nothing")
    elif not _runs("git", "-C", os.sep, "lfs", "version"):
        hint = "Install git-lfs, and run `git lfs install --local`."
        yield Finding("git", level, "Git LFS isn't installed: a database of more than 50 MB isn't staged", hint)
    else:
        yield Finding("git", "fine", "git and Git LFS are there")


def _runs(*command: str) -> bool:
    try:
        return not subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=False).returncode  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False


def daemon(facts: Facts | None) -> Iterator[Finding]:
    """What the daemon tells of itself, or that there is none."""
    if facts is None:
        hint = "`codex-ingestd run`, or `codex-ingestd install` for ever after."
        yield Finding("daemon", "warning", "no daemon serves this database", hint)
        return
    health = judge(facts, time.monotonic())
    for reason in health.reasons:
        yield Finding("daemon", "problem", reason, "Its log tells more; stop and start it where it stays so.")
    if health.is_well:
        yield Finding("daemon", "fine", f"pid {facts.pid} is well, and told so {time.monotonic() - facts.at:.0f} s ago")


def look(settings: Settings, facts: Facts | None) -> Iterator[Finding]:
    """Every check but the configuration's and the trial."""
    yield from sqlite(apsw.sqlite_lib_version())
    yield from folders(settings)
    yield from database(settings.db)
    yield from watches(settings, facts)
    yield from git(settings)
    yield from daemon(facts)
