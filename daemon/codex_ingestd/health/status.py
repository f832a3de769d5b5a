"""What a person asks first: is it running, what has it, how far behind is it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import apsw
import msgspec

from codex.logging.events import iso_time
from codex.logging.ingest.sources import Facts as FileFacts
from codex.logging.ingest.sources import scan
from codex.logging.store.connection import has_relation, open_reader, translated
from codex_ingestd.forward.notes import read_notes
from codex_ingestd.health.judge import Facts, Health, Sink, judge
from codex_ingestd.instance import told

SHOWN_FINDINGS = 5
_STREAMS = """
SELECT s.root, s.path, s.session_id, s.state, s.error, s.error_at,
       g.id, g.device, g.inode, g."offset", g.seq, g.committed_at, g.how,
       (SELECT count(*) FROM ingest_rejects AS r WHERE r.id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff)
FROM streams AS s LEFT JOIN generations AS g ON g.stream = s.id
ORDER BY s.id, g.id"""


class StreamStatus(NamedTuple):
    """One stream. Offsets, sizes and lag are bytes over all its files; times are ISO 8601 UTC."""

    session_id: str
    path: str
    state: str
    offset: int
    size: int
    lag: int
    lines: int
    rejects: int
    generations: int
    committed_at: str
    error: str | None


class Status(NamedTuple):
    """The whole answer; `daemon` is what it tells of itself, None when none runs; `findings` are what its slow verify
    last found wrong; `sinks` are where the record is forwarded to, by the daemon or, where it does none, as last noted.
    """

    database: str
    daemon: Facts | None
    health: Health
    streams: list[StreamStatus]
    findings: list[dict[str, object]]
    sinks: list[Sink]

    @property
    def is_noted(self) -> bool:
        """Whether `sinks` are as last noted: the daemon, where one runs, tells of none."""
        return self.daemon is None or not self.daemon.sinks

    @property
    def lag(self) -> int:
        """Bytes appended and not committed."""
        return sum(stream.lag for stream in self.streams)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        daemon = self.daemon
        head = {
            "health": self.health.as_dict(),
            "database": self.database,
            "pid": daemon.pid if daemon else None,
            "running": daemon is not None,
            "watcher": daemon.watcher if daemon else "none",
            "reason": daemon.reason if daemon else "",
        }
        totals = {"lag": self.lag, "rejects": sum(stream.rejects for stream in self.streams)}
        return {
            **head,
            **totals,
            "findings": len(self.findings),
            "first_findings": self.findings[:SHOWN_FINDINGS],
            "sinks": [msgspec.to_builtins(sink) for sink in self.sinks],
            "streams": [stream._asdict() for stream in self.streams],
        }


class _Known(NamedTuple):
    """A stream as the database has it, with the watermark of each of its files' identities."""

    session_id: str
    state: str
    error: str | None
    lines: int
    committed_at: float | None
    rejects: int
    offsets: dict[tuple[int, int], int]


def read_status(database: str, roots: Sequence[str]) -> Status:
    """The present status, from the database and the files. Raises DatabaseMissingError or DatabaseError."""
    with closing(open_reader(database)) as connection, translated(database):
        ours = has_relation(connection, "streams")
        known = _known_streams(connection.execute(_STREAMS) if ours else ())
        noted = dict(connection.execute("SELECT key, value FROM meta")) if ours else {}
        sinks = _noted_sinks(connection) if has_relation(connection, "forward_sinks") else []
    daemon = told(database)
    if daemon is not None and daemon.sinks:
        sinks = list(daemon.sinks)
    streams = _streams(known, [*dict.fromkeys([*(daemon.roots if daemon else ()), *roots])])
    findings = json.loads(noted.get("findings") or "[]")
    return Status(database, daemon, judge(daemon, time.monotonic()), streams, findings, sinks)


def _noted_sinks(connection: apsw.Connection) -> list[Sink]:
    return [
        Sink(
            note.sink, "waiting" if note.error else "noted", 0.0, 0, note.generations, note.bytes, 0.0, note.error or ""
        )
        for note in read_notes(connection)
    ]


def _known_streams(rows: object) -> dict[tuple[str, str], _Known]:
    known: dict[tuple[str, str], _Known] = {}
    for root, path, session_id, state, error, _, number, device, inode, offset, seq, at, _, rejects in rows:  # type: ignore[attr-defined]
        former = known.get((root, path))
        offsets = former.offsets if former else {}
        count = (former.rejects if former else 0) + (rejects or 0)
        if number is not None:
            offsets[device, inode] = offset
        known[root, path] = _Known(session_id, state, error, seq or 0, at, count, offsets)
    return known


def _streams(known: dict[tuple[str, str], _Known], roots: Sequence[str]) -> list[StreamStatus]:
    sizes: dict[tuple[str, str], dict[tuple[int, int], int]] = {key: {} for key in known}
    names: dict[tuple[str, str], str] = {}
    for root in [*dict.fromkeys([*roots, *(root for root, _ in known)])]:
        for found in scan(root):
            if found.facts is not None:
                key = (root, found.location.key)
                sizes.setdefault(key, {})[found.facts.identity] = _size(found.facts, known.get(key))
                names.setdefault(key, found.location.session_id)
    return [_status(key, known.get(key), files, names.get(key, "")) for key, files in sizes.items()]


def _size(facts: FileFacts, known: _Known | None) -> int:
    """Bytes of a file's text; of a compressed one what was taken, for how much it holds doesn't show from outside."""
    taken = known.offsets.get(facts.identity, 0) if known else 0
    return taken if facts.location.packed and taken else facts.size


def _status(key: tuple[str, str], known: _Known | None, files: dict[tuple[int, int], int], name: str) -> StreamStatus:
    offsets = known.offsets if known else {}
    lag = sum(max(0, size - offsets.get(identity, 0)) for identity, size in files.items())
    return StreamStatus(
        session_id=known.session_id if known else name,
        path=os.path.join(*key),
        state=known.state if known else "new",
        offset=sum(offsets.get(identity, 0) for identity in files),
        size=sum(files.values()),
        lag=lag,
        lines=known.lines if known else 0,
        rejects=known.rejects if known else 0,
        generations=len(offsets),
        committed_at=iso_time(known.committed_at if known else None),
        error=known.error if known else None,
    )
