"""A database is this user's alone: others who may write it could tell what never was, and lead writers elsewhere."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from codex.logging import config
from codex.logging.errors import ConfigError, DatabaseError
from codex.logging.owners import is_trusted, others_may_replace, others_may_write

_THEIRS = "It is another user's: choose another folder with --db"
_BESIDE = ("", "-wal", "-shm", ".lock", ".key")
_OPENED = ("", "-wal", "-shm", "-journal")


def refuse_open(database: str) -> None:
    """Raise ConfigError where others may write a database or what lies beside it, or put their own in its place.

    Not where a setting allows it, nor for what isn't there yet. Raises OSError.
    """
    for path in {database, os.path.realpath(database)}:
        objection = _objection(path)
        if objection is not None and not config.lets_others_write():
            place, mend = objection
            raise ConfigError(
                f"{place}: others than this user may write to it, and to the database",
                hint=f"{mend}. Where those are to be trusted, set {config.WRITABLE_BY_OTHERS}=1, or"
                " `writable-by-others = true` in a file of settings.",
            )


def refuse_special(database: str) -> None:
    """Raise DatabaseError where a pipe or a device is in the place of a database, or of its log.

    SQLite would wait there for ever. Raises OSError.
    """
    for path in (database + suffix for suffix in _OPENED):
        with suppress(FileNotFoundError):
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise DatabaseError(f"{path} is no file", hint="Move it away, or choose another --db.")


def _objection(database: str) -> tuple[str, str] | None:
    """What others may write, and how to mend it."""
    folder = os.path.dirname(database)
    with suppress(FileNotFoundError):
        status = os.stat(folder)
        if others_may_replace(status):
            return folder, f"chmod go-w {folder}"
        if not _is_ours(status):
            return folder, _THEIRS
        is_shared = status.st_mode & stat.S_ISVTX and others_may_write(status)
        for path in (database + suffix for suffix in _BESIDE):
            with suppress(FileNotFoundError):
                if is_shared and not is_trusted(os.lstat(path).st_uid):  # a link would lead anywhere, if to nothing yet
                    return path, _THEIRS
                found = os.stat(path)
                if others_may_write(found):
                    return path, f"chmod go-w {path}"
                if not (is_trusted(found.st_uid) if is_shared else _is_ours(found)):
                    return path, _THEIRS
    return None


def _is_ours(status: os.stat_result) -> bool:
    """Whether this user, or root, owns it; root may well serve another user's folder."""
    return os.geteuid() == 0 or is_trusted(status.st_uid)
