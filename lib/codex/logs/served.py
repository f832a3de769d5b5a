"""Whether a daemon brings new lines into a database while somebody reads."""

from __future__ import annotations

import os


def is_served(database: str) -> bool:
    """Whether a daemon holds the lock beside the database, as it does as long as it runs."""
    import portalocker

    try:
        descriptor = os.open(f"{database}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        portalocker.lock(descriptor, portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return True
    except portalocker.LockException:
        return False
    finally:
        os.close(descriptor)
    return False
