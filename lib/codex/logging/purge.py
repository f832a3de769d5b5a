"""Remove old sessions on purpose: only what is wholly ingested, and verified, and with a tombstone for what it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import portalocker

from codex.logging.errors import SourceError, StaleWatermarkError
from codex.logging.events import Stream
from codex.logging.import_ndjson import stream_locations
from codex.logging.ingest.beneath import FILE, folder_beneath, open_beneath
from codex.logging.ingest.packed import Unpacked
from codex.logging.ingest.sources import Facts, Location, facts_of, look, survey
from codex.logging.plain import counted
from codex.logging.store import legacy
from codex.logging.store.connection import immediate, translated
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import read_streams
from codex.logging.targets import Finding, targets_of
from codex.logging.verify import check
from codex.logging.wiping import is_unwiped, note_unwiped, wipe

DAY_SECONDS = 86400
_LAST_COMMITS = "SELECT stream, max(committed_at) FROM generations GROUP BY stream"


class Wish(NamedTuple):
    """What to purge: sessions at rest since that epoch second, of these ids if any are named; and which halves.

    Files under `log_dir` that nobody ingested can't go, and are told of.
    """

    before: float
    session_ids: Sequence[str]
    sources: bool
    rows: bool
    dry_run: bool
    log_dir: str | None = None

    def names(self, session_id: str) -> bool:
        """Whether it is about this session."""
        return not self.session_ids or session_id in self.session_ids


class Purged(NamedTuple):
    """What came of one stream: the files, recorded bytes and rows of a forerunner that go, or why they stay."""

    session_id: str
    files: list[str]
    length: int
    kept_because: str | None
    old_rows: int = 0

    def as_text(self, wish: Wish) -> str:
        """One line, for the wish that it came of."""
        if self.kept_because is not None:
            return f"{self.session_id}: kept: {self.kept_because}"
        what = [counted(len(self.files), "file")] if wish.sources and self.files else []
        what += [f"{self.length} bytes of rows"] if wish.rows and self.length else []
        what += [f"{counted(self.old_rows, 'row')} of a forerunner"] if self.old_rows else []
        fate = "would go" if wish.dry_run else "gone"
        return f"{self.session_id}: {fate}: {' and '.join(what) or 'nothing was left of it'}"


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
    streams = read_streams(store.connection)
    for stream in streams:
        if wish.names(stream.session_id) and stream.standing and last_commits.get(stream.id, 0.0) < wish.before:
            result = _purge(store, stream, wish)
            if wish.rows or result.files or result.kept_because is not None:
                yield result
    if wish.sources and wish.log_dir is not None:
        yield from _never_ingested(streams, wish.log_dir, wish)
    if wish.rows:
        yield from _purge_old_rows(store, wish)
    if erases and is_unwiped(store):
        wipe(store)


def _purge(store: Store, stream: Stream, wish: Wish) -> Purged:
    length = sum(generation.cursor.offset for generation in stream.generations if generation.how != "purged")
    try:
        files = [facts for _, facts in survey(Location(stream.root, stream.key, 0))]
        meta = look(Location(stream.root, f"{stream.key.removesuffix('.ndjson')}.meta", 0))
        because = _objection(store, stream, files, meta, wish)
    except SourceError as error:
        return Purged(stream.session_id, [], length, f"its files can't be seen: {error}")
    old_rows = legacy.count(store.connection, stream.session_id) if wish.rows else 0
    sources = files if meta is None else [*files, meta]
    if because is None and not wish.dry_run:
        because = remove(store, stream, sources if wish.sources else (), rows=wish.rows)
    return Purged(stream.session_id, [facts.location.path for facts in sources], length, because, old_rows)


def _never_ingested(streams: Sequence[Stream], log_dir: str, wish: Wish) -> Iterator[Purged]:
    """Log files that have come to rest and never became a stream."""
    known = {os.path.realpath(os.path.join(stream.root, stream.key)) for stream in streams}
    for location in stream_locations(log_dir):
        facts = look(location)
        if facts is None or not wish.names(location.session_id) or os.path.realpath(location.path) in known:
            continue
        if facts.modified / 1e9 < wish.before:
            because = f"{location.path} was never ingested: run codex-import-ndjson --all"
            yield Purged(location.session_id, [location.path], 0, because)


def _purge_old_rows(store: Store, wish: Wish) -> Iterator[Purged]:
    """Sessions of which an upgraded database has a forerunner's rows alone."""
    with translated(store.path):
        for session_id in filter(wish.names, legacy.at_rest(store.connection, wish.before)):
            count = legacy.count(store.connection, session_id)
            if not wish.dry_run:
                note_unwiped(store)
                with immediate(store.connection):
                    legacy.remove(store.connection, session_id)
            yield Purged(session_id, [], 0, None, count)


def _objection(store: Store, stream: Stream, files: list[Facts], meta: Facts | None, wish: Wish) -> str | None:
    """Why the stream must stay; None when nothing speaks against it. Raises SourceError."""
    for facts in files:
        known = stream.at(facts.identity)
        if known is None or known.cursor.offset != _size(facts):
            return f"{facts.location.path} is not wholly ingested"
    for facts in files if meta is None else [*files, meta]:
        if facts.modified / 1e9 >= wish.before:
            return f"{facts.location.path} was written lately"
    if wish.rows and files and not wish.sources:
        return "its files are still there: purge them as well with --sources"
    for target in targets_of(store.connection, stream):
        for step in check(store.connection, target):
            if isinstance(step, Finding):
                return f"it doesn't verify: {step.detail} (generation {step.generation}, offset {step.offset})"
    return None


def _size(facts: Facts) -> int:
    """Bytes of a file's text."""
    if not facts.location.packed:
        return facts.size
    try:
        descriptor = open_beneath(facts.location.root, facts.location.name)
    except OSError as error:
        raise SourceError(f"{facts.location.path}: {error.strerror}") from error
    with closing(Unpacked(descriptor, facts.location.path)) as text:
        return text.size


def remove(store: Store, stream: Stream, files: Sequence[Facts], *, rows: bool) -> str | None:
    """Remove a stream's files, and with `rows` its rows; why that could not be, else None. Raises DatabaseError.

    The files first: rows without their file are still whole, but a file without its rows would be ingested anew. Of
    the files the oldest first: a rotated one that stayed alone behind younger ones that are gone is found no more.
    """
    for facts in reversed(files):
        try:
            _unlink(facts)
        except (OSError, SourceError, portalocker.LockException) as error:
            return f"{facts.location.path} can't be removed: {error}"
    if rows:
        note_unwiped(store)
        try:
            store.purge(stream)
        except StaleWatermarkError:
            return "it was written meanwhile"
    return None


def _unlink(facts: Facts) -> None:
    """Remove a file under its writers' lock, if it is as it was when it was verified."""
    place, name = os.path.split(facts.location.name)
    with folder_beneath(facts.location.root, place) as folder:
        descriptor = os.open(name, os.O_RDWR | FILE, dir_fd=folder)
        try:
            portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
            named = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not facts_of(facts.location, os.fstat(descriptor)) == facts == facts_of(facts.location, named):
                raise SourceError("it has changed meanwhile")
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(descriptor)
