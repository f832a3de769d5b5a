"""Claude Code's transcripts: `projects/<slug>/<session>.jsonl`, and `<session>/subagents/agent-*.jsonl` beside them.

Source of the format: no vendor documents it; this is as observed in transcripts of versions 2.0 to 2.1. A line is
`{type, uuid, parentUuid, sessionId, timestamp, cwd, gitBranch, message, …}`. One message of the model is spread over
several lines, each of which repeats its `usage`: the call is (message.id, requestId), and the line with the most output
tokens tells what it cost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import msgspec

from codex.logging.events import Event, Fields, Identity, Note, Usage, parse_time
from codex.logging.ingest.formats import payloads
from codex.logging.ingest.formats.payloads import MALFORMED, NOTHING, clip, count, text

MOST_PARTS = 200
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLAIN = re.compile(r"[0-9A-Za-z_-]{1,100}")
# Lines without a session's id that begin real files.
_OPENERS = frozenset({"file-history-snapshot", "summary", "queue-operation", "last-prompt", "mode", "permission-mode"})
# What a person doesn't read and the record keeps: their meta is the type alone.
_BULKY = frozenset({"progress", "file-history-snapshot", "attachment"})
_TITLES = {"summary": "summary", "ai-title": "aiTitle", "custom-title": "customTitle", "last-prompt": ""}
_MARKS = ("isMeta", "isSidechain", "isCompactSummary", "isApiErrorMessage")
_LOCAL = ("<local-command-", "<command-name>")

name = "claude"


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Source(msgspec.Struct, gc=False):
    media_type: str | None = None
    data: msgspec.Raw = NOTHING


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    id: str | None = None
    input: msgspec.Raw = NOTHING
    tool_use_id: str | None = None
    content: msgspec.Raw = NOTHING
    is_error: bool | None = None
    source: _Source | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    role: str | None = None
    model: str | None = None
    content: str | list[_Block] | None = None
    usage: _Usage | None = None
    stop_reason: str | None = None


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    subtype: str | None = None
    uuid: str | None = None
    parentUuid: str | None = None  # noqa: N815
    sessionId: str | None = None  # noqa: N815
    agentId: str | None = None  # noqa: N815
    timestamp: str | float | None = None
    cwd: str | None = None
    gitBranch: str | None = None  # noqa: N815
    isSidechain: bool | None = None  # noqa: N815
    isMeta: bool | None = None  # noqa: N815
    isCompactSummary: bool | None = None  # noqa: N815
    isApiErrorMessage: bool | None = None  # noqa: N815
    requestId: str | None = None  # noqa: N815
    message: _Message | None = None


_LINE = msgspec.json.Decoder(_Line)


def claims(first: bytes, path: str) -> bool:
    """Whether a file whose first line this is, is one of these."""
    try:
        line = _LINE.decode(first)
    except MALFORMED:
        return False
    if line.sessionId is not None:
        return bool(line.uuid or line.type)
    return line.type in _OPENERS or (bool(line.type) and f"{os.sep}projects{os.sep}" in path)


def identify(first: bytes, key: str) -> Identity:
    """The session is the file; a sub-agent's is `<session>/<agent>`, and its parent is that session."""
    try:
        line = _LINE.decode(first)
    except MALFORMED:
        line = _Line()
    folder, stem = os.path.split(key.removesuffix(".jsonl"))
    if stem.startswith("agent-"):
        parts = folder.split(os.sep)
        above = parts[-2] if parts[-1] == "subagents" and len(parts) > 1 else None
        parent = line.sessionId or above
        agent = line.agentId or stem.removeprefix("agent-")
        return Identity(f"{parent}/{agent}" if parent else stem, parent)
    return Identity(stem if _UUID.fullmatch(stem) else line.sessionId or stem)


def follow(carry: str, events: list[Event]) -> tuple[str, list[Event]]:
    """Each line speaks for itself."""
    return carry, events


def decode(raw: bytes) -> Sequence[Fields]:
    """The events of one object: a message gives one for each of its blocks.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for what is no object.
    """
    try:
        line = _LINE.decode(raw)
    except msgspec.ValidationError:  # a known key of another shape: keep all of it
        return (_other(raw),)
    message = line.message
    if message is None or line.type not in {"user", "assistant"}:
        return (_system(line, raw),)
    return _assistant(line, message) if line.type == "assistant" else _user(line, message)


def _assistant(line: _Line, message: _Message) -> list[Fields]:
    content = message.content
    blocks = [_Block(type="text", text=content)] if isinstance(content, str) else content or [_Block(type="text")]
    ended = message.stop_reason in {"end_turn", "stop_sequence"} and not line.isSidechain
    place = _place(line.cwd, line.gitBranch, False, bool(line.isApiErrorMessage), "waiting" if ended else "working")
    if message.usage is not None:
        used = _usage(line, message, message.usage)
        place = Note(place.cwd, place.branch, error=place.error, state=place.state, usage=used)
    ts, meta, model, parent = parse_time(line.timestamp), _meta(line), message.model, line.parentUuid
    made: list[Fields] = []
    for block in blocks[:MOST_PARTS]:
        kind, said, tool, call = _said(block)
        text = clip(said, kind)
        made.append(Fields(ts, "assistant", kind, text, meta, tool, model, call, parent, None, None if made else place))
    return made + _rest(line, blocks)


def _said(block: _Block) -> tuple[str, str, str | None, str | None]:
    """Kind, text, tool and call of what an assistant says."""
    if block.type == "tool_use":
        return "tool_call", f"{block.name} {bytes(block.input).decode(errors='replace')}", block.name, block.id
    if block.type == "thinking":
        return "reasoning", block.thinking or "", None, None
    if block.text is not None or block.type == "text":
        return "message", block.text or "", None, None
    return "other", f"[{block.type}]", None, None


def _user(line: _Line, message: _Message) -> list[Fields]:
    content = message.content
    spoken = not (line.isMeta or line.isCompactSummary or line.isSidechain)
    if not isinstance(content, list) or not content:
        said = content if isinstance(content, str) else ""
        turn = spoken and not said.startswith(_LOCAL)
        place = _place(line.cwd, line.gitBranch, turn, False, "working" if turn else None)
        return [_fields(line, "user", "message", clip(said, "message"), place)]
    heard = [_heard(block) for block in content[:MOST_PARTS]]
    turn = spoken and heard[0][0] == "user" and any(block.type == "text" for block in content)
    place = _place(line.cwd, line.gitBranch, turn, any(block.is_error for block in content), "working")
    ts, meta, parent = parse_time(line.timestamp), _meta(line), line.parentUuid
    failed = [bool(block.is_error) for block in content[:MOST_PARTS]]
    made = [
        Fields(ts, role, kind, said, _failed(meta) if bad else meta, None, None, call, parent, None, None)
        for (role, kind, said, call), bad in zip(heard, failed, strict=True)
    ]
    made[0] = made[0]._replace(note=place)
    return made + _rest(line, content)


def _heard(block: _Block) -> tuple[str, str, str, str | None]:
    """Role, kind, text and call of what an assistant is told."""
    if block.type == "tool_result":
        return "tool", "tool_result", clip(text(block.content) or block.text or "", "tool output"), block.tool_use_id
    if block.source is not None:
        said = payloads.image(block.source.media_type, max(0, len(block.source.data) - 2))
        return "user", "message", said, None
    return "user", "message", clip(block.text or "", "message"), None


def _rest(line: _Line, blocks: list[_Block]) -> list[Fields]:
    """One event for all the blocks that a line has too many of."""
    more = len(blocks) - MOST_PARTS
    return [_fields(line, "system", "other", f"[{more} more blocks, kept in the record]")] if more > 0 else []


def _system(line: _Line, raw: bytes) -> Fields:
    """Whatever is no message: titles, compactions, errors, notices, and what later versions may add."""
    record = payloads.fields_of(raw)
    record.pop("timestamp", None)
    said = text(record.pop(_TITLES.get(line.type) or "content", NOTHING))
    title = said if line.type in _TITLES and line.type != "last-prompt" and said else None
    failed = line.subtype in {"api_error", "error"}
    kind = line.subtype if line.subtype in {"session_start", "session_end"} else "other"
    state = {"session_end": "ended", "turn_duration": "waiting"}.get(line.subtype or "")
    note = _place(line.cwd, line.gitBranch, False, failed, state)
    meta = payloads.whole(_about(line) if line.type in _BULKY else record)
    if title:
        note = note._replace(title=title)
    ts, parent = parse_time(line.timestamp), line.parentUuid
    return Fields(ts, "system", kind, clip(said, "message"), meta, None, None, None, parent, None, note)


def _other(raw: bytes) -> Fields:
    record = payloads.fields_of(raw)
    ts = parse_time(payloads.value(record.pop("timestamp", NOTHING)))
    return Fields(ts, "system", "other", "", payloads.whole(record))


def _about(line: _Line) -> dict[str, str]:
    known = {"type": line.type, "subtype": line.subtype, "uuid": line.uuid}
    return {key: value for key, value in known.items() if value}


def _fields(line: _Line, role: str, kind: str, message: str, note: Note | None = None) -> Fields:
    ts, meta, parent = parse_time(line.timestamp), _meta(line), line.parentUuid
    return Fields(ts, role, kind, message, meta, None, None, None, parent, None, note)


def _meta(line: _Line) -> str | None:
    """The line's own id, which its answers name as their parent, and what marks it as nobody's own word."""
    known = f'"uuid":"{line.uuid}"' if line.uuid is not None and _PLAIN.fullmatch(line.uuid) else ""
    if line.isMeta or line.isSidechain or line.isCompactSummary or line.isApiErrorMessage:
        marks = [f'"{mark}":true' for mark in _MARKS if getattr(line, mark)]
        return f"{{{','.join([known, *marks] if known else marks)}}}"
    return f"{{{known}}}" if known else None


def _failed(meta: str | None) -> str:
    """The meta of a tool's result that tells of an error."""
    return f'{(meta or "{}")[:-1]}{"," if meta else ""}"is_error":true}}'


@lru_cache(1024)
def _place(cwd: str | None, branch: str | None, turn: bool, error: bool, state: str | None) -> Note:
    return Note(cwd, branch, turn=turn, error=error, state=state)


def _usage(line: _Line, message: _Message, usage: _Usage) -> Usage:
    call = message.id or line.uuid or ""
    digest = blake2b(f"{call}\0{line.requestId or ''}".encode(errors="replace"), digest_size=8).digest()
    return Usage(
        key=int.from_bytes(digest, "little", signed=True),
        model=message.model,
        input=count(usage.input_tokens),
        cache_read=count(usage.cache_read_input_tokens),
        cache_write=count(usage.cache_creation_input_tokens),
        output=count(usage.output_tokens),
    )
