"""A database built anew: from the sources, and from the old database's own segments for sources that are gone.

The ledger (which life of which file there was) comes from the old database; every row is decoded again from its bytes.
The result has the same events, rejects and chains under the same ids.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import apsw

from codex.logging.errors import DatabaseError
from codex.logging.events import Generation, Stream
from codex.logging.ingest.reader import Bytes
from codex.logging.replay import batches
from codex.logging.store.connection import has_relation, immediate, open_writer, translated
from codex.logging.store.record import Record
from codex.logging.store.segments import BLOCK_BYTES, Chain
from codex.logging.store.sqlite import Store, read_streams
from codex.logging.targets import Finding, SourceFile, Target, targets
from codex.logging.verify import check

_PIECE = 1 << 20
_OTHERS = """
SELECT name, sql FROM sqlite_schema
WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT IN (
    'streams', 'generations', 'events', 'ingest_rejects', 'segments', 'tombstones', 'meta')"""


def rebuild(old: apsw.Connection, new: Store) -> Iterator[int | Finding]:
    """Fill the new store from the old database: bytes done and findings as they come.

    It goes on where a rebuild into the same store stopped. A finding tells of a generation whose bytes are whole
    neither in its source nor in the old segments: the new store lacks it from there on.
    """
    new.copy_ledger(old)
    _copy_others(old, new.connection)
    rows: list[Any] = old.execute("SELECT id, committed_at FROM generations").fetchall()
    committed: dict[int, float] = dict(rows)
    begun = {
        generation.id: (stream, generation)
        for stream in read_streams(new.connection)
        for generation in stream.generations
    }
    for target in targets(old):
        if target.tombstone is None:
            stream, generation = begun[target.generation.id]
            yield from _replay(old, new, target, stream._replace(generations=(generation,)))
            new.finish(target.generation, committed[generation.id])


def _replay(old: apsw.Connection, new: Store, target: Target, stream: Stream) -> Iterator[int | Finding]:
    """Take one generation's bytes again, from where the new store has them."""
    former, generation = target.generation, stream.generations[0]
    record = Record(old, former.id)
    with SourceFile(target) as file:
        source: Bytes | None = file if _has(file, former) else record if _is_whole(old, target) else None
        if source is None:
            yield target.finding("lost", generation.cursor.offset, target.length, "no sound bytes, here nor there")
            return
        offset = generation.cursor.offset
        start = offset - offset % BLOCK_BYTES
        rest = new.recorded(generation.id, start, offset) if offset > start else b""
        chain = Chain(offset, generation.block, rest)
        for batch in batches(source, former, dict(record.breaks()), generation.cursor):
            chain.update(batch.data)
            generation = former._replace(
                cursor=batch.after, chain=chain.digest(), block=chain.block, ended=None, how=None, superseded_by=None
            )
            stream = new.commit(stream, generation, batch, None)
            yield len(batch.data)
    if (generation.cursor._replace(seq=0), generation.chain) != (former.cursor._replace(seq=0), former.chain):
        yield target.finding("differs", 0, target.length, "the rows made anew end elsewhere than the old ones")


def _is_whole(old: apsw.Connection, target: Target) -> bool:
    """Whether the old segments give the bytes that the ledger's chain is of."""
    steps = check(old, target._replace(at_home=False))
    return all(isinstance(step, int) or step.kind == "accounting" for step in steps)


def _has(file: SourceFile, generation: Generation) -> bool:
    """Whether the file begins with exactly the bytes that the generation's chain is of."""
    chain, length = Chain(), generation.cursor.offset
    while file.is_there and chain.offset < length:
        piece = file.read(chain.offset, min(_PIECE, length - chain.offset))
        if not piece:
            return False
        chain.update(piece)
    return file.is_there and chain.digest() == generation.chain


def _copy_others(old: apsw.Connection, new: apsw.Connection) -> None:
    """Tables that others keep in the same file come along as they are."""
    for name, sql in old.execute(_OTHERS).fetchall():
        if has_relation(new, str(name)):
            continue
        quoted = '"' + str(name).replace('"', '""') + '"'
        with immediate(new):
            new.execute(str(sql))
            rows = old.execute(f"SELECT * FROM {quoted}").fetchall()  # noqa: S608
            if rows:
                new.executemany(f"INSERT INTO {quoted} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608


def swap_in(database: str, built: str) -> str:
    """Put the built database in the place of the old one, which is kept; the kept one's path comes back.

    Nobody may write either of them meanwhile. Raises DatabaseError.
    """
    kept = f"{database}.before-rebuild"
    with translated(built), closing(open_writer(built)) as connection:
        connection.pragma("journal_mode", "delete")  # the file alone is the whole database
    try:
        with closing(open_writer(database)) as connection:
            connection.pragma("journal_mode", "delete")
    except DatabaseError:
        pass  # damaged: it is kept as it is
    try:
        if os.path.exists(database):
            for suffix in ("-wal", "-shm", ""):
                if os.path.exists(database + suffix):
                    _keep(database + suffix, kept + suffix)
        os.replace(built, database)
    except OSError as error:
        raise DatabaseError(f"{database}: {error.strerror}") from error
    return kept


def _keep(path: str, kept: str) -> None:
    """A log of the old file beside the new one would be replayed into it, so it moves; the file itself is linked."""
    if path.endswith(("-wal", "-shm")):
        os.replace(path, kept)
        return
    if os.path.exists(kept):
        os.unlink(kept)
    os.link(path, kept)
