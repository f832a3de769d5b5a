"""What a sink is, and what goes to it. Offsets and lengths are bytes, times epoch seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from codex_ingestd.forward.pace import Batches

Row = tuple[Any, ...]


class Watermark(NamedTuple):
    """How far a sink has a generation. `event` and `reject` are the ids that the last rows have in the local database.

    `chain` is the record's at `offset`, up to which all was sent. `ledger` tells which state of the
    generation's own rows the sink has; where it begins with a tilde, more events are to come.
    """

    generation: int
    began: float
    event: int = 0
    reject: int = 0
    offset: int = 0
    chain: bytes = b""
    ledger: str = ""

    @property
    def is_amid(self) -> bool:
        """Whether the sink has some of the events, and not the rest."""
        return self.ledger.startswith("~")


class StreamRow(NamedTuple):
    """A row of `streams`."""

    local: int
    root: str
    path: str
    session_id: str
    parent_session_id: str | None
    format: str
    state: str
    error: str | None
    error_at: float | None
    forked_from: str | None


class GenerationRow(NamedTuple):
    """A row of `generations`, without what only reading its file needs."""

    local: int
    stream: int
    began: float
    offset: int
    seq: int
    lines: int
    chain: bytes
    committed_at: float
    ended: float | None
    how: str | None
    superseded_by: int | None


class SummaryRow(NamedTuple):
    """A row of `summaries`, without the format's own memory."""

    generation: int
    offset: int
    cwd: str | None
    branch: str | None
    commit: str | None
    title: str | None
    models: str
    started: float | None
    last_event: float | None
    ended: float | None
    events: int
    turns: int
    tool_calls: int
    errors: int
    state: str | None


class UsageRow(NamedTuple):
    """A row of `usage`; its event is told by line and part."""

    generation: int
    key: int
    event_seq: int
    event_part: int
    ts: float | None
    model: str | None
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    repeated: int
    inherited: int


class TombstoneRow(NamedTuple):
    """A row of `tombstones`."""

    generation: int
    session_id: str
    length: int
    lines: int
    chain: bytes
    purged_at: float


class SpanRow(NamedTuple):
    """A row of `redacted_spans`, without what proves the bytes that were there."""

    generation: int
    offset: int
    length: int
    rule: str
    redacted_at: float


class EventRow(NamedTuple):
    """A row of `events`, as it is read; `at` is ts, or when the generation began where it has none."""

    id: int
    offset: int
    part: int
    at: float
    seq: int
    length: int
    ts: float | None
    role: str
    kind: str
    message: str
    meta: str | None
    tool: str | None
    model: str | None
    call_id: str | None
    parent: str | None
    inherited: int | None


class RejectRow(NamedTuple):
    """A row of `ingest_rejects`."""

    id: int
    offset: int
    seq: int
    length: int
    reason: str
    detail: str


class Part(NamedTuple):
    """What a batch has of one generation: rows behind one watermark and up to another, and the ledger's own.

    `events` are plain tuples of EventRow's fields, `rejects` of RejectRow's. Summary, usage and tombstone are
    there only with the last rows of the generation; `spans` are what was taken out of rows that the sink has.
    """

    before: Watermark
    after: Watermark
    stream: StreamRow
    generation: GenerationRow
    events: list[Row]
    rejects: list[Row]
    summary: SummaryRow | None = None
    usage: tuple[UsageRow, ...] = ()
    tombstone: TombstoneRow | None = None
    spans: tuple[SpanRow, ...] = ()


class Batch(NamedTuple):
    """What one transaction at the sink takes; `size` is about how many bytes of text it has."""

    parts: list[Part]
    events: int
    size: int


class Sink(Protocol):
    """An engine that many hosts share. Every method raises SinkError, and may be called again after it."""

    name: str
    batches: Batches

    def open(self) -> None:
        """Connect anew, and see that it has what is needed."""

    def watermarks(self) -> Iterable[Watermark]:
        """What it has of this host."""

    def unfinished(self) -> tuple[tuple[Watermark, Watermark], ...]:
        """Between which watermarks the parts of a batch lie that may be there or not; it is to be sent once more."""

    def send(self, batch: Batch) -> None:
        """Take a batch, all or nothing, once. Raises StaleSinkError where it isn't at the batch's watermarks."""

    def tend(self) -> bool:
        """A bit of what can wait; whether there is more."""

    def close(self) -> None:
        """Let go of the connection."""
