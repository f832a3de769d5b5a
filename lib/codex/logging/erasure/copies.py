"""What else holds what a database holds: its finalized copies, made anew; those of former states of it, removed."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from typing import NamedTuple

from codex.logging import config
from codex.logging.errors import CodexLoggingError
from codex.logging.finalize import backup_path, copy_path, discard, is_there, snapshot
from codex.logging.secrets.search import Search
from codex.logging.store import fresh
from codex.logging.store.connection import translated

_FORMER = (".before-rebuild", ".rebuild", ".schema-[0-9]*")
_LOGS = ("", "-wal", "-shm", "-journal")


class Copies(NamedTuple):
    """The finalized copies that were made anew, those that could only be removed (and why), and the former states."""

    renewed: list[str]
    removed: list[str]
    notes: list[str]


def finalized(database: str) -> list[str]:
    """Where there are finalized copies."""
    targets = {copy_path(database), backup_path(database)} - {None, database}
    return sorted(target for target in targets if target is not None and is_there(target))


def formers(database: str) -> list[str]:
    """Copies of the database as it was: before a rebuild or an upgrade, or of one that was never ended."""
    return sorted(path for suffix in _FORMER for path in glob.glob(glob.escape(database) + suffix))


def renew(database: str) -> Copies:
    """Let no copy hold what the database holds no more. Raises DatabaseError."""
    done = Copies([], [], [])
    with translated(database):
        fresh.remove_dead(database)
        for path in formers(database):
            for suffix in _LOGS:
                with suppress(FileNotFoundError):
                    os.unlink(path + suffix)
            done.removed.append(path)
    search = None if config.allows_secrets() else Search.of(database)
    for target in finalized(database):
        try:
            snapshot(database, target, search)
            done.renewed.append(target)
        except CodexLoggingError as error:
            discard(target)
            done.removed.append(target)
            done.notes.append(f"{target} was removed, since it could not be made anew: {error}")
    return done
