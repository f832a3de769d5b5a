"""Erase a whole session: its files, then its rows, as a purge does, however young it is."""

from __future__ import annotations

from collections.abc import Sequence

from codex.logging.errors import SourceError
from codex.logging.events import Stream
from codex.logging.ingest.sources import Facts, Location, look, survey
from codex.logging.purge import remove
from codex.logging.store import legacy
from codex.logging.store.connection import immediate, translated
from codex.logging.store.sqlite import Store
from codex.logging.wiping import note_unwiped

_TRIES = 5  # it may be written between the look and the removal
# Hashes of few bytes, which could be guessed by trying, and of no use where no file is.
_FORGET_HEAD = "UPDATE generations SET head_length = 0, head = x'', marker = x'' WHERE stream = ? AND how = 'purged'"


def files_of(stream: Stream) -> list[Facts]:
    """The stream's files, and what is told about it beside. Raises SourceError."""
    files = [facts for _, facts in survey(Location(stream.root, stream.key, 0))]
    meta = look(Location(stream.root, f"{stream.key.removesuffix('.ndjson')}.meta", 0))
    return files if meta is None else [*files, meta]


def length_of(streams: Sequence[Stream]) -> int:
    """Bytes that are recorded of them."""
    return sum(one.cursor.offset for stream in streams for one in stream.generations if one.how != "purged")


def erase(store: Store, session_id: str, streams: Sequence[Stream]) -> list[str]:
    """Erase them, and a forerunner's rows of the session; why what couldn't be is still there. Raises DatabaseError."""
    kept = [because for stream in streams if (because := _erase(store, stream))]
    with translated(store.path):
        if legacy.count(store.connection, session_id):
            note_unwiped(store)
            with immediate(store.connection):
                legacy.remove(store.connection, session_id)
    return kept


def _erase(store: Store, stream: Stream) -> str | None:
    because = None
    for _ in range(_TRIES):
        known = store.stream(stream.root, stream.key) or stream
        try:
            files = files_of(known)
        except SourceError as error:
            return f"its files can't be seen: {error}"
        if files or any(generation.how != "purged" for generation in known.generations):
            because = remove(store, known, files, rows=True)
        if because is None:
            break
    with translated(store.path), immediate(store.connection):
        store.connection.execute(_FORGET_HEAD, (stream.id,))
    return because
