"""A database that isn't there yet: made beside its place without a journal on the disk, moved there when it is whole.

Nobody else sees it before, so that it needn't survive a crash: every byte is still in the logs, and what a dead process
left is removed by the next.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import BinaryIO, TypeVar

import portalocker

from codex.logging.errors import DatabaseError
from codex.logging.owners import make_folders
from codex.logging.store.connection import translated
from codex.logging.store.disk import sync
from codex.logging.store.private import refuse_open
from codex.logging.store.sqlite import Store

_CHECKPOINT_PAGES = 4096  # 64 MiB: the log's fsyncs are what a backfill waits for

T = TypeVar("T")


def filled(database: str, fill: Callable[[Store], T]) -> T:
    """What `fill` gives, with a store of the database; raises what it raises.

    Where another process made the database meanwhile, `fill` is done once more, with that one. Of a `fill` that is
    interrupted what it has committed stays.
    """
    if not os.path.exists(database):
        with _workshop(database) as folder, closing(_private(os.path.join(folder, "db"))) as store:
            try:
                given = fill(store)
            except DatabaseError:
                raise
            except BaseException:
                _publish(store, database)
                raise
            if _publish(store, database):
                return given
    with closing(Store(database)) as store:
        store.connection.wal_autocheckpoint(_CHECKPOINT_PAGES)
        return fill(store)


def _private(path: str) -> Store:
    """A store that nobody else sees, and that a crash may damage."""
    store = Store(path)
    for setting, value in (("journal_mode", "memory"), ("synchronous", "off"), ("locking_mode", "exclusive")):
        store.connection.pragma(setting, value)
    return store


def _publish(store: Store, database: str) -> bool:
    """Close the store, and move it to where the database is to be; False where there is one by now."""
    with translated(store.path):
        store.connection.pragma("locking_mode", "normal")
        store.connection.pragma("journal_mode", "wal")
        store.close()
        sync(store.path)
    with translated(database):
        try:
            os.link(store.path, database)
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            if os.path.exists(database):
                return False
            os.rename(store.path, database)
        sync(os.path.dirname(database))
    return True


@contextmanager
def _workshop(database: str) -> Iterator[str]:
    """A folder beside the database, gone with the block; those of dead processes go as well."""
    home, prefix = _place(database)
    with translated(database):
        make_folders(home)
        refuse_open(database)
        remove_dead(database)
        folder, lock = _locked_folder(home, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _locked_folder(home: str, prefix: str) -> tuple[str, BinaryIO]:
    """A new folder, and the lock in it that tells that its maker lives."""
    while True:
        folder = tempfile.mkdtemp(prefix=prefix, dir=home)
        with suppress(FileNotFoundError, portalocker.LockException):  # taken for a dead one's before it was locked
            lock = open(os.path.join(folder, "lock"), "wb")  # noqa: SIM115
            portalocker.lock(lock, portalocker.LOCK_EX | portalocker.LOCK_NB)
            if os.path.exists(lock.name):
                return folder, lock


def remove_dead(database: str) -> None:
    """Remove what processes left that died while they made the database."""
    home, prefix = _place(database)
    for name in os.listdir(home):
        if name.startswith(prefix):
            _remove_dead(os.path.join(home, name))


def _place(database: str) -> tuple[str, str]:
    """The folder in which workshops are, and how their names begin."""
    return os.path.dirname(database), f".{os.path.basename(database)}.making-"


def _remove_dead(folder: str) -> None:
    with suppress(OSError, portalocker.LockException), open(os.path.join(folder, "lock"), "r+b") as lock:
        portalocker.lock(lock, portalocker.LOCK_EX | portalocker.LOCK_NB)
        shutil.rmtree(folder)
