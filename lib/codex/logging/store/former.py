"""The database as it was before an upgrade: a copy beside it, until the upgraded one has been verified as a whole."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import closing, suppress

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.store.disk import sync

_PAGES = 1024
_SPARE_BYTES = 16 << 20
_KEY = "former"
# The verifying begins anew: what it has seen was another schema's.
_NOTE = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_BEGIN_VERIFYING = "DELETE FROM meta WHERE key = 'verified'"
_NOTED = "SELECT value FROM meta WHERE key = ?"
_FORGET = "DELETE FROM meta WHERE key = ?"

log = logging.getLogger("codex.logging")


def keep(path: str, version: int) -> str:
    """Copy what is committed to PATH.schema-VERSION, which is there as a whole or not at all; its path.

    The caller's transaction keeps writers away. Raises DatabaseError where there is no room for it, OSError, and
    apsw.Error.
    """
    kept, part = f"{path}.schema-{version}", f"{path}.schema-{version}.part"
    _check_room(path)
    try:
        with suppress(FileNotFoundError):
            os.unlink(part)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as source:
            _copy(source, part)
        os.replace(part, kept)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    return kept


def note(connection: apsw.Connection, kept: str, to: int) -> None:
    """Within the upgrade's transaction: the copy is to be let go of once this database is proven."""
    connection.execute(_NOTE, (_KEY, os.path.basename(kept)))
    connection.execute(_BEGIN_VERIFYING)
    log.warning("the database is brought up to schema %d; as it was, it is kept in %s until it is verified", to, kept)


def let_go(connection: apsw.Connection, path: str) -> str | None:
    """Remove the copy, if there is one; its path. Raises apsw.Error."""
    row = connection.execute(_NOTED, (_KEY,)).fetchone()
    if row is None:
        return None
    kept = os.path.join(os.path.dirname(path), str(row[0]))
    with suppress(FileNotFoundError):
        os.unlink(kept)
    connection.execute(_FORGET, (_KEY,))
    return kept


def _check_room(path: str) -> None:
    size = sum(os.path.getsize(name) for name in (path, f"{path}-wal") if os.path.exists(name))
    free = shutil.disk_usage(os.path.dirname(path)).free
    if free < size + _SPARE_BYTES:
        raise DatabaseError(
            f"{path} is to be brought up to date, and there is no room to keep a copy of it: {size >> 20} MiB",
            hint="Make room in its folder, or move it to a larger disk and name it with --db.",
        )


def _copy(source: apsw.Connection, part: str) -> None:
    with closing(apsw.Connection(part)) as target:
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(_PAGES)
        target.pragma("journal_mode", "delete")  # one file, by itself
    sync(part)
