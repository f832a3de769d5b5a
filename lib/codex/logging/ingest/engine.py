"""The whole story of one file: from bytes behind the watermark to committed rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from codex.logging.config import BATCH_BYTES, LINE_LIMIT
from codex.logging.errors import DatabaseError, SourceChangedError, StaleWatermarkError
from codex.logging.events import Stream
from codex.logging.ingest import ledger
from codex.logging.ingest.encoder import Encoded, Encoder
from codex.logging.ingest.formats import Format, named, native, recognise
from codex.logging.ingest.ledger import Life
from codex.logging.ingest.lines import first_object
from codex.logging.ingest.looks import QUIET_SECONDS, Looks, certified, home_of
from codex.logging.ingest.reader import Chunk, Limits, next_chunk
from codex.logging.ingest.recogniser import Recogniser
from codex.logging.ingest.redactor import Redactor
from codex.logging.ingest.roots import Roots
from codex.logging.ingest.sources import Facts, Location, Source, survey
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import Watermark

_MOST_STREAMS = 50_000
_LIMITS = Limits(BATCH_BYTES, LINE_LIMIT)
_FIRST_LINES = 50


class Progress(NamedTuple):
    """What one call did. `more`: call again now; `again`: call again in so many seconds (an open tail).

    `ignored` is why the file is none that can be ingested, until it changes.
    """

    events: int = 0
    rejects: int = 0
    taken: int = 0
    more: bool = False
    again: float | None = None
    ignored: str = ""


class _Read(NamedTuple):
    life: Life
    facts: Facts
    form: Format
    chunk: Chunk
    tail: bool


class Engine:
    """Brings files into one store, a batch at a time. Not for sharing between threads.

    `formats` are those of roots whose logs are all of one format; elsewhere a log's first line tells. `limits` may be
    set anew between two calls. With a `redactor` nothing that it finds is written.
    """

    def __init__(
        self,
        store: Store,
        *,
        formats: Mapping[str, str] | None = None,
        limits: Limits = _LIMITS,
        lock_seconds: float = 0.02,
        redactor: Redactor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._formats = formats or {}
        self.limits = limits
        self._lock_seconds = lock_seconds
        self._redactor = redactor
        self._encoder = Encoder(store, redactor)
        self._recogniser = Recogniser(store, lock_seconds, wall)
        self._looks = Looks(monotonic, wall)
        self._roots = Roots()
        self._streams: dict[tuple[str, str], Stream] = {}
        self._outdated = False
        self._grouped: list[Location] | None = None

    def ingest(self, location: Location, *, final: bool = False) -> Progress:
        """Take one batch from the oldest file of the stream that has something new.

        `final` takes an unterminated tail that is whole objects without waiting for it to be quiet. Raises
        SourceError for a file that can't be read now, SourceBusyError for one whose lock isn't had, and
        DatabaseError; in each case nothing was written and a later call goes on.
        """
        if self._grouped is not None:
            self._grouped.append(location)
        try:
            return self._ingest(location, final)
        except (SourceChangedError, StaleWatermarkError):
            self.forget(location)
            self._streams.clear()  # it may have been another stream's file
            return Progress(more=True)
        except DatabaseError:
            self.forget(location)
            raise

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let the calls within commit together; others can't write to the database meanwhile, so keep it short.

        When it raises, DatabaseError among others, nothing of any of them was written.
        """
        self._grouped = []
        try:
            with self.store.group():
                yield
        except BaseException:
            for location in self._grouped:
                self.forget(location)
            self._streams.clear()
            self._encoder.forget()
            raise
        finally:
            self._grouped = None

    # -- the main path

    def _ingest(self, location: Location, final: bool) -> Progress:
        self._keep_up()
        location = self._known(location)
        stream = self._stream(location)
        unread = self._unread(stream, location)
        if not unread:
            return Progress()
        progress = self._take(stream, unread[0], final)
        rest = len(unread) > 1 and (final or progress.again is None)
        return progress._replace(more=True) if rest else progress

    def _take(self, stream: Stream, seen: Facts, final: bool) -> Progress:
        read = self._read(stream, seen, final)
        if isinstance(read, Progress):
            return read
        life, facts, form, chunk, tail = read
        del read
        more = chunk.more or seen.location.number > 0
        made = self._encoder.encode(life, form, chunk)
        if made is None:
            return self._wait(life, facts, chunk, tail)
        del chunk  # of a long line: the commit is to have the only reference to it
        return self._commit(life, facts, made, more)

    def _read(self, stream: Stream, seen: Facts, final: bool) -> _Read | Progress:
        """What is next in a file, and which life and format it is of."""
        with Source(seen, self._lock_seconds) as source:
            if self._looks.turn(seen) == 0 and self._recogniser.waits(stream, source):
                self._looks.postpone(source.facts)
                return Progress(more=True)
            scanned = self._looks.scanned(source.facts)
            life = self._recogniser.life(stream, source, ahead=0 if scanned else self.limits.batch)
            if life is None:
                return self._settle(source.facts, begun=False)
            tail = final or self._is_quiet_tail(life, source.facts)
            chunk = next_chunk(source, source.facts.size, life.cursor, self.limits, scanned=scanned, tail=tail)
            if self._redactor is not None:
                chunk = self._redactor.whole(source, source.facts.size, chunk, life.cursor, tail=tail)
            if life.generation.id == 0:
                self._check_turn(stream, seen)
        found = self._format(life.stream, chunk, seen.location)
        if found is None:
            return self._settle(source.facts, begun=False)._replace(ignored="its first line is no JSON object")
        stream, form = found
        life = life if stream is life.stream else life._replace(stream=stream)
        return _Read(life, source.facts, form, chunk, tail)

    def _check_turn(self, stream: Stream, begun: Facts) -> None:
        """Raise SourceChangedError where another file comes first by now, or this one lies elsewhere."""
        unread = self._unread(stream, begun.location)
        if not unread or unread[0].identity != begun.identity:
            raise SourceChangedError(f"{begun.location.path} was rotated or moved while it was opened")

    def _commit(self, life: Life, facts: Facts, made: Encoded, more: bool) -> Progress:
        rows, edges, chain = made
        cursor = rows.after
        again = QUIET_SECONDS if not more and facts.size > cursor.offset else None
        progress = Progress(len(rows.events), len(rows.rejects), rows.length, more, again)
        modified = certified(facts, cursor.offset)
        after = ledger.advance(life, edges, cursor, chain.digest(), chain.block, modified)
        stream = self.store.commit(life.stream, after, rows, life.ending)
        number = after.id or stream.generations[-1].id
        self._encoder.keep(number, made)
        self._streams[stream.root, stream.key] = stream
        if facts.size == cursor.offset:
            self._looks.settle(facts, home=home_of(stream, facts))
        else:
            self._looks.note_scanned(facts, 0)
        return progress

    def _wait(self, life: Life, facts: Facts, chunk: Chunk, tail: bool) -> Progress:
        """Nothing to commit: remember how far the file was searched, and look again when its tail may be quiet."""
        self._streams[life.stream.root, life.stream.key] = life.stream
        if facts.size > life.cursor.offset and not tail:
            self._looks.note_scanned(facts, chunk.scanned)
            return Progress(again=QUIET_SECONDS)
        self._certify(life, facts)
        begun = life.generation.id != 0
        return self._settle(facts, begun=begun, home=home_of(life.stream, facts) if begun else None)

    def _certify(self, life: Life, facts: Facts) -> None:
        """Note that a compressed file was wholly taken already: the next process needn't decompress it to know."""
        modified = certified(facts, life.cursor.offset)
        if facts.location.packed and life.generation.id and modified != life.generation.modified:
            stream = self.store.resume(life.stream, life.generation._replace(modified=modified))
            self._streams[stream.root, stream.key] = stream

    def _settle(self, facts: Facts, *, begun: bool, home: tuple[str, str] | None = None) -> Progress:
        self._looks.settle(facts, begun=begun, home=home)
        return Progress(more=facts.location.number > 0)

    # -- which file, and which life of it

    def _unread(self, stream: Stream, location: Location) -> list[Facts]:
        """The stream's files to read: rotated ones to their end before the live one, then what was to wait."""
        files = [facts for _, facts in survey(location)]
        self._looks.keep(location, [facts.identity for facts in files])
        if not files:
            self._recogniser.note_gone(stream)
            self.forget(location)
        return sorted((facts for facts in reversed(files) if not self._is_settled(facts)), key=self._looks.turn)

    # -- what is remembered between calls: all of it can be lost

    def resume(self, root: str) -> None:
        """Remember what the store already has of each file, so that an unchanged one isn't opened."""
        self._keep_up()
        self._roots.know(self.store.roots())
        for known in self._roots.overlapping(root):
            for taken in self.store.watermarks(known):
                self._looks.resume(known, taken)

    def is_settled(self, facts: Facts) -> bool:
        """Whether the last look at this file found nothing more to do, and it has not changed since."""
        names = self._roots.synonyms(facts.location)
        return self._is_settled(facts) or any(self._is_settled(facts._replace(location=name)) for name in names)

    def _is_settled(self, facts: Facts) -> bool:
        if self._looks.is_settled(facts):
            return self._is_at_home(facts)
        taken = self._looks.resumed(facts)
        if taken is None:
            return False
        self._keep_up()
        if self._outdated:
            known = self._stream(facts.location).at(facts.identity)
            if known is None or Watermark.of(known, taken.key) != taken:
                return False
        self._looks.settle(facts, home=facts.location.stream if facts.location.packed else None)
        return True

    def _is_at_home(self, facts: Facts) -> bool:
        """Whether the stream that had the file at the last look still has it, where the file alone doesn't tell."""
        home = self._looks.home(facts)
        if home is None:
            return True
        stream = self.store.stream(*home)
        mine = home == facts.location.stream
        return stream is not None and any(
            known.identity == facts.identity and (known.is_here or not mine) for known in stream.standing
        )

    def _keep_up(self) -> None:
        """Forget what was read of the ledger where another connection has written since."""
        if self.store.has_changed():
            self._streams.clear()
            self._outdated = True

    def forget(self, location: Location) -> None:
        """Look at a stream from scratch the next time."""
        for name in (location, *self._roots.synonyms(location)):
            self._streams.pop(name.stream, None)
            self._looks.forget(name)

    def _known(self, location: Location) -> Location:
        """Where the ledger has this path: it may be known under another root, or by the name it had before."""
        stream = self._stream(location)
        if not stream.generations:
            self._roots.know(self.store.roots())
            for name in self._roots.synonyms(location):
                if self._stream(name).generations:
                    return name
            moved = self._recogniser.adopted(stream, location.rotated(0))
            if moved is not None:
                self.forget(Location(moved.root, moved.key, 0))
                self._streams.pop(location.stream)
        return location

    def _stream(self, location: Location) -> Stream:
        stream = self._streams.get(location.stream)
        if stream is None:
            if len(self._streams) >= _MOST_STREAMS:
                self._streams.clear()
            stream = self.store.stream(*location.stream)
            stream = stream or Stream(0, *location.stream, location.session_id, native.name)
            self._streams[location.stream] = stream
        return stream

    def _format(self, stream: Stream, chunk: Chunk, location: Location) -> tuple[Stream, Format] | None:
        """The stream's format; a stream that begins gets the one that its first line shows, and its session's id."""
        if stream.id or chunk.oversize or not chunk.content:
            return stream, named(stream.format)
        lines = filter(None, map(first_object, chunk.content.split(b"\n", _FIRST_LINES)[:_FIRST_LINES]))
        given = self._formats.get(stream.root)
        live = location.rotated(0)
        found = recognise(lines, live.path) if given is None else (named(given), next(lines, b""))
        if found is None:
            return (stream, native) if chunk.tail else None
        form, line = found
        session_id, parent, forked_from = form.identify(line, location.key)
        return stream._replace(session_id=session_id, format=form.name, parent=parent, forked_from=forked_from), form

    def _is_quiet_tail(self, life: Life, facts: Facts) -> bool:
        return facts.size > life.cursor.offset and self._looks.is_quiet(facts)
