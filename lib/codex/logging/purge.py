"""Remove old sessions on purpose: only what is wholly ingested, and verified, and with a tombstone for what it was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import portalocker

from codex.logging.errors import DatabaseError, SourceError, StaleWatermarkError
from codex.logging.events import Stream
from codex.logging.ingest.sources import Facts, Location, facts_of, look, survey
from codex.logging.store.connection import scalar, translated
from codex.logging.store.sqlite import Store, read_streams
from codex.logging.targets import Finding, targets_of
from codex.logging.verify import check

DAY_SECONDS = 86400
_TRUNCATE_SECONDS = 10.0
_UNWIPED = "unwiped"
_LAST_COMMITS = "SELECT stream, max(committed_at) FROM generations GROUP BY stream"


class Purged(NamedTuple):
    """What came of one stream: the files and recorded bytes that go, or why it stays."""

    session_id: str
    files: list[str]
    length: int
    kept_because: str | None


class Wish(NamedTuple):
    """What to purge: sessions at rest since that epoch second, of these ids if any are named; and which halves."""

    before: float
    session_ids: Sequence[str]
    sources: bool
    rows: bool
    dry_run: bool


def purge(store: Store, wish: Wish) -> Iterator[Purged]:
    """Purge what the wish asks for and nothing else may lose.

    Raises DatabaseError, at the end also where the file could not be cleared of what purged rows leave in it: the next
    purge of rows tries that again.
    """
    rows: list[Any] = store.connection.execute(_LAST_COMMITS).fetchall()
    last_commits: dict[int, float] = dict(rows)
    erases = wish.rows and not wish.dry_run
    if erases:
        store.connection.pragma("secure_delete", True)
    for stream in read_streams(store.connection):
        at_rest = last_commits.get(stream.id, 0.0) < wish.before
        named = not wish.session_ids or stream.session_id in wish.session_ids
        if at_rest and named and stream.standing:
            yield _purge(store, stream, wish)
    if erases and scalar(store.connection, "SELECT value FROM meta WHERE key = ?", (_UNWIPED,)):
        _wipe(store)


def _purge(store: Store, stream: Stream, wish: Wish) -> Purged:
    length = sum(generation.cursor.offset for generation in stream.generations if generation.how != "purged")
    try:
        files = [facts for _, facts in survey(Location(stream.root, stream.key, 0))]
    except SourceError as error:
        return Purged(stream.session_id, [], length, f"its files can't be seen: {error}")
    because = _objection(store, stream, files, wish)
    if because is None and not wish.dry_run:
        because = _remove(store, stream, files, wish)
    return Purged(stream.session_id, [facts.location.path for facts in files], length, because)


def _objection(store: Store, stream: Stream, files: list[Facts], wish: Wish) -> str | None:
    """Why the stream must stay; None when nothing speaks against it."""
    for facts in files:
        path, known = facts.location.path, stream.at(facts.identity)
        if known is None or known.cursor.offset != facts.size:
            return f"{path} is not wholly ingested"
        if facts.modified / 1e9 >= wish.before:
            return f"{path} was written lately"
    if wish.rows and files and not wish.sources:
        return "its files are still there: purge them as well with --sources"
    for target in targets_of(store.connection, stream):
        for step in check(store.connection, target):
            if isinstance(step, Finding):
                return f"it doesn't verify: {step.detail} (generation {step.generation}, offset {step.offset})"
    return None


def _remove(store: Store, stream: Stream, files: list[Facts], wish: Wish) -> str | None:
    """The files first: rows without their file are still whole, but a file without its rows would be ingested anew."""
    if wish.sources:
        for facts in files:
            try:
                _unlink(facts)
            except (OSError, SourceError, portalocker.LockException) as error:
                return f"{facts.location.path} can't be removed: {error}"
    if wish.rows:
        store.note(_UNWIPED, "rows were purged, and the file is not yet cleared of what they leave in it")
        try:
            store.purge(stream)
        except StaleWatermarkError:
            return "it was written meanwhile"
    return None


def _unlink(facts: Facts) -> None:
    """Remove a file under its writers' lock, if it is as it was when it was verified."""
    descriptor = os.open(facts.location.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        if not facts_of(facts.location, os.fstat(descriptor)) == facts == look(facts.location):
            raise SourceError("it has changed meanwhile")
        os.unlink(facts.location.path)
    finally:
        os.close(descriptor)


def _wipe(store: Store) -> None:
    """Make the file anew, and empty the write-ahead log: free pages, and gaps within pages, hold what rows held."""
    hint = "Stop who reads it, or make room on the disk, and purge again: purged rows can still be found in the file."
    deadline = time.monotonic() + _TRUNCATE_SECONDS
    try:
        with translated(store.path):
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
