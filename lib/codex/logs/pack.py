"""Pack a session into one zip: its NDJSON, its `.meta`, and a transcript to read."""

from __future__ import annotations

import os
import re
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import click

from codex.logging import config
from codex.logging.errors import CodexLoggingError, ConfigError, NoSuchSessionError, SourceError
from codex.logging.events import Generation, Stream
from codex.logging.ingest import ledger
from codex.logging.ingest.beneath import open_beneath
from codex.logging.ingest.sources import Location, Source, survey
from codex.logging.reading import Opened
from codex.logging.restore import session_streams
from codex.logging.rows import Selection, select_rows
from codex.logging.store.record import Record
from codex.logging.terminal import db_option, tell
from codex.logs.chosen import SESSION, session_opened
from codex.logs.target import target

_LOCK_SECONDS = 5.0
_PIECE = 1 << 20
_UNPACKABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\\:]")  # would lead elsewhere, or order a terminal, where it is unpacked
_SPANS = 'SELECT generation, "offset", length FROM session_events WHERE session_id = ? ORDER BY seq, part'


class Member(NamedTuple):
    """A file of the zip; `modified` is epoch seconds."""

    name: str
    modified: float
    pieces: Iterable[bytes]


def members(opened: Opened, session_id: str) -> Iterator[Member]:
    """What a session's zip holds. Raises CodexLoggingError when there is no such session, or it was purged."""
    if opened.single:
        yield from _of_single(opened, session_id)
    else:
        yield from _of_streams(opened, session_id)
    rows = select_rows(opened.connection, opened.path, Selection(session_id))
    yield Member("transcript.txt", time.time(), (f"{row.as_text(show_meta=True)}\n".encode() for row in rows))


def _of_streams(opened: Opened, session_id: str) -> Iterator[Member]:
    """The files of the default view as they would lie in a log folder: the newest is live, the others are rotated."""
    try:
        streams = session_streams(opened.connection, session_id)
    except CodexLoggingError:
        if opened.has_rows(session_id):
            return  # rows that a forerunner wrote without a log
        raise
    if not any(stream.standing for stream in streams):
        raise CodexLoggingError(f"session {session_id!r} was purged: its bytes are gone")
    for number, stream in enumerate(streams, 1):
        folder = f"{number}/" if len(streams) > 1 else ""
        name = folder + _UNPACKABLE.sub("_", os.path.basename(stream.key))
        for age, generation in enumerate(reversed(stream.standing)):
            pieces = _bytes_of(opened, stream, generation)
            yield Member(f"{name}.{age}" if age else name, generation.modified / 1e9, pieces)
        meta = f"{stream.key.removesuffix('.ndjson')}.meta"
        yield from _meta(stream.root, meta, f"{name.removesuffix('.ndjson')}.meta", None)


def _bytes_of(opened: Opened, stream: Stream, generation: Generation) -> Iterator[bytes]:
    """The recorded bytes, and those that its file has behind them."""
    yield from Record(opened.connection, generation.id).chunks(generation.cursor.offset)
    for _, facts in survey(Location(stream.root, stream.key, 0)):
        if facts.identity != generation.identity or facts.size <= generation.cursor.offset:
            continue
        with suppress(SourceError), Source(facts, _LOCK_SECONDS) as source:
            if ledger.glance(generation, source, source.facts.size).same:
                for offset in range(generation.cursor.offset, source.facts.size, _PIECE):
                    yield source.read(offset, min(_PIECE, source.facts.size - offset))


def _of_single(opened: Opened, session_id: str) -> Iterator[Member]:
    """The session's records out of a log that all sessions share."""
    if not opened.has_rows(session_id):
        raise NoSuchSessionError(f"there is no session {session_id!r} in {opened.path}")
    spans = opened.connection.execute(_SPANS, (session_id,)).fetchall()
    records = {number: Record(opened.connection, number) for number in {int(str(span[0])) for span in spans}}
    lines = (records[number].read(start, length) + b"\n" for number, start, length in spans)  # type: ignore
    name = plain_name(session_id)
    yield Member(f"{name}.ndjson", os.stat(opened.path).st_mtime, lines)
    folder, log = os.path.split(opened.path)
    yield from _meta(folder, f"{log.removesuffix('.ndjson')}.meta", f"{name}.meta", session_id)


def _meta(root: str, key: str, name: str, session_id: str | None) -> Iterator[Member]:
    """The `.meta` file under a root, where there is one; of one session alone when it is given."""
    try:
        with open(open_beneath(root, key), "rb") as file:
            lines = file.readlines()
            modified = os.fstat(file.fileno()).st_mtime
    except OSError:
        return
    if session_id is not None:
        ending = f" {session_id}".encode()
        lines = [line for line in lines if line.rstrip(b"\r\n").endswith(ending)]
    yield Member(name, modified, lines)


def plain_name(session_id: str) -> str:
    """The id where it can name a file, else `session`."""
    try:
        return config.check_session_id(session_id)
    except ConfigError:
        return "session"


def write_zip(path: str, found: Iterable[Member], *, force: bool = False) -> list[str]:
    """Write a file, whole or not at all; the names in it.

    Raises ConfigError when it can't be, or is there already and `force` isn't given.
    """
    names = []
    try:
        with target(path, force=force) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in found:
                names.append(member.name)
                with archive.open(_info(member), "w", force_zip64=True) as entry:
                    for piece in member.pieces:
                        entry.write(piece)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="Choose another place with -o.") from error
    return names


def _info(member: Member) -> zipfile.ZipInfo:
    moment = time.gmtime(min(max(member.modified, 315532800), 4354819198))  # what a zip can say: 1980 to 2107
    info = zipfile.ZipInfo(member.name, moment[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


@click.command(
    "pack", epilog="\b\nExamples:\n  codex-logs pack my-session\n  codex-logs pack my-session -o for-bob.zip"
)
@click.argument("session", type=SESSION)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="The zip to make.  [default: SESSION.zip]")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@db_option
def command(session: str, output: str | None, force: bool, db: str | None) -> int:
    """Pack a session: its NDJSON with the rotated files, its .meta, and a transcript.

    Files that are gone come from the record in the database, byte for byte.
    """
    with session_opened(db, session) as (database, chosen):
        opened = database.file()
        path = config.absolute(output or f"{plain_name(chosen)}.zip")
        names = write_zip(path, members(opened, chosen), force=force)
    tell(f"{path}: {', '.join(names)}")
    return 0
