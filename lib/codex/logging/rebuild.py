"""A database built anew: from the sources, and from the old database's own segments for sources that are gone.

The ledger (which life of which file there was) comes from the old database; every row is decoded again from its bytes.
The result has the same events, rejects and chains under the same ids.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from hashlib import blake2b
from typing import Any

import apsw

from codex.logging.errors import DatabaseError, SourceError
from codex.logging.events import Generation, Stream
from codex.logging.ingest.formats import named
from codex.logging.ingest.reader import Bytes, Limits
from codex.logging.ingest.redactor import carry
from codex.logging.replay import LIMITS, batches
from codex.logging.store import legacy
from codex.logging.store.connection import immediate, open_writer, scalar, translated
from codex.logging.store.disk import sync
from codex.logging.store.record import Record
from codex.logging.store.rows import rows_of
from codex.logging.store.segments import Chain, link
from codex.logging.store.sqlite import Store
from codex.logging.store.streams import read_ledger, read_streams
from codex.logging.targets import Finding, Masked, SourceFile, Target, targets
from codex.logging.verify import has_sound_bytes

_PIECE = 1 << 20
_REBUILT_FROM = "rebuilt_from"
_DERIVED = frozenset(
    {
        "streams",
        "generations",
        "events",
        "ingest_rejects",
        "segments",
        "summaries",
        "usage",
        "tombstones",
        "meta",
        "search_watermarks",
        "secrets",
        "secret_watermarks",
        "redacted_spans",
    }
)
_OURS = frozenset(
    {"forward_sinks", "forward_watermarks", "hook_runs", "hook_watermarks", "redactions"}
)  # made by the schema, and not to be had from the bytes
_TABLES = """
SELECT name, sql FROM sqlite_schema JOIN pragma_table_list AS list USING (name)
WHERE list.schema = 'main' AND list.type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"""
_REST = "SELECT name, sql FROM sqlite_schema WHERE type IN ('index', 'view', 'trigger') AND sql IS NOT NULL"
_COLUMNS = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"


def begin(old: apsw.Connection, path: str, *, discard: bool = False) -> Store:
    """The store that a rebuild fills: what an interrupted one left there, unless the old ledger has changed since.

    With `discard` whatever else is there is removed. Raises DatabaseError, also where another database is there.
    """
    ledger = blake2b(repr(read_ledger(old)).encode(), digest_size=20).hexdigest()
    if os.path.exists(path):
        new = Store(path)
        mark = scalar(new.connection, "SELECT value FROM meta WHERE key = ?", (_REBUILT_FROM,))
        if mark == ledger:
            return new
        is_empty = not scalar(new.connection, "SELECT count(*) FROM streams")
        new.close()
        if mark is None and not is_empty and not discard:
            raise DatabaseError(f"{path} is a database already", hint="Choose another name; nothing is overwritten.")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
    new = Store(path)
    new.note(_REBUILT_FROM, "")
    new.copy_ledger(old)
    carry(old, new)
    new.note(_REBUILT_FROM, ledger)
    return new


def rebuild(old: apsw.Connection, new: Store, limits: Limits = LIMITS) -> Iterator[int | Finding]:
    """Fill the store that `begin` gave from the old database: bytes done and findings as they come.

    A finding tells of a generation whose bytes are whole neither in its source nor in the old segments: the new store
    lacks it from there on. Raises DatabaseError.
    """
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
            yield from _replay(old, new, target, stream._replace(generations=(generation,)), limits)
            new.finish(target.generation, committed[generation.id])
    with translated(new.path):
        yield from copy_others(old, new.connection)


def end(new: Store) -> None:
    """The store is whole: from now on it is a database like any other."""
    new.note(_REBUILT_FROM, None)


def _replay(
    old: apsw.Connection, new: Store, target: Target, stream: Stream, limits: Limits
) -> Iterator[int | Finding]:
    """Take one generation's bytes again, from where the new store has them."""
    former, generation = target.generation, stream.generations[0]
    record = Record(old, former.id)
    with SourceFile(target) as file:
        stored = Masked(file, record.spans_in)
        source: Bytes | None = (
            stored if file.is_there and _has(stored, former) else record if has_sound_bytes(old, target) else None
        )
        breaks = _breaks(record)
        if source is None:
            yield target.finding("lost", generation.cursor.offset, target.length, "no sound bytes, here nor there")
            return
        chain = new.chain(generation)
        start = generation.cursor, new.summary(generation.id)
        for batch in batches(source, named(stream.format), former, breaks or {}, start, limits, record.spans_in):
            rows, spans = rows_of(batch, generation.id << 40), record.spans_in(batch.before.offset, batch.after.offset)
            rows = rows._replace(chains=link(rows.pieces, chain).chains, spans=spans)
            generation = former._replace(
                cursor=batch.after, chain=chain.digest(), block=chain.block, ended=None, how=None, superseded_by=None
            )
            stream = new.commit(stream, generation, rows, None)
            yield rows.length
    last = former.cursor if breaks is None else former.cursor._replace(seq=generation.cursor.seq)
    if (generation.cursor, generation.chain) != (last, former.chain):
        yield target.finding("differs", 0, target.length, "the rows made anew end elsewhere than the old ones")


def _has(file: Bytes, generation: Generation) -> bool:
    """Whether a file begins with exactly the bytes that the generation's chain is of."""
    chain, length = Chain(), generation.cursor.offset
    try:
        while chain.offset < length:
            piece = file.read(chain.offset, min(_PIECE, length - chain.offset))
            if not piece:
                return False
            chain.update(piece)
    except SourceError:
        return False
    return chain.digest() == generation.chain


def _breaks(record: Record) -> dict[int, int] | None:
    """Where the numbering jumps; None where the old segments can't be read."""
    try:
        return dict(record.breaks())
    except apsw.CorruptError:
        return None


def copy_others(
    old: apsw.Connection, new: apsw.Connection, change: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None
) -> Iterator[Finding]:
    """What others keep in the same file, and what can't be had from the bytes, comes along: as it is, or changed."""
    for name, sql in old.execute(_TABLES).fetchall():
        if name not in _DERIVED:
            try:
                with immediate(new):
                    _copy_table(old, new, str(name), str(sql), change)
            except apsw.CorruptError as error:
                yield Finding("", 0, "lost", 0, 0, f"table {name}: {error}")
    with immediate(new):
        legacy.show(new)
        for name, sql in old.execute(_REST).fetchall():
            if scalar(new, "SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)) is None:
                new.execute(str(sql))


def _copy_table(
    old: apsw.Connection,
    new: apsw.Connection,
    name: str,
    sql: str,
    change: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None,
) -> None:
    quoted = _quoted(name)
    if name in _OURS:
        new.execute(f"DELETE FROM {quoted}")  # noqa: S608
    else:
        new.execute(f"DROP TABLE IF EXISTS {quoted}")
        new.execute(sql)
    columns = [_quoted(str(row[0])) for row in old.execute(_COLUMNS, (name,))]
    chosen, places = ", ".join(columns), ", ".join("?" * len(columns))
    rows: Any = old.execute(f"SELECT {chosen} FROM {quoted}")  # noqa: S608
    rows = rows if change is None else map(change, rows)
    new.executemany(f"INSERT INTO {quoted} ({chosen}) VALUES ({places})", rows)  # noqa: S608


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def swap_in(database: str, built: str) -> str:
    """Put the built database in the place of the old one, which is kept; the kept one's path comes back.

    Nobody may write either of them meanwhile. Raises DatabaseError.
    """
    kept = f"{database}.before-rebuild"
    with translated(built):
        _fold_log(built)
        shutil.copymode(database, built)
        with suppress(PermissionError):
            os.chown(built, os.stat(database).st_uid, os.stat(database).st_gid)
    with suppress(DatabaseError), translated(database):  # damaged, or somebody reads it: it is kept as it is
        _fold_log(database)
    with translated(database):
        for suffix in ("-wal", "-shm"):  # a log of the old file beside the new one would be replayed into it
            with suppress(FileNotFoundError):
                os.replace(database + suffix, kept + suffix)
        with suppress(FileNotFoundError):
            os.unlink(kept)
        os.link(database, kept)
        os.replace(built, database)
        sync(os.path.dirname(database))
    return kept


def _fold_log(path: str) -> None:
    """Bring what the write-ahead log holds into the file, so that the file alone is the whole database."""
    with closing(open_writer(path)) as connection:
        connection.pragma("journal_mode", "delete")
