"""Which bytes of a generation are to be erased, for the lines and texts that are wanted.

A text that stands in an object's bytes has its place there, if the object is still one, with as many events, and says
the text no more, once a placeholder is there instead. Else the whole object goes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apsw

from codex.logging.erasure.wanted import Hit, Wanted
from codex.logging.events import Batch, Cursor, Generation
from codex.logging.ingest.batches import decode_chunk
from codex.logging.ingest.formats import Format
from codex.logging.ingest.reader import Bytes, Chunk
from codex.logging.store.record import Record
from codex.logging.store.spans import ERASED, Span, filler

_BEGIN, _END = Cursor(), 1 << 40
_PAGE = 1000
_EVENTS = """
SELECT id, (id >> 8) & 0xffffffff, "offset", length, message, meta, tool, model, call_id, parent FROM events
WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"""
_REJECTS = "SELECT id, seq, id & 0xffffffffff, length FROM ingest_rejects WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"

_Row = tuple[int, int, int, Sequence[str | None]]


class Place(NamedTuple):
    """Bytes [start, end) of line `seq` to erase; `what` is what the placeholder's hash is of.

    A `whole` one is an object, or a reject. Where no row is of the bytes yet, the line is 0.
    """

    start: int
    end: int
    seq: int
    what: bytes
    whole: bool = False


class Lines(NamedTuple):
    """Whole lines that are wanted: by number, or by what they say exactly."""

    seqs: Collection[int] = ()
    alike: Collection[bytes] = ()


class _Object(NamedTuple):
    """What one or more rows of line `seq` are of: bytes [start, end); a `whole` one goes as a whole."""

    start: int
    end: int
    seq: int
    whole: bool


def places(
    connection: apsw.Connection,
    generation: Generation,
    form: Format,
    wanted: Wanted,
    lines: Lines,
    source: Bytes | None,
    since: Cursor = _BEGIN,
) -> list[Place]:
    """What is to be erased of a generation behind a cursor, in order, and wasn't yet.

    Where the file is to be overwritten as well, what it says counts like what was recorded. Raises DatabaseError where
    the record has a hole, SourceError.
    """
    record, length = Record(connection, generation.id), generation.cursor.offset
    hits = wanted.hits(record, since.offset, length)
    if source is not None:
        hits = sorted({*hits, *wanted.hits(source, since.offset, length)})
    rows = _rows(connection, generation.id, since, length)
    objects = list(_objects(rows, wanted, lines, hits, record))
    found = [place for one in objects for place in _within(one, record, hits, form, wanted)]
    found += [_place(hit, 0) for hit in hits if not _is_covered(hit, objects)]
    there = record.spans_in(0, length)
    return [
        place
        for place in _merged(found, there)
        if not is_recorded_without(place, there)
        or (source is not None and _read(source, place) != _read(record, place))
    ]


def is_recorded_without(place: Place, there: Sequence[Span]) -> bool:
    """Whether the place lies within one of the spans."""
    return any(span.offset <= place.start and place.end <= span.end for span in there)


def _read(source: Bytes, place: Place) -> bytes:
    return source.read(place.start, place.end - place.start)


def _objects(
    rows: Iterable[_Row], wanted: Wanted, lines: Lines, hits: Sequence[Hit], record: Record
) -> Iterator[_Object]:
    """The objects, and rejects, that something of is wanted."""
    starts, lengths = [hit.start for hit in hits], {len(said) for said in lines.alike}
    longest = max((hit.end - hit.start for hit in hits), default=0)
    last = _Object(-1, -1, 0, whole=False)
    for seq, start, length, texts in rows:
        end = start + length
        whole = seq in lines.seqs or (length in lengths and record.read(start, length) in lines.alike)
        near = hits[bisect_left(starts, start - longest) : bisect_left(starts, end)]
        touched = any(hit.end > start for hit in near)
        if not (whole or touched or wanted.is_in(*texts)):
            continue
        if (start, end) == last[:2]:
            last = last._replace(whole=last.whole or whole)
        else:
            if last.end >= 0:
                yield last
            last = _Object(start, end, seq, whole)
    if last.end >= 0:
        yield last


def _rows(connection: apsw.Connection, number: int, since: Cursor = _BEGIN, end: int = _END) -> Iterator[_Row]:
    """Line, offset, length and texts of each event, and each reject, from a cursor on, page by page.

    Those that begin at `end` or behind it may be committed meanwhile.
    """
    for query, begin in ((_EVENTS, since.seq << 8), (_REJECTS, since.offset)):
        first, last = number << 40 | begin, number << 40 | 0xFFFFFFFFFF
        while page := connection.execute(query, (first, last, _PAGE)).fetchall():
            row: Any
            for row in page:
                if since.offset <= row[2] < end:
                    yield row[1], row[2], row[3], row[4:]
            first = row[0] + 1


def _within(one: _Object, record: Record, hits: Sequence[Hit], form: Format, wanted: Wanted) -> list[Place]:
    """What of an object is to be erased: the places of what is wanted, or all of it."""
    said = record.read(one.start, one.end - one.start)
    everything = [Place(one.start, one.end, one.seq, said, whole=True)]
    mine = [hit for hit in hits if hit.start < one.end and hit.end > one.start]
    if one.whole or not mine or any(hit.start < one.start or hit.end > one.end for hit in mine):
        return everything
    found = _merged([_place(hit, one.seq) for hit in mine], ())
    return found if _is_still_sound(said, one.start, found, form, wanted) else everything


def _is_still_sound(said: bytes, start: int, found: Sequence[Place], form: Format, wanted: Wanted) -> bool:
    """Whether an object with placeholders in these places comes to the same events, and says nothing wanted."""
    stored = bytearray(said)
    for place in found:
        stored[place.start - start : place.end - start] = filler(said[place.start - start : place.end - start])
    spans = [Span(place.start, place.end - place.start, ERASED, "0" * 8, b"", 0.0) for place in found]
    before, after = (
        decode_chunk(Chunk(line=text), Cursor(offset=start), form, chosen)
        for text, chosen in ((said, ()), (bytes(stored), spans))
    )
    return before is not None and after is not None and _shape(before) == _shape(after) and not _says(after, wanted)


def _shape(batch: Batch) -> tuple[list[tuple[str, str]], list[str]]:
    return [(event.fields.kind, event.fields.role) for event in batch.events], [one.reason for one in batch.rejects]


def _says(batch: Batch, wanted: Wanted) -> bool:
    return any(
        wanted.is_in(one.message, one.meta, one.tool, one.model, one.call_id, one.parent)
        for one in (event.fields for event in batch.events)
    )


def _place(hit: Hit, seq: int) -> Place:
    return Place(hit.start, hit.end, seq, hit.text.encode("utf-8", "surrogatepass"))


def _is_covered(hit: Hit, objects: Sequence[_Object]) -> bool:
    return any(one.start < hit.end and hit.start < one.end for one in objects)


def _merged(found: Sequence[Place], spans: Sequence[Span]) -> list[Place]:
    """The places in order, without overlaps; one that meets a span that is there takes it along."""
    there = [Place(span.offset, span.end, 0, b"") for span in spans]
    met = [one for one in there if any(one.start < place.end and place.start < one.end for place in found)]
    merged: list[Place] = []
    for place in sorted([*found, *met]):
        if not merged or place.start >= merged[-1].end:
            merged.append(place)
            continue
        last = merged[-1]
        end, whole = max(last.end, place.end), last.whole or place.whole
        merged[-1] = Place(last.start, end, last.seq or place.seq, last.what or place.what, whole)
    return merged


def exact_lines(connection: apsw.Connection, generation: int, seqs: Collection[int]) -> set[bytes]:
    """What the objects, and rejects, of these lines say."""
    record = Record(connection, generation)
    return {record.read(start, length) for seq, start, length, _ in _rows(connection, generation) if seq in seqs}
