"""What a folder's file system is, and whether it does what the daemon needs of it: locks, shared memory, room."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from contextlib import closing, suppress

import apsw
import portalocker

# They tell of other hosts' changes late or never; many of them have no locks, or no memory that hosts share.
NETWORK = frozenset(
    {
        *("9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("smb3", "smbfs", "webdav", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "macfuse", "osxfuse"),
    }
)
SCRATCH = ".codex-ingestd.doctor-"
_EXCLUSIVE = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_LINE = re.compile(r" on (.*) \(([^,)]+)")


def kind_of(folder: str) -> str:
    """The name of the file system that a folder lies on, as `mount` calls it; empty where it isn't known."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            mounts = linux_mounts(table.read())
    except OSError:
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(["mount"], capture_output=True, text=True, timeout=5, check=True)  # noqa: S607
            return kind_in(other_mounts(done.stdout), os.path.realpath(folder))
        return ""
    return kind_in(mounts, os.path.realpath(folder))


def linux_mounts(text: str) -> list[tuple[str, str]]:
    """(place, kind) of each line of /proc/self/mountinfo, see proc_pid_mountinfo(5); later ones lie over earlier."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split(" ")[4])
        mounts.append((place, after.split(" ")[0]))
    return mounts


def other_mounts(text: str) -> list[tuple[str, str]]:
    """(place, kind) of each line that macOS's mount(8) prints."""
    return [found.groups() for found in map(_LINE.search, text.splitlines()) if found]  # type: ignore[misc]


def kind_in(mounts: list[tuple[str, str]], path: str) -> str:
    """The kind of the mount that an absolute path lies on."""
    found, deepest = "", -1
    for place, kind in mounts:
        if len(place) >= deepest and (path == place or path.startswith(os.path.join(place, ""))):
            found, deepest = kind, len(place)
    return found


def lock_hindrance(folder: str) -> str:
    """Why files there can't be locked, so that one waits for the other; empty where they can. Raises OSError."""
    with (
        tempfile.NamedTemporaryFile(dir=folder, prefix=SCRATCH) as mine,
        open(mine.name, "rb") as others,
    ):
        try:
            portalocker.lock(mine, _EXCLUSIVE)
        except portalocker.LockException as error:
            told = error.args[0] if error.args else error
            return getattr(told, "strerror", None) or str(told)
        try:
            portalocker.lock(others, _EXCLUSIVE)
        except portalocker.LockException:
            return ""
        return "two had the lock of one file at the same time"


def database_hindrance(folder: str) -> str:
    """Why SQLite can't keep a write-ahead log there; empty where it can. Raises OSError."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        try:
            with closing(apsw.Connection(os.path.join(scratch, "trial.db"))) as connection:
                mode = connection.pragma("journal_mode", "wal")
                connection.execute("CREATE TABLE trial (x)")
        except apsw.Error as error:
            return str(error)
    return "" if mode == "wal" else f"it is kept in the mode {mode}"


def room(folder: str) -> tuple[int, int | None]:
    """Bytes that this user may still write there, and files; None where they aren't counted. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else None
