"""Erase lines or texts of a session: stream by stream, with what came meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codex.logging.erasure import parts
from codex.logging.erasure.parts import Parts
from codex.logging.erasure.places import Place
from codex.logging.erasure.sources import opened
from codex.logging.erasure.wanted import Wanted
from codex.logging.erasure.whole import files_of
from codex.logging.errors import SourceChangedError, SourceError
from codex.logging.events import Stream
from codex.logging.import_ndjson import LOCK_SECONDS, import_stream
from codex.logging.ingest.engine import Engine
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.sources import Facts, Location, survey
from codex.logging.store import legacy
from codex.logging.store.connection import immediate, translated
from codex.logging.store.spans import filler
from codex.logging.store.sqlite import Store
from codex.logging.wiping import note_unwiped

_TRIES = 5  # it may be written, or replaced, meanwhile
_ENDLESS = 1 << 62  # a compressed file's text is longer than the file, and nothing is appended to it

Identities = frozenset[tuple[int, int]]


class Share(NamedTuple):
    """What there is of it: places, and the files that say it; `kept` is why what is still there couldn't be erased."""

    places: list[Place]
    files: list[str]
    old_rows: int = 0
    kept: tuple[str, ...] = ()


def foreseen(store: Store, session_id: str, streams: Sequence[Stream], wanted: Parts) -> Share:
    """What is to be erased. Raises SourceError, DatabaseError."""
    found = [one for stream in streams for one in parts.find(store, stream, _as_long_as_now(stream, wanted))]
    sources = [one.file for one in found] if wanted.sources else []
    files = [facts.location.path for facts in sources if facts is not None]
    for stream in streams:
        files += _erase_unrecorded(_unrecorded(stream, wanted), wanted, dry_run=True)
    with translated(store.path):
        old_rows = legacy.replace(store.connection, session_id, wanted.without, dry_run=True)
    return Share([place for one in found for place in one.places], list(dict.fromkeys(files)), old_rows)


def erase(store: Store, session_id: str, streams: Sequence[Stream], wanted: Parts) -> Share:
    """Erase it wherever it is. Raises DatabaseError."""
    engine = Engine(store, lock_seconds=LOCK_SECONDS, redactor=Redactor.of(store))
    shares = [_erase(store, engine, stream, wanted) for stream in streams]
    old_rows = foreseen(store, session_id, (), wanted).old_rows
    if old_rows:
        note_unwiped(store)
        with translated(store.path), immediate(store.connection):
            old_rows = legacy.replace(store.connection, session_id, wanted.without)
    return Share(
        [place for share in shares for place in share.places],
        [path for share in shares for path in share.files],
        old_rows,
        tuple(because for share in shares for because in share.kept),
    )


def _erase(store: Store, engine: Engine, stream: Stream, wanted: Parts) -> Share:
    """One stream's share, again where it is written or replaced meanwhile."""
    done, again, wanted = Share([], []), True, _as_long_as_now(stream, wanted)
    for attempt in range(_TRIES):
        if again:
            there = frozenset(facts.identity for facts in files_of(stream))
            error = import_stream(engine, Location(stream.root, stream.key, 0)).error
            known = store.stream(stream.root, stream.key) or stream
            looked_at = there if error is None else frozenset()
            done, again = _take(store, known, wanted, done._replace(kept=()), looked_at, last=attempt == _TRIES - 1)
    if done.files:  # one that was written anew is known again by that
        import_stream(engine, Location(stream.root, stream.key, 0))
    return done._replace(files=list(dict.fromkeys(done.files)))


def _as_long_as_now(stream: Stream, wanted: Parts) -> Parts:
    files = survey(Location(stream.root, stream.key, 0))
    return wanted._replace(
        ends={facts.identity: _ENDLESS if facts.location.packed else facts.size for _, facts in files}
    )


def _take(
    store: Store, stream: Stream, wanted: Parts, done: Share, looked_at: Identities, *, last: bool
) -> tuple[Share, bool]:
    """The share with what was erased at this try; and whether there is more to try for."""
    again, mine = False, set[tuple[int, int]]()
    try:
        for one in parts.find(store, stream, wanted):
            note_unwiped(store)
            try:
                piece = parts.erase(store, one, wanted, last=last)
            except SourceError as error:
                again |= isinstance(error, SourceChangedError)
                done = done._replace(kept=(*done.kept, str(error)))
            else:
                again |= piece.more
                mine |= piece.identities
                kept = done.kept if piece.kept is None else (*done.kept, piece.kept)
                done = done._replace(places=done.places + piece.places, files=done.files + piece.files, kept=kept)
        unrecorded = [facts for facts in _unrecorded(stream, wanted) if facts.identity not in mine]
        _refuse_unseen(unrecorded, looked_at)
        done = done._replace(files=done.files + _erase_unrecorded(unrecorded, wanted))
    except SourceError as error:
        again |= isinstance(error, SourceChangedError)
        done = done._replace(kept=(*done.kept, str(error)))
    return done, again


def _unrecorded(stream: Stream, wanted: Parts) -> list[Facts]:
    """The stream's files that no generation is of: its .meta, and what couldn't be ingested. Raises SourceError."""
    if not (wanted.sources and wanted.wanted):
        return []
    return [facts for facts in files_of(stream) if stream.at(facts.identity) is None]


def _refuse_unseen(files: Sequence[Facts], looked_at: Identities) -> None:
    """Raise SourceChangedError for a file that no importer has looked at.

    It may be one that is recorded, moved, and would be taken for another one without the texts.
    """
    for facts in files:
        if facts.identity not in looked_at:
            raise SourceChangedError(f"{facts.location.path} has come meanwhile, or could not be ingested yet")


def _erase_unrecorded(files: Sequence[Facts], wanted: Parts, *, dry_run: bool = False) -> list[str]:
    """Overwrite texts in files; the paths of those that have any. Raises SourceError."""
    return [facts.location.path for facts in files if _overwrite(facts, wanted.wanted, dry_run=dry_run)]


def _overwrite(facts: Facts, wanted: Wanted, *, dry_run: bool) -> bool:
    with opened(facts) as file:
        hits = wanted.hits(file, 0, file.size)
        if hits and not dry_run:
            file.prepare()
            for hit in hits:
                file.overwrite(hit.start, filler(file.read(hit.start, hit.end - hit.start)))
            file.sync()
    return bool(hits)
