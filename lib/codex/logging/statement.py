"""Statements: what the record was at a moment, small enough to keep elsewhere, and strong enough to hold it to.

A statement is one line of JSON with, for each generation, its length, its lines and its chain. Kept off this host it
proves that nothing before that moment was cut or replaced since, even by one who may write the database. It proves
nothing of bytes that came later, of sessions that it doesn't name, or of what the agents wrote in the first place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import apsw
import msgspec

from codex.logging.errors import ConfigError
from codex.logging.events import iso_time
from codex.logging.store.sqlite import read_streams
from codex.logging.targets import Finding, Target
from codex.logging.verify import check


class Entry(msgspec.Struct, frozen=True):
    """One generation at the statement's moment: bytes, lines, and the chain in hexadecimal."""

    session_id: str
    generation: int
    length: int
    lines: int
    chain: str


class Statement(msgspec.Struct, frozen=True):
    """One statement; `digest` is blake2b over its entries, so that a torn or edited one shows."""

    ts: str
    database: str
    entries: list[Entry]
    digest: str


def state(connection: apsw.Connection, database: str, seconds: float) -> Statement:
    """The statement of this moment, epoch seconds."""
    entries = [
        Entry(
            stream.session_id,
            generation.id,
            generation.cursor.offset,
            generation.cursor.lines,
            generation.chain.hex(),
        )
        for stream in read_streams(connection)
        for generation in stream.generations
    ]
    return Statement(iso_time(seconds), database, entries, _digest(entries))


def to_line(statement: Statement) -> str:
    """One line of JSON, without its line end."""
    return json.dumps(msgspec.to_builtins(statement), ensure_ascii=False, separators=(",", ":"))


def append(path: str, line: str) -> None:
    """Append to a file of statements, and have it on the disk."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: str) -> list[Statement]:
    """The statements of a file. Raises ConfigError for a line that is none, or was edited."""
    statements = []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                statement = msgspec.json.decode(line, type=Statement)
                if statement.digest != _digest(statement.entries):
                    raise ConfigError(f"{path}:{number}: the statement doesn't match its own digest")
                statements.append(statement)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: not a file of statements: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return statements


def compare(
    connection: apsw.Connection, targets: Sequence[Target], statements: Iterable[Statement]
) -> Iterator[int | Finding]:
    """Whether today's record extends each statement: bytes done and findings as they come."""
    entries = {(entry, statement.ts) for statement in statements for entry in statement.entries}
    lengths: dict[str, set[int]] = {}
    for entry, _ in entries:
        lengths.setdefault(entry.session_id, set()).add(entry.length)
    found: set[tuple[str, int, str]] = set()
    for target in targets:
        wanted: dict[int, bytes | None] = dict.fromkeys(lengths.get(target.session_id, ()))
        if wanted and target.tombstone is None:
            for step in check(connection, target._replace(at_home=False), chains=wanted):
                if isinstance(step, int):
                    yield step
        elif target.tombstone is not None:
            wanted = {target.tombstone.length: target.tombstone.chain}
        found.update((target.session_id, length, chain.hex()) for length, chain in wanted.items() if chain)
    for entry, ts in sorted(entries, key=lambda pair: (pair[1], pair[0].session_id, pair[0].generation)):
        if entry.length and (entry.session_id, entry.length, entry.chain) not in found:
            detail = f"the record doesn't extend the statement of {ts}"
            yield Finding(entry.session_id, entry.generation, "statement", 0, entry.length, detail)


def _digest(entries: Sequence[Entry]) -> str:
    return blake2b(msgspec.json.encode(entries), digest_size=20).hexdigest()
