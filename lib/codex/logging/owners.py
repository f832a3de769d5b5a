"""Who may write a file or a folder: its owner, root, or others too; and folders that are their owner's alone."""

from __future__ import annotations

import os
import stat


def make_folders(path: str) -> None:
    """Make a folder, and those above it that are missing, each with mode 0700. Raises OSError."""
    above = os.path.dirname(path)
    if above not in ("", path) and not os.path.isdir(above):
        make_folders(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def others_may_write(status: os.stat_result) -> bool:
    """Whether anybody may but root, and the owner with those groups that hold nobody else.

    A group named after the owner and without other members is the owner's own, as many systems give each user one.
    """
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_of_one(status.st_gid, status.st_uid)


def others_may_replace(status: os.stat_result) -> bool:
    """Whether others may put a file in the place of one in this folder, which in a sticky one its owner alone may."""
    return others_may_write(status) and not status.st_mode & stat.S_ISVTX


def is_trusted(uid: int) -> bool:
    """Whether this user is we, or root."""
    return uid in (0, os.geteuid())


def _is_of_one(gid: int, uid: int) -> bool:
    import grp  # neither is needed where a mode is private
    import pwd

    if gid == 0:
        return True
    try:
        group, owner = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    return (group.gr_name, group.gr_gid) == (owner.pw_name, owner.pw_gid) and set(group.gr_mem) <= {owner.pw_name}
