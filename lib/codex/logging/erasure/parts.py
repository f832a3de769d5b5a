"""Erase lines, or texts, of one generation: its rows first, then, still under the lock of its file, the file.

Whoever dies in between has committed the rows: the file is known with and without what is erased, and the next who
erases the same overwrites it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType
from typing import NamedTuple

from codex.logging.erasure.places import Lines, Place, exact_lines, places
from codex.logging.erasure.repacked import Repacked
from codex.logging.erasure.rows import Draft, set_edges
from codex.logging.erasure.sources import Overwritten, opened
from codex.logging.erasure.wanted import Wanted
from codex.logging.errors import SourceChangedError
from codex.logging.events import Cursor, Stream
from codex.logging.ingest import ledger
from codex.logging.ingest.formats import named
from codex.logging.ingest.reader import Bytes
from codex.logging.ingest.sources import Facts
from codex.logging.secrets.placeholder import digest, placeholder
from codex.logging.store.connection import immediate, translated
from codex.logging.store.spans import ERASED, filler
from codex.logging.store.sqlite import Store
from codex.logging.targets import SourceFile, Target, next_target, targets_of

_BEGIN = Cursor()
_ROUNDS = 3
_FEW_BYTES = 1 << 20  # some 50 ms of work


class Parts(NamedTuple):
    """What of a session is to be erased: texts, lines by number, and the same lines in what was rewritten since.

    With `sources` its files are overwritten. `key` is the database's. `ends` is how long each file was, by identity,
    when it was asked for: what is appended later isn't meant, nor is it where a file isn't named there.
    """

    wanted: Wanted
    seqs: frozenset[int]
    alike: frozenset[bytes]
    sources: bool
    key: bytes
    ends: Mapping[tuple[int, int], int] = MappingProxyType({})

    def without(self, text: str) -> str:
        """A text with placeholders for what is wanted."""
        return self.wanted.replaced(text, lambda said: placeholder(ERASED, digest(self.key, said.encode())))

    def lines(self, target: Target) -> Lines:
        """Those of one generation: by number of one that stands, by what they say of one that was rewritten."""
        return Lines(seqs=self.seqs) if target.generation.superseded_by is None else Lines(alike=self.alike)


class Found(NamedTuple):
    """A generation, and what it and its file, if there is one, say of it."""

    target: Target
    file: Facts | None
    places: list[Place]


class Done(NamedTuple):
    """What was erased, and the file; why it is still said; and whether the file says more, behind what was ingested.

    `identities` are the file's by now: one that was written anew is another one.
    """

    places: list[Place]
    files: list[str]
    kept: str | None = None
    more: bool = False
    identities: frozenset[tuple[int, int]] = frozenset()


def alike(store: Store, streams: list[Stream], seqs: frozenset[int]) -> frozenset[bytes]:
    """What the lines of these numbers say, in the generations that stand. Raises DatabaseError."""
    chosen = [one.id for stream in streams for one in stream.standing] if seqs else []
    return frozenset[bytes]().union(*(exact_lines(store.connection, number, seqs) for number in chosen))


def find(store: Store, stream: Stream, parts: Parts) -> list[Found]:
    """What a stream holds of it, generation by generation, or its file does. Raises SourceError, DatabaseError."""
    found = []
    for target in targets_of(store.connection, stream):
        if target.tombstone is None:
            seen = target.source()
            with SourceFile(target) as file:
                source = file if parts.sources and file.is_there else None
                chosen = _places(store, target, parts, source)
                if chosen or (source is not None and _behind(target, parts, source)):
                    found.append(Found(target, seen, chosen))
    return found


def erase(store: Store, found: Found, parts: Parts, *, last: bool) -> Done:
    """Erase what was found of a generation; with `last` also what its file says behind what was ingested.

    What is written instead is made before anybody has to wait, and made anew within the transaction at the `last` try.
    Raises SourceError, SourceChangedError where the file is another by now, DatabaseError; nothing was erased then.
    """
    file = found.target.source() if parts.sources else None
    with translated(store.path), closing(Draft(store.connection, found.target, parts.key)) as draft:
        if not last:
            _prepare(store, draft, found, parts)
        if file is not None:
            with opened(file) as source:
                done = _erase_with_file(store, draft, found.target, parts, source, last=last)
                return done._replace(files=[file.location.path])
        with SourceFile(found.target) as beside, immediate(store.connection):
            current = _current(store, found.target)
            draft.check(current)
            _go_on(store, draft, current, parts, None, beside if beside.is_there else None)
            draft.put(current)
    return Done(draft.places, [])


def _prepare(store: Store, draft: Draft, found: Found, parts: Parts) -> None:
    """Take what was found, and nearly all of what came since."""
    with SourceFile(found.target) as file:
        beside = file if file.is_there else None
        draft.take(found.target, found.places, beside)
        for _ in range(_ROUNDS):
            current = _current(store, found.target)
            if current.length - draft.cursor.offset <= _FEW_BYTES:
                break
            draft.check(current)
            _go_on(store, draft, current, parts, beside if parts.sources else None, beside)


def _erase_with_file(
    store: Store, draft: Draft, target: Target, parts: Parts, source: Overwritten | Repacked, *, last: bool
) -> Done:
    source.prepare()
    known = None
    if not last:
        draft.check_file(source)
        known = _recognised(store, target, source)
        _go_on(store, draft, known, parts, source, source)
    with immediate(store.connection):
        current = _recognised(store, target, source) if known is None else _current(store, target)
        if known is not None and known.generation != current.generation:
            raise SourceChangedError("its record was written meanwhile")
        draft.check(current)
        _go_on(store, draft, current, parts, source, source)
        draft.put(current)
        if draft.places:
            set_edges(store.connection, current.generation, draft.places, source)
    for place in draft.places:
        source.overwrite(place.start, store.recorded(current.generation.id, place.start, place.end))
    behind, ingested_first = _behind(current, parts, source), source.grows and not last
    for start, end in () if ingested_first else behind:
        source.overwrite(start, filler(source.read(start, end - start)))
    source.sync()
    kept = f"{source.facts.location.path} had another name (a hard link), which still says it"
    more, now = bool(behind) and ingested_first, frozenset({source.facts.identity})
    return Done(draft.places, [], kept if source.names > 1 else None, more=more, identities=now)


def _recognised(store: Store, target: Target, source: Overwritten | Repacked) -> Target:
    """The target by now, if the file is its file. Raises SourceChangedError."""
    current = _current(store, target)
    generation = current.generation
    if not ledger.recognised(generation, ledger.glance(generation, source, source.size), store).same:
        raise SourceChangedError("the file is another by now")
    return current


def _go_on(
    store: Store, draft: Draft, current: Target, parts: Parts, overwritten: Bytes | None, beside: Bytes | None
) -> None:
    """Let the draft take what the generation has behind it."""
    if current.generation.cursor != draft.cursor:
        draft.take(current, _places(store, current, parts, overwritten, draft.cursor), beside)


def _current(store: Store, target: Target) -> Target:
    """The target by now. Raises SourceChangedError where it was purged."""
    known = next_target(store.connection, target.generation.id - 1)
    if known is None or known.generation.id != target.generation.id or known.tombstone is not None:
        raise SourceChangedError("it was purged meanwhile")
    return known


def _places(
    store: Store, target: Target, parts: Parts, overwritten: Bytes | None, since: Cursor = _BEGIN
) -> list[Place]:
    form, lines = named(target.format), parts.lines(target)
    return places(store.connection, target.generation, form, parts.wanted, lines, overwritten, since)


def _behind(target: Target, parts: Parts, source: Bytes) -> list[tuple[int, int]]:
    """Where a file says it behind what was ingested."""
    offset, longest = target.length, parts.wanted.longest
    hits = parts.wanted.hits(source, max(0, offset - longest), parts.ends.get(target.generation.identity, 0))
    return [(max(offset, hit.start), hit.end) for hit in hits if hit.end > offset]
