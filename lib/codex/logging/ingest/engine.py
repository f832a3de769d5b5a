"""The whole story of one file: from bytes behind the watermark to committed rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from codex.logging.config import BATCH_BYTES, LINE_LIMIT
from codex.logging.errors import SourceChangedError, StaleWatermarkError
from codex.logging.events import Batch, Generation, Stream
from codex.logging.ingest import ledger
from codex.logging.ingest.formats import native
from codex.logging.ingest.ledger import Ending, Life
from codex.logging.ingest.lines import decode, decode_oversize, decode_tail
from codex.logging.ingest.reader import Chunk, Limits, next_chunk
from codex.logging.ingest.sources import Facts, Location, Source, look, survey
from codex.logging.store.segments import BLOCK_BYTES, START, Chain
from codex.logging.store.sqlite import Store

QUIET_SECONDS = 2.0
_CACHE_LIMIT = 50_000
_LIMITS = Limits(BATCH_BYTES, LINE_LIMIT)


class Progress(NamedTuple):
    """What one call did. `more`: call again now; `again`: call again in so many seconds (an open tail)."""

    events: int = 0
    rejects: int = 0
    taken: int = 0
    more: bool = False
    again: float | None = None


class Engine:
    """Brings one root's files into one store, a batch at a time. Not for sharing between threads."""

    def __init__(
        self,
        store: Store,
        *,
        limits: Limits = _LIMITS,
        lock_seconds: float = 0.02,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._limits = limits
        self._lock_seconds = lock_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._streams: dict[tuple[str, str], Stream] = {}
        self._chains: dict[int, Chain] = {}
        self._surveyed: set[tuple[str, str]] = set()
        self._settled: dict[tuple[int, int], tuple[int, int]] = {}
        self._scanned: dict[tuple[int, int], int] = {}
        self._grew: dict[tuple[int, int], tuple[int, float]] = {}

    # -- the main path

    def ingest(self, location: Location, *, final: bool = False) -> Progress:
        """Take one batch from the oldest file of the stream that has something new.

        `final` takes an unterminated tail that is whole objects without waiting for it to be quiet. Raises
        SourceError for a file that can't be read now, SourceBusyError for one whose lock isn't had, and
        DatabaseError; in each case nothing was written and a later call goes on.
        """
        stream = self._stream(location)
        place = self._oldest_unread(stream, location, final)
        if place is None:
            return Progress()
        try:
            with Source(place, self._lock_seconds) as source:
                life = self._recognise(stream, source)
                if life is None:
                    return self._settle(source.facts, place)
                tail = final or self._is_quiet(source.facts, life.generation)
                chunk = self._next_chunk(source, life.generation, tail)
            batch = _decode(chunk, life)
            if batch is None:
                return self._wait(source.facts, life, chunk, tail)
            self._commit(life, batch, source.facts, location)
        except (SourceChangedError, StaleWatermarkError):
            self.forget(location)
            return Progress(more=True)
        more = chunk.more or place.number > 0
        open_tail = not more and source.facts.size > batch.after.offset
        again = QUIET_SECONDS if open_tail else None
        return Progress(len(batch.events), len(batch.rejects), len(batch.data), more, again)

    def _commit(self, life: Life, batch: Batch, facts: Facts, location: Location) -> None:
        chain = self._chain(life.generation)
        chain.update(batch.data)
        after = ledger.advance(life, batch.data, batch.after)._replace(
            chain=chain.digest(), block=chain.block, modified=facts.modified
        )
        stream = self.store.commit(life.stream, after, batch, life.ending)
        generation = after.id or stream.generations[-1].id
        self._chains[generation] = chain
        self._streams[life.stream.root, life.stream.key] = stream
        self._scanned.pop(facts.identity, None)
        self._grew.pop(facts.identity, None)
        if facts.size == batch.after.offset:
            self._settled[facts.identity] = (facts.size, facts.modified)

    # -- which file, and which life of it

    def _oldest_unread(self, stream: Stream, location: Location, final: bool) -> Location | None:
        """The stream's file to read next: rotated ones to their end before the live one."""
        live = location.rotated(0)
        key = (location.root, location.key)
        if location.number == 0 and key in self._surveyed and stream.current is not None:
            facts = look(live)
            if facts is not None and facts.identity == stream.current.identity:
                return live if self._unsettled(facts, stream, final) else None
        files = survey(location)
        for place, facts in reversed(files):
            if self._unsettled(facts, stream, final):
                return place
        self._surveyed.add(key)
        if not files:
            self._gone(stream, location)
        return None

    def _unsettled(self, facts: Facts, stream: Stream, final: bool) -> bool:
        if self._settled.get(facts.identity) != (facts.size, facts.modified):
            return True
        known = stream.at(facts.identity)
        return final and (known is None or known.cursor.offset < facts.size)

    def _recognise(self, stream: Stream, source: Source) -> Life | None:
        """The generation that the file is, or begins; None when it gives nothing: a copy, or no whole line yet."""
        identity, size, number = source.facts.identity, source.facts.size, source.location.number
        mine = stream.at(identity)
        if mine is not None:
            seen = ledger.glance(mine, source, size, self.store.recorded)
            if seen.same:
                return self._resume(Life(stream, mine, seen), source)
            if size == 0:
                return None
            if seen.partly:
                return self._rewrite(stream, mine, identity)
        for known in reversed(stream.standing):
            if known is mine:
                continue
            seen = ledger.glance(known, source, size, self.store.recorded)
            copied = seen.same or (number and ledger.is_prefix(known, source, size, self.store.recorded))
            if copied and number and (not seen.same or self._at_home(known, source.location)):
                return None
            if seen.same and not self._at_home(known, source.location):
                return self._resume(Life(stream, known, seen), source)
            if seen.partly and number == 0 and known is stream.current and mine is None:
                return self._rewrite(stream, known, identity)
        if mine is None and (moved := self._moved(stream, source)):
            return moved
        return ledger.begin(stream, identity, START, self._ending(stream, source, mine), stream.seq)

    def _rewrite(self, stream: Stream, former: Generation, identity: tuple[int, int]) -> Life:
        last = former is stream.current
        ending = Ending(former.id, "rewritten", True)
        return ledger.begin(stream, identity, START, ending, former.base_seq if last else stream.seq)

    def _ending(self, stream: Stream, source: Source, mine: Generation | None) -> Ending | None:
        """How the current generation ends when this file begins a new one."""
        former = stream.current
        if former is None or source.location.number:
            return None
        if mine is former:
            return Ending(former.id, "truncated", False)
        if former.ended is not None:
            return None
        rotated = any(facts.identity == former.identity for _, facts in survey(source.location)[1:])
        return Ending(former.id, "rotated" if rotated else "deleted", False)

    def _resume(self, life: Life, source: Source) -> Life:
        """Note in the ledger where a known generation's file is by now."""
        generation, number = life.generation, source.location.number
        identity = source.facts.identity
        if number:
            how = "rotated"
        elif identity != generation.identity:
            how = "moved"
        elif generation.how in {"deleted", "rotated"} and life.stream.current is generation:
            how = None
        else:
            return life
        if (how, *identity) == (generation.how, *generation.identity):
            return life
        ended = (generation.ended or self._wall()) if number else None
        found = generation._replace(device=identity[0], inode=identity[1], how=how, ended=ended)
        self.store.resume(found, None)
        return Life(life.stream.having(found), found, life.glance)

    def _moved(self, stream: Stream, source: Source) -> Life | None:
        """The generation of another stream that was renamed to here; a reused inode ends that one instead."""
        location = source.location
        for other in self.store.streams_by_identity(source.facts.identity):
            known = other.at(source.facts.identity)
            if other.id == stream.id or known is None:
                continue
            there = look(Location(other.root, other.key, 0))
            if there is not None and there.identity == known.identity:
                continue  # a second name (hard link) is a stream of its own
            seen = ledger.glance(known, source, source.facts.size, self.store.recorded)
            self._streams.pop((other.root, other.key), None)
            if not seen.same:
                if known.how != "replaced":
                    self.store.end(known.id, "replaced", other.id)
                continue
            whole = known is other.current and not stream.id and not location.number
            found = known._replace(how="moved", ended=None)
            self.store.resume(found, location.key if whole else None)
            kept = other._replace(root=location.root, key=location.key) if whole else other
            return Life(kept.having(found), found, seen)
        return None

    def _at_home(self, generation: Generation, besides: Location) -> bool:
        """Whether another file of the stream holds this generation."""
        for place, facts in survey(besides):
            if facts.identity == generation.identity and place != besides:
                with Source(place, self._lock_seconds) as source:
                    return ledger.glance(generation, source, source.facts.size, self.store.recorded).same
        return False

    def _gone(self, stream: Stream, location: Location) -> None:
        current = stream.current
        if current is not None and current.how != "deleted":
            self.store.end(current.id, "deleted", stream.id, "gone")
        self.forget(location)

    # -- what is remembered between calls: all of it can be lost

    def resume(self, root: str) -> None:
        """Remember what the store already has of each file, so that an unchanged one isn't opened."""
        for identity, offset, modified in self.store.watermarks(root):
            self._settled[identity] = (offset, modified)

    def is_settled(self, facts: Facts) -> bool:
        """Whether the last look at this file found nothing more to do, and it has not changed since."""
        return self._settled.get(facts.identity) == (facts.size, facts.modified)

    def forget(self, location: Location) -> None:
        """Look at a stream from scratch the next time."""
        key = (location.root, location.key)
        stream = self._streams.pop(key, None)
        self._surveyed.discard(key)
        for generation in stream.generations if stream else ():
            self._chains.pop(generation.id, None)
            self._settled.pop(generation.identity, None)

    def _stream(self, location: Location) -> Stream:
        key = (location.root, location.key)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= _CACHE_LIMIT:
                self._streams.clear()
                self._chains.clear()
            stream = self.store.stream(*key) or Stream(0, *key, location.session_id, native.name)
            self._streams[key] = stream
        return stream

    def _chain(self, generation: Generation) -> Chain:
        """A copy of the generation's chain at its watermark."""
        known = self._chains.get(generation.id)
        if known is not None and generation.id:
            return known.copy()
        offset = generation.cursor.offset
        start = offset - offset % BLOCK_BYTES
        rest = self.store.recorded(generation.id, start, offset) if offset > start else b""
        return Chain(offset, generation.block, rest)

    def _next_chunk(self, source: Source, generation: Generation, tail: bool) -> Chunk:
        size, scanned = source.facts.size, self._scanned.get(source.facts.identity, 0)
        if scanned > size:
            scanned = 0
        return next_chunk(source, size, generation.cursor, self._limits, scanned=scanned, tail=tail)

    def _is_quiet(self, facts: Facts, generation: Generation) -> bool:
        """Whether a file with an open tail has not grown for 2 s, by its own time stamp or by our clock."""
        if facts.size <= generation.cursor.offset:
            return False
        size, since = self._grew.get(facts.identity, (-1, 0.0))
        if size != facts.size:
            self._grew[facts.identity] = (facts.size, self._monotonic())
            return self._wall() - facts.modified / 1e9 >= QUIET_SECONDS
        return self._monotonic() - since >= QUIET_SECONDS

    def _wait(self, facts: Facts, life: Life, chunk: Chunk, tail: bool) -> Progress:
        """Nothing to commit: remember how far the file was searched, and look again when its tail may be quiet."""
        if chunk.scanned:
            self._scanned[facts.identity] = chunk.scanned
        self._streams[life.stream.root, life.stream.key] = life.stream
        open_tail = facts.size > life.generation.cursor.offset
        if open_tail and not tail:
            return Progress(again=QUIET_SECONDS)
        self._settled[facts.identity] = (facts.size, facts.modified)
        return Progress()

    def _settle(self, facts: Facts, place: Location) -> Progress:
        self._settled[facts.identity] = (facts.size, facts.modified)
        return Progress(more=place.number > 0)


def _decode(chunk: Chunk, life: Life) -> Batch | None:
    cursor = life.generation.cursor
    if life.generation.id:
        cursor = cursor._replace(seq=life.stream.seq)
    if chunk.oversize:
        return decode_oversize(chunk.data, cursor) if chunk.data else None
    if chunk.data:
        return decode(chunk.data, cursor, native.decode)
    return decode_tail(chunk.tail, cursor, native.decode) if chunk.tail else None
