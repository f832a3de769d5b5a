"""Statements: what the record was at a moment, small enough to keep elsewhere, and strong enough to hold it to.

A statement is one line of JSON with, for each generation, its length, its lines and its chain. Kept off this host it
proves that nothing before that moment was cut or replaced since, even by one who may write the database. It proves
nothing of bytes that came later, of sessions that it doesn't name, or of what the agents wrote in the first place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import apsw
import msgspec

from codex.logging.errors import ConfigError
from codex.logging.events import iso_time
from codex.logging.secrets.placeholder import keyed
from codex.logging.store.redactions import Former
from codex.logging.store.streams import read_streams
from codex.logging.targets import Finding, Target


class Entry(msgspec.Struct, frozen=True):
    """One generation at the statement's moment: bytes, lines, and the chain in hexadecimal."""

    session_id: str
    generation: int
    length: int
    lines: int
    chain: str


class Statement(msgspec.Struct, frozen=True):
    """One statement; `digest` is blake2b over the rest of it, so that a torn or carelessly edited one shows."""

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
    ts = iso_time(seconds)
    return Statement(ts, database, entries, _digest(ts, database, entries))


def to_line(statement: Statement) -> str:
    """One line of JSON, without its line end."""
    return json.dumps(msgspec.to_builtins(statement), ensure_ascii=False, separators=(",", ":"))


def append(path: str, line: str) -> None:
    """Append to a file of statements, and have it on the disk."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: str) -> Iterator[Statement]:
    """The statements of a file. Raises ConfigError for a line that is none, or was edited."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield _parse(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _parse(line: bytes, where: str) -> Statement:
    hint = "Take the file from where nobody but you can write it; a torn last line may be removed."
    try:
        statement = msgspec.json.decode(line, type=Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: this is no statement: {error}", hint=hint) from error
    if statement.digest != _digest(statement.ts, statement.database, statement.entries):
        raise ConfigError(f"{where}: the statement doesn't match its own digest", hint=hint)
    return statement


class Held(NamedTuple):
    """What today's record comes to beside statements: where it doesn't extend one, once for each generation.

    And how many entries can't be held against anything: what they are of grew and was purged afterwards, or something
    was taken out of it later.
    """

    findings: list[Finding]
    purged: int
    redacted: int


class Wanted:
    """The chains that statements say, and those that a check of today's record finds at the same lengths.

    Entries of sessions that aren't among `session_ids` (of all, when none is named) are left out.
    """

    def __init__(self, statements: Iterable[Statement], session_ids: Sequence[str] = ()) -> None:
        self.statements = 0
        first: dict[Entry, str] = {}
        for statement in statements:
            self.statements += 1
            for entry in statement.entries:
                if entry.length and (not session_ids or entry.session_id in session_ids):
                    first.setdefault(entry, statement.ts)
        self._entries = sorted(first.items(), key=lambda item: (item[0].length, item[1]))
        self._lengths: dict[str, list[int]] = {}
        for entry, _ in self._entries:
            self._lengths.setdefault(entry.session_id, []).append(entry.length)
        self._found: dict[int, dict[int, bytes | None]] = {}

    def at(self, target: Target) -> dict[int, bytes | None]:
        """For `check`: the lengths at which a generation's chain is wanted."""
        return self._found.setdefault(target.generation.id, dict.fromkeys(self._lengths.get(target.session_id, ())))

    def compare(self, targets: Sequence[Target], formers: Mapping[int, Sequence[Former]], key: bytes | None) -> Held:
        """Hold today's record against the statements; `formers` is what it was before something was taken out."""
        chains = {
            (target.session_id, length, chain.hex())
            for target in targets
            for length, chain in self._found.get(target.generation.id, {}).items()
            if chain
        }
        stones = {target.generation.id: target.tombstone for target in targets if target.tombstone is not None}
        lengths = {target.generation.id: target.length for target in targets}
        proven: dict[int, int] = {}
        findings: dict[int, Finding] = {}
        purged = redacted = 0
        for entry, ts in self._entries:
            stone = stones.get(entry.generation)
            if stone is not None and stone.length > entry.length:
                purged += 1
            elif (entry.session_id, entry.length, entry.chain) in chains or (
                stone is not None and (stone.length, stone.chain.hex()) == (entry.length, entry.chain)
            ):
                proven[entry.generation] = entry.length
            elif (was := _was(entry, formers.get(entry.generation, ()), key)) is not False:
                redacted += was is None
            elif entry.generation not in findings:
                where = (proven.get(entry.generation, 0), entry.length)
                detail = _detail(lengths.get(entry.generation), entry, ts)
                findings[entry.generation] = Finding(entry.session_id, entry.generation, "statement", *where, detail)
        return Held(list(findings.values()), purged, redacted)


def _was(entry: Entry, formers: Sequence[Former], key: bytes | None) -> bool | None:
    """Whether a generation once was what a statement is of; None where nobody can tell."""
    proofs = {former.proof for former in formers if former.length == entry.length}
    if key is not None and proofs:
        return keyed(bytes.fromhex(entry.chain), key) in proofs
    return None if any(entry.length <= former.length for former in formers) else False


def _detail(length: int | None, entry: Entry, ts: str) -> str:
    if length is None:
        return f"it is gone, and there is a statement of {ts} of it"
    if length < entry.length:
        return f"it ends at {length}, and the statement of {ts} is of {entry.length} bytes"
    return f"it isn't what the statement of {ts} is of"


def _digest(ts: str, database: str, entries: Sequence[Entry]) -> str:
    return blake2b(msgspec.json.encode((ts, database, entries)), digest_size=20).hexdigest()
