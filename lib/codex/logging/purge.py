"""Remove old sessions on purpose: only what is wholly ingested, and verified, and with a tombstone for what it was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import portalocker

from codex.logging.errors import SourceError
from codex.logging.events import Stream
from codex.logging.ingest.sources import Facts, Location, survey
from codex.logging.store.connection import translated
from codex.logging.store.sqlite import Store, read_streams
from codex.logging.verify import Finding, check, targets

DAY_SECONDS = 86400
_TRUNCATE_SECONDS = 10.0
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
    """Purge what the wish asks for and nothing else may lose. Raises DatabaseError."""
    rows: list[Any] = store.connection.execute(_LAST_COMMITS).fetchall()
    last_commits: dict[int, float] = dict(rows)
    purged_any = False
    if wish.rows and not wish.dry_run:
        store.connection.pragma("secure_delete", True)
    for stream in read_streams(store.connection):
        at_rest = last_commits.get(stream.id, 0.0) < wish.before
        named = not wish.session_ids or stream.session_id in wish.session_ids
        if not (at_rest and named and stream.standing):
            continue
        files = survey(Location(stream.root, stream.key, 0))
        length = sum(generation.cursor.offset for generation in stream.standing)
        because = _objection(store, stream, files, wish)
        if because is None and not wish.dry_run:
            because = _remove(store, stream, files, wish)
            purged_any = purged_any or because is None
        yield Purged(stream.session_id, [place.path for place, _ in files], length, because)
    if purged_any and wish.rows:
        _wipe(store)


def _objection(store: Store, stream: Stream, files: list[tuple[Location, Facts]], wish: Wish) -> str | None:
    """Why the stream must stay; None when nothing speaks against it."""
    for place, facts in files:
        known = stream.at(facts.identity)
        if known is None or known.cursor.offset != facts.size:
            return f"{place.path} is not wholly ingested"
        if facts.modified / 1e9 >= wish.before:
            return f"{place.path} was written lately"
    if wish.rows and files and not wish.sources:
        return "its files are still there: purge them as well with --sources"
    for target in targets(store.connection, [stream.session_id]):
        if any(target.generation.id == generation.id for generation in stream.generations):
            for step in check(store.connection, target):
                if isinstance(step, Finding):
                    return f"it doesn't verify: {step.detail} (generation {step.generation}, offset {step.offset})"
    return None


def _remove(store: Store, stream: Stream, files: list[tuple[Location, Facts]], wish: Wish) -> str | None:
    if wish.sources:
        for place, facts in files:
            try:
                _unlink(place.path, facts.size)
            except (OSError, SourceError, portalocker.LockException) as error:
                return f"{place.path} can't be removed: {error}"
    if wish.rows:
        store.purge(stream)
    return None


def _unlink(path: str, size: int) -> None:
    """Remove a file under its writers' lock, if it has not grown since it was verified."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        if os.fstat(descriptor).st_size != size:
            raise SourceError("it has grown meanwhile")
        os.unlink(path)
    finally:
        os.close(descriptor)


def _wipe(store: Store) -> None:
    """Give the freed pages back, and empty the write-ahead log, which still holds what they held."""
    deadline = time.monotonic() + _TRUNCATE_SECONDS
    with translated(store.path):
        store.connection.execute("PRAGMA incremental_vacuum").fetchall()
        while store.connection.wal_checkpoint(mode=3)[0] > 0 and time.monotonic() < deadline:
            time.sleep(0.1)
