"""Which life of which stream an open file is; what it has become since is noted in the ledger."""

from __future__ import annotations

from collections.abc import Callable

from codex.logging.errors import SourceChangedError, StaleWatermarkError
from codex.logging.events import Generation, Stream
from codex.logging.ingest import ledger
from codex.logging.ingest.ledger import Ending, Life
from codex.logging.ingest.sources import Location, Source, survey
from codex.logging.store.segments import START
from codex.logging.store.sqlite import Store


class Recogniser:
    """Compares open files with one store's ledger. Not for sharing between threads."""

    def __init__(self, store: Store, lock_seconds: float, wall: Callable[[], float]) -> None:
        self._store = store
        self._lock_seconds = lock_seconds
        self._wall = wall

    def life(self, stream: Stream, source: Source, ahead: int) -> Life | None:
        """The generation that the file is, or begins; None when it gives nothing: it is empty, or a copy.

        `ahead` bytes behind the watermark are read together with those before it. Raises SourceChangedError and
        StaleWatermarkError when the stream must be looked at again, SourceBusyError and DatabaseError.
        """
        facts = source.facts
        mine = stream.at(facts.identity)
        if mine is not None:
            source.prefetch(max(0, mine.cursor.offset - ledger.MARKER_BYTES), ledger.MARKER_BYTES + ahead)
            seen = ledger.glance(mine, source, facts.size)
            if seen.same:
                return self._resume(Life(stream, mine, seen), source)
        self._check(stream)
        if mine is not None:
            self._hand_over(stream, mine, source)
            if facts.size and ledger.is_edited(mine, seen, self._store.recorded):
                return _rewrite(stream, mine, source)
        if facts.size == 0 or self._is_copy(stream, source):
            return None
        return self._returned(stream, source) or self._moved(stream, source) or _begin(stream, source)

    def note_gone(self, stream: Stream) -> None:
        """Note that no file of the stream is there any more. Raises StaleWatermarkError."""
        self._check(stream)
        last = ledger.latest_live(stream) or stream.current
        if last is not None and last.how not in {"deleted", "purged"}:
            self._store.end(last.id, "deleted", stream.id, "gone")

    def _check(self, stream: Stream) -> None:
        """Raise StaleWatermarkError when the ledger no longer says this of the stream: another importer wrote it."""
        known = self._store.stream(stream.root, stream.key)
        if known != stream and (known is not None or stream.id):
            raise StaleWatermarkError("another importer changed the ledger first")

    def _resume(self, life: Life, source: Source) -> Life:
        """Note where a known generation's file is by now."""
        generation, identity = life.generation, source.facts.identity
        if source.location.number:
            how: str | None = "rotated"
        elif identity != generation.identity:
            how = "moved"
        elif generation.how in {"deleted", "rotated"} and life.stream.current is generation:
            how = None
        else:
            return life
        if (how, *identity) == (generation.how, *generation.identity):
            return life
        ended = (generation.ended or self._wall()) if source.location.number else None
        found = generation._replace(device=identity[0], inode=identity[1], how=how, ended=ended)
        self._store.resume(found, None)
        return Life(life.stream.having(found), found, life.glance)

    def _hand_over(self, stream: Stream, generation: Generation, former: Source) -> None:
        """Let a rotated copy (copytruncate) be the generation that its file no longer is.

        Raises SourceChangedError when there is one: it is to be read first.
        """
        for place, facts in survey(former.location):
            if place.number and stream.at(facts.identity) is None and facts.size >= generation.cursor.offset:
                with Source(facts, self._lock_seconds) as copy:
                    seen = ledger.glance(generation, copy, facts.size)
                    if seen.same:
                        self._resume(Life(stream, generation, seen), copy)
                        raise SourceChangedError(f"{former.location.path} was copied to {place.path}")

    def _is_copy(self, stream: Stream, source: Source) -> bool:
        """Whether a rotated file has only what another file of the stream has, or had: a copy, or one half made."""
        if not source.location.number:
            return False
        size = source.facts.size
        return any(
            ledger.is_prefix(known, source, size, self._store.recorded)
            or (ledger.glance(known, source, size).same and self._at_home(known, source.location))
            for known in reversed(stream.standing)
        )

    def _returned(self, stream: Stream, source: Source) -> Life | None:
        """The generation whose file was replaced by this one: copied, restored, or saved by an editor."""
        facts = source.facts
        for known in reversed(stream.standing):
            seen = ledger.glance(known, source, facts.size)
            if seen.same and not self._at_home(known, source.location):
                return self._resume(Life(stream, known, seen), source)
        former = ledger.latest_live(stream)
        if former is None or source.location.number or stream.at(facts.identity) is not None:
            return None
        seen = ledger.glance(former, source, facts.size)
        edited = ledger.is_edited(former, seen, self._store.recorded) and not self._at_home(former, source.location)
        return _rewrite(stream, former, source) if edited else None

    def _moved(self, stream: Stream, source: Source) -> Life | None:
        """The generation of another stream that was renamed to here; a reused inode ends that one instead."""
        facts = source.facts
        for other in self._store.streams_by_identity(facts.identity):
            known = other.at(facts.identity)
            if other.id == stream.id or known is None:
                continue
            if any(there.identity == facts.identity for _, there in survey(Location(other.root, other.key, 0))):
                continue  # a second name (hard link) is a stream of its own
            seen = ledger.glance(known, source, facts.size)
            if not seen.same:
                if known.how != "replaced":
                    self._store.end(known.id, "replaced", other.id)
                continue
            whole = known is other.current and not stream.id and not facts.location.number
            found = known._replace(how="moved", ended=None)
            self._store.resume(found, facts.location.stream if whole else None)
            kept = other._replace(root=facts.location.root, key=facts.location.key) if whole else other
            return Life(kept.having(found), found, seen)
        return None

    def _at_home(self, generation: Generation, besides: Location) -> bool:
        """Whether another file of the stream holds this generation."""
        for place, facts in survey(besides):
            if facts.identity == generation.identity and place != besides:
                with Source(facts, self._lock_seconds) as source:
                    return ledger.glance(generation, source, facts.size).same
        return False


def _rewrite(stream: Stream, former: Generation, source: Source) -> Life:
    base = ledger.base_of_rewrite(stream, former)
    return ledger.begin(stream, source.facts.identity, START, Ending(former.id, "rewritten", True), base)


def _begin(stream: Stream, source: Source) -> Life:
    return ledger.begin(stream, source.facts.identity, START, _ending(stream, source), stream.seq)


def _ending(stream: Stream, source: Source) -> Ending | None:
    """How the generation that the live file was ends when this file begins a new one."""
    mine, former = stream.at(source.facts.identity), ledger.latest_live(stream)
    if mine is not None:
        return Ending(mine.id, "truncated", False) if mine.ended is None else None
    if former is None or former.ended is not None:
        return None
    numbers = [place.number for place, facts in survey(source.location) if facts.identity == former.identity]
    if not numbers and not source.location.number:
        return Ending(former.id, "deleted", False)
    return Ending(former.id, "rotated", False) if any(numbers) else None
