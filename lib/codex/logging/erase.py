"""Take a session out of everything for good: rows, recorded bytes, search index, log files, copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codex.logging.erasure import copies
from codex.logging.errors import SourceError
from codex.logging.events import Stream
from codex.logging.ingest.sources import Facts, Location, look, survey
from codex.logging.purge import remove
from codex.logging.staging import traces
from codex.logging.store import legacy
from codex.logging.store.connection import immediate, translated
from codex.logging.store.sqlite import Store, read_streams
from codex.logging.wiping import is_unwiped, note_unwiped, wipe

_TRIES = 5  # it may be written between the look and the removal
# Hashes of few bytes, which could be guessed by trying, and of no use where no file is.
_FORGET_HEAD = "UPDATE generations SET head_length = 0, head = x'', marker = x'' WHERE stream = ? AND how = 'purged'"


class Wish(NamedTuple):
    """Which session to erase."""

    session_id: str


class Erasure(NamedTuple):
    """What goes, or has gone: bytes recorded, files, copies of the database; `notes` say what else to do.

    `kept` says what could not be erased, and why.
    """

    session_id: str
    length: int
    files: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def foreseen(store: Store, wish: Wish) -> Erasure:
    """What `erase` would do. Raises SourceError, DatabaseError."""
    streams = _streams(store, wish)
    files = [facts.location.path for stream in streams for facts in _files(stream)]
    length = sum(one.cursor.offset for stream in streams for one in stream.generations if one.how != "purged")
    found = (*copies.finalized(store.path), *copies.formers(store.path))
    notes = (*_others(store, wish), *_traces(store, files))
    return Erasure(wish.session_id, length, tuple(files), found, notes)


def erase(store: Store, wish: Wish) -> Erasure:
    """Erase; whatever ended it before its end, the next call ends it. Raises DatabaseError, ConfigError."""
    store.connection.pragma("secure_delete", True)
    planned = foreseen(store, wish)
    kept = [because for stream in _streams(store, wish) if (because := _erase(store, stream))]
    _erase_old_rows(store, wish)
    if is_unwiped(store):
        wipe(store)
    done = copies.renew(store.path)
    notes = (*_others(store, wish), *done.notes, *_traces(store, planned.files))
    return planned._replace(copies=(*done.renewed, *done.removed), notes=notes, kept=tuple(kept))


def _streams(store: Store, wish: Wish) -> list[Stream]:
    return [stream for stream in read_streams(store.connection) if stream.session_id == wish.session_id]


def _files(stream: Stream) -> list[Facts]:
    """The stream's files, and what is told about it beside. Raises SourceError."""
    files = [facts for _, facts in survey(Location(stream.root, stream.key, 0))]
    meta = look(Location(stream.root, f"{stream.key.removesuffix('.ndjson')}.meta", 0))
    return files if meta is None else [*files, meta]


def _erase(store: Store, stream: Stream) -> str | None:
    """Erase one stream with its files; why that could not be."""
    because = None
    for _ in range(_TRIES):
        known = store.stream(stream.root, stream.key) or stream
        try:
            files = _files(known)
        except SourceError as error:
            return f"its files can't be seen: {error}"
        if files or any(generation.how != "purged" for generation in known.generations):
            because = remove(store, known, files, rows=True)
        if because is None:
            break
    with translated(store.path), immediate(store.connection):
        store.connection.execute(_FORGET_HEAD, (stream.id,))
    return because


def _erase_old_rows(store: Store, wish: Wish) -> None:
    """What an upgraded database has of a forerunner."""
    with translated(store.path):
        if legacy.count(store.connection, wish.session_id):
            note_unwiped(store)
            with immediate(store.connection):
                legacy.remove(store.connection, wish.session_id)


def _others(store: Store, wish: Wish) -> list[str]:
    """Other sessions that hold some of this one's text: what it had others do, and what goes on with it."""
    found = [
        stream.session_id
        for stream in read_streams(store.connection)
        if wish.session_id in (stream.parent, stream.forked_from) and stream.session_id != wish.session_id
    ]
    return [f"{name} came out of it, and stays: erase it as well if it holds the same" for name in dict.fromkeys(found)]


def _traces(store: Store, files: Sequence[str]) -> list[str]:
    return traces([store.path, *copies.finalized(store.path), *files])
