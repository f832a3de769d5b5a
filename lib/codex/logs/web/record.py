"""The database as this process has it open: for reading, and always the file that is at its path now.

`codex-ingestd rebuild` puts another file there; a connection to the old one would show yesterday for ever.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from datasette.app import Datasette
from datasette.database import Database

_LONGEST_VALUE = 128 << 20  # bytes: twice the longest line


class Current:
    """One thread's connection to the file at a path; `identity` is that file's."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.identity: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    def connection(self, prepare: Callable[[sqlite3.Connection], object] = lambda fresh: None) -> sqlite3.Connection:
        """The same as before, or a fresh one, prepared, where another file is there now. Raises sqlite3.Error."""
        try:
            facts = os.stat(self._path)
        except OSError as error:
            raise sqlite3.OperationalError(f"{self._path}: {error.strerror}") from error
        identity = facts.st_dev, facts.st_ino
        if self._connection is None or identity != self.identity:
            self.close()
            fresh = connect(self._path)
            prepare(fresh)
            self._connection, self.identity = fresh, identity
        return self._connection

    def close(self) -> None:
        """Close it; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Record(Database):
    """The database for datasette, which is to read it and can do nothing else even where it would."""

    def __init__(self, datasette: Datasette, path: str) -> None:
        super().__init__(datasette, path=path, is_mutable=True)
        self._threads = threading.local()

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """A connection of its own."""
        if write:
            raise sqlite3.OperationalError("nothing can be written here")
        return connect(self.path)

    async def execute_fn(self, fn: Callable[[sqlite3.Connection], Any]) -> Any:
        """What the function gives for the connection of one of the threads."""

        def in_thread() -> Any:
            if not hasattr(self._threads, "current"):
                self._threads.current = Current(self.path)
            return fn(self._threads.current.connection(lambda fresh: self.ds._prepare_connection(fresh, self.name)))

        return await asyncio.get_running_loop().run_in_executor(self.ds.executor, in_thread)


def connect(path: str) -> sqlite3.Connection:
    """Open it for reading; never `immutable`: it changes while it is read. A query makes no value of any size."""
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    return connection
