"""Take a session, or lines or texts of it, out of everything for good: rows, search index, log files, copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codex.logging.erasure import copies, session, whole
from codex.logging.erasure.parts import Parts, alike
from codex.logging.erasure.repacked import remove_left
from codex.logging.erasure.wanted import Wanted
from codex.logging.events import Stream
from codex.logging.restore import raw_line
from codex.logging.secrets.placeholder import key_of
from codex.logging.staging import traces
from codex.logging.store.connection import scalar
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import read_streams
from codex.logging.wiping import UNERASED, is_unwiped, wipe


class Wish(NamedTuple):
    """Which session to erase, or which lines of it, by number, and texts in it; of log files only with `sources`."""

    session_id: str
    seqs: frozenset[int] = frozenset()
    texts: tuple[str, ...] = ()
    sources: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether it is the session as a whole."""
        return not self.seqs and not self.texts


class Erasure(NamedTuple):
    """What goes, or has gone: recorded bytes, in how many places (0: the session as a whole), and of which lines.

    And files, and copies of the database; `notes` say what else to do, `kept` what could not be erased, and why.
    """

    session_id: str
    length: int
    places: int = 0
    lines: tuple[int, ...] = ()
    old_rows: int = 0
    files: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def is_anything(self) -> bool:
        """Whether anything of it was there."""
        return bool(self.length or self.old_rows or self.files)


def foreseen(store: Store, wish: Wish) -> Erasure:
    """What `erase` would do. Raises SourceError, DatabaseError, CodexLoggingError for a line that isn't there."""
    streams = _streams(store, wish)
    if wish.is_whole:
        files = [facts.location.path for stream in streams for facts in whole.files_of(stream)]
        found = Erasure(wish.session_id, whole.length_of(streams), files=tuple(files))
    else:
        found = _told(wish, session.foreseen(store, wish.session_id, streams, _parts(store, wish, streams)))
    if not found.is_anything and not is_pending(store):
        return found
    there = (*copies.finalized(store.path), *copies.formers(store.path))
    return found._replace(copies=there, notes=_notes(store, wish, found.files))


def erase(store: Store, wish: Wish) -> Erasure:
    """Erase; whatever ended it before its end, the next call ends it.

    Raises SourceError, DatabaseError, ConfigError, CodexLoggingError for a line that isn't there.
    """
    streams = _streams(store, wish)
    for stream in streams:
        remove_left(stream)
    store.connection.pragma("secure_delete", True)
    if wish.is_whole:
        done = foreseen(store, wish)
        done = done._replace(kept=tuple(whole.erase(store, wish.session_id, streams)))
    else:
        done = _told(wish, session.erase(store, wish.session_id, streams, _parts(store, wish, streams)))
    if not is_pending(store):
        return done
    store.note(UNERASED, "something was erased, and not yet everywhere")
    if is_unwiped(store):
        wipe(store)
    made = copies.renew(store.path)
    store.note(UNERASED, None)
    notes = (*made.notes, *_notes(store, wish, done.files))
    return done._replace(copies=(*made.renewed, *made.removed), notes=notes)


def is_pending(store: Store) -> bool:
    """Whether an erasure was begun, and never ended."""
    return is_unwiped(store) or scalar(store.connection, "SELECT 1 FROM meta WHERE key = ?", (UNERASED,)) is not None


def _streams(store: Store, wish: Wish) -> list[Stream]:
    return [stream for stream in read_streams(store.connection) if stream.session_id == wish.session_id]


def _parts(store: Store, wish: Wish, streams: list[Stream]) -> Parts:
    for seq in wish.seqs:
        raw_line(store.connection, streams, seq)
    lines = alike(store, streams, wish.seqs)
    return Parts(Wanted(wish.texts), wish.seqs, lines, wish.sources, key_of(store.path))


def _told(wish: Wish, share: session.Share) -> Erasure:
    length = sum(place.end - place.start for place in share.places)
    lines = sorted({place.seq for place in share.places if place.seq})
    found = Erasure(wish.session_id, length, len(share.places), tuple(lines), share.old_rows)
    return found._replace(files=tuple(share.files), kept=share.kept)


def _notes(store: Store, wish: Wish, files: Sequence[str]) -> tuple[str, ...]:
    """What git keeps, and other sessions that may hold the same: what it had others do, and what goes on with it."""
    others = [
        stream.session_id
        for stream in read_streams(store.connection)
        if wish.session_id in (stream.parent, stream.forked_from) and stream.session_id != wish.session_id
    ]
    stays = [f"{name} came out of it, and stays: erase it as well if it holds the same" for name in others]
    return *dict.fromkeys(stays), *traces([store.path, *copies.finalized(store.path), *files])
