"""The one database that a running daemon serves: its lock, its rows, its checkpoints, and whether it is still there."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, closing, suppress
from types import TracebackType

import apsw

from codex.logging.store.checkpoint import RELIEF_BYTES, Checkpointer, identity
from codex.logging.store.sqlite import Store
from codex_ingestd.health.judge import Facts
from codex_ingestd.instance import Instance

BUSY_MILLISECONDS = 1000  # signals are served, and other work is done, between two tries


class Database(AbstractContextManager["Database"]):
    """Open and locked within its context. Raises DaemonRunningError and DatabaseError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> Database:
        with ExitStack() as stack:
            self._instance = stack.enter_context(Instance(self.path))
            self.store = stack.enter_context(closing(Store(self.path)))
            self.store.connection.wal_autocheckpoint(0)
            self.store.connection.pragma("journal_size_limit", RELIEF_BYTES)  # else it keeps its greatest size for ever
            self.store.connection.set_busy_timeout(BUSY_MILLISECONDS)
            self._identity = identity(self.path)
            stack.callback(self._let_go)
            self._checkpointer = stack.enter_context(Checkpointer(self.path))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def tell(self, facts: Facts) -> None:
        """Leave beside the database what the daemon tells of itself."""
        self._instance.tell(facts)

    def relieve(self) -> None:
        """Between two commits: a checkpoint, where the log has grown too large."""
        self._checkpointer.relieve(self.store.connection)

    def is_replaced(self) -> bool:
        """Whether the path names another file by now, or none: what is written here would never be found."""
        return identity(self.path) != self._identity

    def _let_go(self) -> None:
        """A replaced file may live on under another name, and needs what its log holds.

        And a log of the old file that stays behind under this path would be replayed into the new one.
        """
        if self.is_replaced():
            with suppress(apsw.Error):
                self.store.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
