"""Which life of which stream an open file is; what it has become since is noted in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from codex.logging.config import LINE_LIMIT
from codex.logging.errors import SourceChangedError
from codex.logging.events import Cursor, Ending, Generation, Stream
from codex.logging.ingest import ledger
from codex.logging.ingest.formats import named
from codex.logging.ingest.ledger import Glance, Life
from codex.logging.ingest.lines import decode_tail
from codex.logging.ingest.sources import Location, Source, look_live, survey
from codex.logging.store.segments import START
from codex.logging.store.sqlite import Store


class Recogniser:
    """Compares open files with one store's ledger. Not for sharing between threads.

    Methods raise SourceChangedError and StaleWatermarkError when the stream must be looked at again, SourceBusyError
    and DatabaseError.
    """

    def __init__(self, store: Store, lock_seconds: float, wall: Callable[[], float]) -> None:
        self._store = store
        self._lock_seconds = lock_seconds
        self._wall = wall

    def life(self, stream: Stream, source: Source, ahead: int) -> Life | None:
        """The generation that the file is, or begins; None when it gives nothing: it is empty, or a copy.

        `ahead` bytes behind the watermark are read together with those before it.
        """
        facts = source.facts
        mine, seen = stream.at(facts.identity), ledger.NOTHING
        if mine is not None:
            source.prefetch(max(0, mine.cursor.offset - ledger.MARKER_BYTES), ledger.MARKER_BYTES + ahead)
            seen = self._glance(mine, source, facts.size)
            if seen.same:
                return self._resume(Life(stream, mine, seen), source)
            self._hand_over(stream, mine, source)
        if facts.size == 0 or (facts.location.number and self._is_copy(stream, source)):
            return None
        return (
            self._returned(stream, source)
            or self._rewritten(stream, mine, seen, source)
            or self._moved(stream, source)
            or self._begun(stream, mine, source)
        )

    def _glance(self, generation: Generation, source: Source, size: int) -> Glance:
        """How an open file of `size` bytes compares with a generation."""
        seen = ledger.glance(generation, source, size)
        return seen if seen.same else ledger.recognised(generation, seen, self._store)

    def adopted(self, stream: Stream, live: Location) -> Stream | None:
        """The stream, as it was, whose live file was renamed to here, where there is none; from now on it is here."""
        facts = look_live(live)
        if facts is None:
            return None
        for other, known in self._elsewhere(stream, facts.identity):
            if known is ledger.former(other):
                with Source(facts, self._lock_seconds) as source:
                    if self._glance(known, source, source.facts.size).same:
                        self._store.resume(other, known._replace(how="moved", ended=None), place=live.stream)
                        return other
        return None

    def note_gone(self, stream: Stream) -> None:
        """Note that no file of the stream is there any more."""
        if stream.id and stream.state == "live":
            live = ledger.live(stream)
            self._store.end(stream, None if live is None else Ending(live.id, "deleted", False), state="gone")

    # -- a generation that is known

    def _resume(self, life: Life, source: Source) -> Life:
        """Note where a known generation's file is by now."""
        generation, facts = life.generation, source.facts
        is_live = generation.is_live
        how, ended = generation.how, generation.ended
        if facts.location.number:
            how, ended = "rotated", ended or self._wall()
        elif facts.identity != generation.identity:
            how, ended = "moved", None
        elif not is_live:
            how, ended = None, None
        found = generation._replace(device=facts.identity[0], inode=facts.identity[1], how=how, ended=ended)
        if facts.location.packed and facts.identity != generation.identity:
            found = found._replace(modified=0)  # it isn't known yet whether there is more in it
        if found == generation and life.stream.state == "live":
            return life
        displaced = None if facts.location.number or is_live else _displaced(life.stream, source)
        return life._replace(stream=self._store.resume(life.stream, found, displaced), generation=found)

    def _hand_over(self, stream: Stream, generation: Generation, former: Source) -> None:
        """Let a rotated copy (copytruncate) be the generation that its file no longer is.

        Raises SourceChangedError when there is one: it is to be read first.
        """
        for place, facts in survey(former.location):
            if place.number and facts.size >= generation.cursor.offset:
                with Source(facts, self._lock_seconds) as copy:
                    known = stream.at(facts.identity)
                    seen = self._glance(generation, copy, facts.size)
                    if seen.same and (known is None or not self._glance(known, copy, facts.size).same):
                        self._resume(Life(stream, generation, seen), copy)
                        raise SourceChangedError(f"{former.location.path} was copied to {place.path}")

    def waits(self, stream: Stream, source: Source) -> bool:
        """Whether it shows only once the younger files were read if a rotated file has more than one of them."""
        facts = source.facts
        if not facts.location.number or not facts.size or stream.at(facts.identity) is not None:
            return False
        held = self._held(stream, source)
        return bool(held) and self._is_younger(held[0], source) and not self._is_copy(stream, source)

    def _is_copy(self, stream: Stream, source: Source) -> bool:
        """Whether all that a rotated file could give was recorded as the beginning of a younger file, or one gone."""
        held = self._held(stream, source)
        if held and self._home(held[0], source.location) is None:
            return False
        length = _takeable(stream, source)
        return any(
            self._is_younger(known, source) or self._home(known, source.location) is None
            for known in stream.generations
            if known.how != "purged" and ledger.is_prefix(known, source, length, self._store)
        )

    def _is_younger(self, generation: Generation, source: Source) -> bool:
        home = self._home(generation, source.location)
        return home is not None and home < source.location.number

    def _held(self, stream: Stream, source: Source) -> list[Generation]:
        """The generations that the file goes on with, the longest first."""
        size = source.facts.size
        fitting = [known for known in reversed(stream.standing) if known.cursor.offset <= size]
        held = [known for known in fitting if self._glance(known, source, size).same]
        return sorted(held, key=lambda known: -known.cursor.offset)

    def _home(self, generation: Generation, besides: Location) -> int | None:
        """The number of another file that goes on with the generation: its own one, or a younger one."""
        for place, facts in survey(besides):
            if place != besides and (facts.identity == generation.identity or place.number < besides.number):
                with Source(facts, self._lock_seconds) as source:
                    if self._glance(generation, source, source.facts.size).same:
                        return place.number
        return None

    def _returned(self, stream: Stream, source: Source) -> Life | None:
        """The generation whose file was replaced by this one: copied, restored, or saved by an editor."""
        for known in self._held(stream, source):
            if self._home(known, source.location) is None:
                return self._resume(Life(stream, known, self._glance(known, source, source.facts.size)), source)
        return None

    # -- a generation that begins

    def _rewritten(self, stream: Stream, mine: Generation | None, seen: Glance, source: Source) -> Life | None:
        """The generation that begins with the edited content of the one that the file was, or that its place had."""
        former = mine
        if former is None and source.location.number == 0:
            former = ledger.former(stream)
            if former is None or self._home(former, source.location) is not None:
                return None
            seen = self._glance(former, source, source.facts.size)
        if former is None or not ledger.is_edited(former, seen, self._store):
            return None
        self._displace(stream, former, source)
        ending = Ending(former.id, "rewritten", True)
        return self._begin(stream, source, ending, ledger.base_of_rewrite(stream, former))

    def _begun(self, stream: Stream, mine: Generation | None, source: Source) -> Life:
        ending = None
        if mine is not None:
            self._displace(stream, mine, source)
            ending = Ending(mine.id, "truncated", False)
        elif source.location.number == 0:
            ending = _displaced(stream, source)
        return self._begin(stream, source, ending, stream.seq)

    def _begin(self, stream: Stream, source: Source, ending: Ending | None, base_seq: int) -> Life:
        return ledger.begin(stream, source.facts, START, ending, base_seq, self._wall())

    def _displace(self, stream: Stream, besides: Generation | None, source: Source) -> None:
        """Note that the live file is another one now. Raises SourceChangedError when that was news."""
        displaced = None if source.location.number else _displaced(stream, source)
        if displaced is not None and displaced.generation != getattr(besides, "id", None):
            self._store.end(stream, displaced)
            raise SourceChangedError(f"{source.location.path} is another file than it was")

    # -- other streams

    def _moved(self, stream: Stream, source: Source) -> Life | None:
        """The generation of another stream that was renamed to here; a reused inode ends that one instead."""
        facts = source.facts
        for other, known in self._elsewhere(stream, facts.identity):
            seen = self._glance(known, source, facts.size)
            if seen.same:
                self._displace(stream, None, source)
                how = "rotated" if facts.location.number else "moved"
                if (known.how, known.ended is None) == (how, False):
                    return Life(other, known, seen)
                self._store.end(other, Ending(known.id, how, False))
                raise SourceChangedError(f"{facts.location.path} is another log that was moved here")
            if known is other.at(facts.identity):
                self._store.end(other, Ending(known.id, "replaced", False))
                raise SourceChangedError(f"{facts.location.path} has the inode that another log had")
        return None

    def _elsewhere(self, stream: Stream, identity: tuple[int, int]) -> Iterator[tuple[Stream, Generation]]:
        """What other streams' generations had this inode, unless it is there as well: a hard link is another log."""
        for other in self._store.streams_by_identity(identity):
            if other.id == stream.id:
                continue
            if all(there.identity != identity for _, there in survey(Location(other.root, other.key, 0))):
                yield from ((other, known) for known in reversed(other.standing) if known.identity == identity)


def _takeable(stream: Stream, source: Source) -> int:
    """How many of a file's bytes can be taken as it is: whole lines, and a tail that is objects, or may be."""
    size = source.facts.size
    end = ledger.end_of_lines(source, size)
    if end == 0 or end == size or size - end > LINE_LIMIT:
        return size
    tail = source.read(end, size - end)
    is_open = tail[0] and decode_tail(tail, Cursor(), named(stream.format).decode) is None
    return end if is_open else size


def _displaced(stream: Stream, source: Source) -> Ending | None:
    """How the generation that the ledger has in the live file's place ends when the live file is another one."""
    former = ledger.live(stream)
    if former is None:
        return None
    if former.identity == source.facts.identity:
        return Ending(former.id, "truncated", False)
    rotated = any(facts.identity == former.identity for _, facts in survey(source.location))
    return Ending(former.id, "rotated" if rotated else "deleted", False)
