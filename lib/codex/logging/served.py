"""Whether a daemon serves a database: it holds the lock of the file beside it as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def is_served(database: str) -> bool:
    """Whether a daemon brings new lines into the database."""
    with held_lock(database) as descriptor:
        return descriptor is not None


@contextmanager
def held_lock(database: str) -> Iterator[int | None]:
    """The lock file beside a database, open for reading, where a daemon holds it; None where none does."""
    try:
        descriptor = os.open(f"{database}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield descriptor if _is_held(descriptor) else None
    finally:
        os.close(descriptor)


def _is_held(descriptor: int) -> bool:
    import portalocker  # a reader that finds no lock file starts without it

    try:
        portalocker.lock(descriptor, portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return True
    except portalocker.LockException:
        return False
    return False
