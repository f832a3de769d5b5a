"""The records that pass between the rooms. Offsets and lengths are bytes, times epoch seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

MAX_PARTS = 256


class Usage(NamedTuple):
    """Tokens of one model call. `key` names the call wherever its lines are copied to: signed 64 bits.

    `input` is without what was read from or written to a cache, `reasoning` is part of `output`; `repeated` are tokens
    that the same line tells once more. `inherited` tokens were spent by another session, whose history this one copied.
    """

    key: int
    model: str | None = None
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    repeated: int = 0
    inherited: bool = False


class Note(NamedTuple):
    """What a line tells of its session. `state` is what the session does from here on: working, waiting or ended.

    `signal` is for the format's own `follow`.
    """

    cwd: str | None = None
    branch: str | None = None
    commit: str | None = None
    title: str | None = None
    turn: bool = False
    error: bool = False
    state: str | None = None
    usage: Usage | None = None
    signal: object = None


class Fields(NamedTuple):
    """What a format makes of one object, or of one part of it. `meta` is JSON text of what has no field of its own.

    Message and meta of more than a MiB may be given as UTF-8: a str of it can take four times the memory.
    `call_id` joins a tool's call and its result, `parent` names the message or the turn that this one belongs to.
    """

    ts: float | None
    role: str
    kind: str
    message: str | bytes
    meta: str | bytes | None
    tool: str | None = None
    model: str | None = None
    call_id: str | None = None
    parent: str | None = None
    inherited: bool | None = None
    note: Note | None = None


class Event(NamedTuple):
    """One decoded object of one physical line, `seq`; `part` counts the objects glued on it from 0.

    `offset` and `length` cover the object alone, without the white space and line end around it.
    """

    seq: int
    part: int
    offset: int
    length: int
    fields: Fields


class Reject(NamedTuple):
    """Bytes of a physical line that are no event: kept, counted, never in the way."""

    seq: int
    offset: int
    length: int
    reason: str
    detail: str


class Cursor(NamedTuple):
    """How far a generation has been taken, to the byte, and in which state the byte after it will be read.

    `seq` is the stream's highest line number so far. `line_seq` is the line that has begun but not ended (0 for
    none), with `parts` objects taken from it. From `skip_from` on (-1 for nowhere) bytes are being passed over
    for `skip_reason`: a line over the limit, or a run of NULs.
    """

    offset: int = 0
    seq: int = 0
    lines: int = 0
    line_seq: int = 0
    parts: int = 0
    skip_from: int = -1
    skip_reason: str = ""


class Generation(NamedTuple):
    """One physical life of a stream's file. Hashes are blake2b, times epoch seconds, `modified` nanoseconds."""

    id: int
    stream: int
    device: int
    inode: int
    head_length: int
    head: bytes
    marker: bytes
    cursor: Cursor
    base_seq: int
    chain: bytes
    block: bytes
    modified: int
    began: float
    ended: float | None = None
    how: str | None = None
    superseded_by: int | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode

    @property
    def is_live(self) -> bool:
        """Whether its file is the stream's live one, as far as the ledger knows."""
        return self.how in {None, "moved"} and self.ended is None

    @property
    def is_here(self) -> bool:
        """Whether its file is one of the stream's, as far as the ledger knows."""
        return self.is_live or self.how == "rotated"


class Identity(NamedTuple):
    """Whose session a log is: its id, the session that started it, and the one whose history it was forked from."""

    session_id: str
    parent: str | None = None
    forked_from: str | None = None


class Ending(NamedTuple):
    """How a generation ends, perhaps because another begins; one that it supersedes leaves the default view."""

    generation: int
    how: str
    superseded: bool


class Stream(NamedTuple):
    """One logical append-only log with its generations, oldest first. `key` is its path under `root`."""

    id: int
    root: str
    key: str
    session_id: str
    format: str
    generations: tuple[Generation, ...] = ()
    error: str | None = None
    parent: str | None = None
    forked_from: str | None = None
    state: str = "live"

    @property
    def current(self) -> Generation | None:
        """The generation that began last."""
        return self.generations[-1] if self.generations else None

    @property
    def seq(self) -> int:
        """The highest line number given so far."""
        return self.generations[-1].cursor.seq if self.generations else 0

    @property
    def standing(self) -> list[Generation]:
        """The generations that no rewrite superseded and nobody purged, oldest first."""
        return [g for g in self.generations if g.superseded_by is None and g.how != "purged"]

    def at(self, identity: tuple[int, int]) -> Generation | None:
        """The generation that the file with this device and inode is, as far as the ledger knows."""
        return next((g for g in reversed(self.standing) if g.identity == identity and g.is_here), None)

    def having(self, changed: Generation) -> Stream:
        """The stream with one of its generations in another state."""
        return self._replace(generations=tuple(changed if g.id == changed.id else g for g in self.generations))

    def ended(self, ending: Ending, now: float, successor: int | None = None) -> Stream:
        """The stream once one of its generations has ended, with the generation that began instead."""
        former = next(g for g in self.generations if g.id == ending.generation)
        superseded_by = successor if ending.superseded else None
        return self.having(former._replace(ended=now, how=ending.how, superseded_by=superseded_by))

    def advanced(self, after: Generation) -> Stream:
        """The stream once a generation has new lines, or begins; lines of an older one move the current numbers on."""
        known = self.generations
        if known and known[-1].id == after.id:
            return self._replace(generations=(*known[:-1], after))
        if all(g.id != after.id for g in known):
            return self._replace(generations=(*known, after), state="live")
        current = known[-1]._replace(cursor=known[-1].cursor._replace(seq=after.cursor.seq))
        return self.having(after).having(current)


class Summary(NamedTuple):
    """What a generation's events tell of the session, up to the watermark `offset`. Times are epoch seconds.

    `carry` is the format's own memory, as JSON text.
    """

    offset: int = 0
    cwd: str | None = None
    branch: str | None = None
    commit: str | None = None
    title: str | None = None
    models: tuple[str, ...] = ()
    started: float | None = None
    last_event: float | None = None
    ended: float | None = None
    events: int = 0
    turns: int = 0
    tool_calls: int = 0
    errors: int = 0
    state: str | None = None
    carry: str = ""


class Batch(NamedTuple):
    """The bytes between two cursors, in pieces of at most a MiB, and what was decoded of them.

    `summary` is the generation's after this batch, once it was folded.
    """

    pieces: list[bytes | memoryview]
    before: Cursor
    after: Cursor
    events: list[Event]
    rejects: list[Reject]
    summary: Summary = Summary()

    @property
    def data(self) -> bytes:
        """The bytes in one."""
        return b"".join(self.pieces)


def parse_time(value: object) -> float | None:
    """Epoch seconds of an ISO 8601 text (UTC where it has no offset) or of a number; None if neither.

    Numbers past the year 5138 (1e11 s) are taken as milliseconds, which is what JavaScript agents write.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    seconds = float(value) / 1000 if abs(value) > 1e11 else float(value)
    return seconds if abs(seconds) < 1e12 else None


def instant(value: object) -> float | None:
    """Epoch seconds of a time as people and the forerunners write it: ISO 8601, or epoch seconds, also as a text."""
    if not isinstance(value, str):
        return parse_time(value)
    text = value.strip()
    if not (text.isdecimal() and len(text) == 8):  # eight digits are a day, not a moment in 1970
        try:
            return parse_time(float(text))
        except ValueError:
            pass
    return parse_time(text)


def iso_time(seconds: float | None) -> str:
    """`2026-01-02T03:04:05.678Z`, or `-` for no time."""
    if seconds is None:
        return "-"
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds}s"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
