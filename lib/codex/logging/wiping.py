"""Clear a database's file of what removed rows leave in it: free pages, gaps in pages, the search index, the log.

That takes a while, and may fail where somebody reads: a note in the database stays until it is done.
"""

from __future__ import annotations

import time

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.store import former, search_index
from codex.logging.store.connection import scalar, translated
from codex.logging.store.sqlite import Store

UNERASED = "unerased"  # in meta: something was erased, and other files may hold it still
_TRUNCATE_SECONDS = 10.0
_UNWIPED = "unwiped"


def note_unwiped(store: Store) -> None:
    """Before rows are removed: the file is to be wiped."""
    store.note(_UNWIPED, "rows were removed, and the file is not yet cleared of what they leave in it")


def is_unwiped(store: Store) -> bool:
    """Whether rows were removed, perhaps by a process that died, and the file was not wiped since."""
    return scalar(store.connection, "SELECT value FROM meta WHERE key = ?", (_UNWIPED,)) is not None


def wipe(store: Store) -> None:
    """Make the file anew, and empty the write-ahead log: free pages, and gaps within pages, hold what rows held.

    The search index keeps the words of what was taken out of it until it is merged. The copy from before an upgrade
    holds it as well, and goes. Raises DatabaseError; whoever wipes next tries that again.
    """
    hint = "Stop who reads it, or make room on the disk, and do it again: what was removed is still in the file."
    deadline = time.monotonic() + _TRUNCATE_SECONDS
    try:
        with translated(store.path):
            former.let_go(store.connection, store.path)
            search_index.compact(store.connection)
            store.connection.execute("VACUUM")
            while not _truncate(store.connection):
                if time.monotonic() >= deadline:
                    raise DatabaseError(f"{store.path}: its write-ahead log is being read, and can't be emptied")
                time.sleep(0.1)
    except DatabaseError as error:
        raise DatabaseError(str(error), hint=hint) from error
    store.note(_UNWIPED, None)


def _truncate(connection: apsw.Connection) -> bool:
    try:
        return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)[0] <= 0
    except apsw.BusyError:
        return False
