"""Codex CLI's rollouts: `sessions/YYYY/MM/DD/rollout-<time>-<thread>.jsonl`, and the same files under other names.

Source of the format: no vendor promises it; this is as observed in rollouts of versions 0.50 to 0.15x. A line is
`{timestamp, ordinal?, type, payload}`. The first `session_meta` owns the file: its `payload.id` is the thread. Where a
thread was forked, or is a sub-agent's, the parent's history may be copied in front of its own, with its session_meta
lines, its token counts, and time stamps of the moment of copying; see `follow`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from codex.logging.events import Event, Fields, Identity, Note, Usage, parse_time
from codex.logging.ingest.formats import payloads
from codex.logging.ingest.formats.payloads import MALFORMED, NOTHING, clip, count, string, text, value

_THREAD = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ECHO_SECONDS = 1.0
# Lines of `event_msg` that say once more what a response_item says.
_ECHOES = frozenset({"user_message", "agent_message", "agent_reasoning", "agent_reasoning_raw_content"})
_STATES = {
    "task_started": "working",
    "turn_started": "working",
    "user_message": "working",
    "task_complete": "waiting",
    "turn_complete": "waiting",
    "turn_aborted": "waiting",
}

name = "codex"


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    timestamp: str | float | None = None
    ordinal: int | None = None
    payload: msgspec.Raw = NOTHING


_LINE = msgspec.json.Decoder(_Line)
_Payload = dict[str, msgspec.Raw]


class _Header(NamedTuple):
    """A session_meta: its thread, when it was made (epoch seconds), whether it is a fork, its own first ordinal."""

    thread: str
    made: float | None
    fork: bool
    first_ordinal: int


class _Totals(NamedTuple):
    """A token_count: the thread's tokens so far, and those of its last call, each as _COUNTS says."""

    total: tuple[int, ...] | None
    last: tuple[int, ...] | None


class _Signal(NamedTuple):
    """What `follow` needs of a line."""

    ordinal: int | None = None
    header: _Header | None = None
    turn: str | None = None
    model: str | None = None
    totals: _Totals | None = None


_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)


class _Carry(msgspec.Struct):
    """What is known of a rollout up to a line. `gate` is closed (true) while lines are the parent's, copied.

    `totals` are the last token_count's; they begin anew, in another `era`, where they become smaller.
    """

    thread: str = ""
    made: float | None = None
    first_ordinal: int = 0
    gate: bool = False
    model: str | None = None
    totals: tuple[int, ...] | None = None
    era: int = 0


_CARRY = msgspec.json.Decoder(_Carry)
_ENCODE = msgspec.json.Encoder().encode


def claims(first: bytes, path: str) -> bool:
    """Whether a file whose first line this is, is one of these."""
    try:
        line = _LINE.decode(first)
    except MALFORMED:
        return False
    if line.type == "session_meta":
        return payloads.is_object(line.payload)
    return payloads.is_object(line.payload) and os.path.basename(path).startswith("rollout-")


def identify(first: bytes, key: str) -> Identity:
    """The thread that owns the file, its parent, and the one that it was forked from."""
    stem = os.path.basename(key).removesuffix(".jsonl")
    found = _THREAD.search(stem)
    thread = found[0] if found else stem
    try:
        payload = _payload(_LINE.decode(first).payload)
        origin = string(payload.get("forked_from_id", NOTHING)) or _base(payload)
        return Identity(string(payload.get("id", NOTHING)) or thread, _parent(payload), origin)
    except MALFORMED:
        return Identity(thread)


def decode(raw: bytes) -> Sequence[Fields]:
    """The one event of a line. Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for no object."""
    try:
        line = _LINE.decode(raw)
    except msgspec.ValidationError:  # a known key of another shape: keep all of it
        line = None
    if line is None or not payloads.is_object(line.payload):
        record = payloads.fields_of(raw)
        ts = parse_time(value(record.pop("timestamp", NOTHING)))
        said = clip(text(record.pop("message", NOTHING) or record.pop("content", NOTHING)), "message")
        return (Fields(ts, string(record.get("role", NOTHING)) or "system", "other", said, payloads.whole(record)),)
    made = _MAKERS.get(line.type, _unknown)(line, _payload(line.payload) if line.type != "compacted" else {})
    if line.ordinal is not None:
        note = made.note or Note()
        signal = note.signal if isinstance(note.signal, _Signal) else _Signal()
        made = made._replace(note=note._replace(signal=signal._replace(ordinal=line.ordinal)))
    return (made,)


# -- lines


def _session_meta(line: _Line, payload: _Payload) -> Fields:
    git = _payload(payload.get("git", NOTHING))
    origin, version = string(payload.get("originator", NOTHING)), string(payload.get("cli_version", NOTHING))
    cwd = string(payload.get("cwd", NOTHING))
    fork = bool(string(payload.get("forked_from_id", NOTHING)))
    base = _payload(payload.get("history_base", NOTHING))
    ordinals = [payload.get("subagent_history_start_ordinal", NOTHING), base.get("end_ordinal_exclusive", NOTHING)]
    made = parse_time(value(payload.get("timestamp", NOTHING)))
    thread = string(payload.get("id", NOTHING)) or ""
    header = _Header(thread, made, fork, max(count(value(raw)) for raw in ordinals))
    note = Note(
        cwd,
        string(git.get("branch", NOTHING)),
        string(git.get("commit_hash", NOTHING)),
        state="waiting",
        signal=_Signal(header=header),
    )
    said = " ".join(filter(None, (origin, version, cwd and f"in {cwd}")))
    for bulky in ("base_instructions", "instructions", "dynamic_tools"):
        payload.pop(bulky, None)
    return _fields(line, "system", "session_start", said, payloads.whole(payload))._replace(note=note)


def _turn_context(line: _Line, payload: _Payload) -> Fields:
    model = string(payload.get("model", NOTHING))
    turn = string(payload.get("turn_id", NOTHING)) or ""
    kept: _Payload = {key: payload[key] for key in ("approval_policy", "effort", "summary") if key in payload}
    note = Note(string(payload.get("cwd", NOTHING)), signal=_Signal(turn=turn, model=model))
    meta = _meta(line, payload, kept)
    return _fields(line, "system", "other", "", meta)._replace(model=model, parent=turn or None, note=note)


def _response_item(line: _Line, payload: _Payload) -> Fields:
    kind = string(payload.get("type", NOTHING)) or ("message" if "content" in payload else "")
    if kind.endswith(("_call_output", "_output", "tool_result")):
        said = clip(
            text(payload.get("output") or payload.get("result") or payload.get("tools") or NOTHING), "tool output"
        )
        made = _fields(line, "tool", "tool_result", said, _meta(line, payload))
    elif kind.endswith("_call"):
        return _called(line, payload, kind)
    elif kind == "message":
        role = string(payload.get("role", NOTHING)) or "system"
        made = _fields(line, role, "message", clip(text(payload.get("content", NOTHING)), "message"), None)
        phase = string(payload.get("phase", NOTHING))
        if role == "assistant":
            state = "waiting" if phase in {"final_answer", "output"} else "working"
            made = made._replace(note=Note(state=state))
    elif kind == "reasoning":
        said = text(payload.get("summary", NOTHING)) or text(payload.get("content", NOTHING))
        made = _fields(line, "assistant", "reasoning", clip("" if said == "[]" else said, "reasoning"), None)
    else:
        said = clip(text(payload.pop("content", NOTHING)), "message")
        made = _fields(line, "system", "other", said, _everything(line, payload))
    return made._replace(call_id=string(payload.get("call_id", NOTHING)), parent=_turn_of(payload))


def _called(line: _Line, payload: _Payload, kind: str) -> Fields:
    function = _payload(payload.get("function", NOTHING))
    tool = string(payload.get("name", NOTHING)) or string(function.get("name", NOTHING)) or kind.removesuffix("_call")
    given = next((payload[key] for key in ("arguments", "input", "action", "summary") if key in payload), NOTHING)
    made = _fields(
        line, "assistant", "tool_call", clip(f"{tool} {_arguments(given)}", "tool_call"), _meta(line, payload)
    )
    call = string(payload.get("call_id", NOTHING)) or string(payload.get("id", NOTHING))
    return made._replace(tool=tool, call_id=call, parent=_turn_of(payload), note=Note(state="working"))


def _event_msg(line: _Line, payload: _Payload) -> Fields:
    kind = string(payload.get("type", NOTHING)) or ""
    if kind == "token_count":
        info = _payload(payload.get("info", NOTHING))
        totals = _Totals(
            _counts(info.get("total_token_usage", NOTHING)), _counts(info.get("last_token_usage", NOTHING))
        )
        note = Note(signal=_Signal(totals=totals))
        kept = {"info": payload["info"]} if "info" in payload else {}
        return _fields(line, "system", "usage", "", _meta(line, payload, kept))._replace(note=note)
    turn = string(payload.get("turn_id", NOTHING))
    started = kind in {"task_started", "turn_started"}
    note = Note(
        title=string(payload.get("thread_name", NOTHING)) if kind == "thread_name_updated" else None,
        turn=kind == "user_message" or _is_user_item(kind, payload),
        error=_failed(kind, payload),
        state=_STATES.get(kind),
        signal=_Signal(turn=turn or "") if started else None,
    )
    call = string(payload.get("call_id", NOTHING))
    if kind in _ECHOES:
        made = _fields(line, "system", "other", "", _meta(line, payload))
    elif kind == "error":
        error = _payload(payload.get("error", NOTHING))
        said = text(payload.get("message", NOTHING)) or text(error.get("message", NOTHING))
        made = _fields(line, "system", "other", clip(said, "error"), _everything(line, payload))
    else:
        made = _fields(
            line, "system", "other", clip(text(payload.pop("message", NOTHING)), "message"), _everything(line, payload)
        )
    return made._replace(call_id=call, parent=turn, note=note)


def _compacted(line: _Line, payload: _Payload) -> Fields:
    return _fields(line, "system", "other", "[history compacted]", '{"type":"compacted"}')


def _counted(line: _Line, payload: _Payload) -> Fields:
    """A token_usage_record says what a token_count says."""
    return _fields(line, "system", "usage", "", _meta(line, payload))


def _world_state(line: _Line, payload: _Payload) -> Fields:
    return _fields(line, "system", "other", "", _meta(line, payload))


def _unknown(line: _Line, payload: _Payload) -> Fields:
    return _fields(
        line, "system", "other", clip(text(payload.pop("message", NOTHING)), "message"), _everything(line, payload)
    )


_MAKERS: dict[str, Callable[[_Line, _Payload], Fields]] = {
    "session_meta": _session_meta,
    "turn_context": _turn_context,
    "response_item": _response_item,
    "event_msg": _event_msg,
    "compacted": _compacted,
    "token_usage_record": _counted,
    "world_state": _world_state,
}


def _fields(line: _Line, role: str, kind: str, message: str, meta: str | None) -> Fields:
    return Fields(parse_time(line.timestamp), role, kind, message, meta)


def _meta(line: _Line, payload: _Payload, kept: _Payload | None = None) -> str:
    """The names of what a line is, and a few of its values; the whole is in the record."""
    about: dict[str, object] = {"type": line.type}
    if inner := string(payload.get("type", NOTHING)):
        about["payload"] = inner
    return _ENCODE(about | (kept or {})).decode()


def _everything(line: _Line, payload: _Payload) -> str | None:
    inner = payload.pop("type", NOTHING)
    about: dict[str, object] = {"type": line.type}
    if len(inner):
        about["payload"] = inner
    return payloads.whole(about | payload)


def _arguments(raw: msgspec.Raw) -> str:
    """A call's arguments, which are JSON, or a text that holds JSON."""
    found = string(raw)
    return found if found is not None else bytes(raw).decode(errors="replace")


def _failed(kind: str, payload: _Payload) -> bool:
    if kind in {"error", "stream_error"}:
        return True
    if kind == "exec_command_end":
        return value(payload.get("exit_code", NOTHING)) not in (0, None)
    if kind == "patch_apply_end":
        return value(payload.get("success", NOTHING)) is False
    return kind == "mcp_tool_call_end" and "Err" in _payload(payload.get("result", NOTHING))


def _is_user_item(kind: str, payload: _Payload) -> bool:
    item = _payload(payload.get("item", NOTHING)) if kind == "item_completed" else {}
    return string(item.get("type", NOTHING)) == "UserMessage"


def _turn_of(payload: _Payload) -> str | None:
    for key in ("metadata", "internal_chat_message_metadata_passthrough"):
        if turn := string(_payload(payload.get(key, NOTHING)).get("turn_id", NOTHING)):
            return turn
    return None


def _parent(payload: _Payload) -> str | None:
    spawned: _Payload = payload
    for key in ("source", "subagent", "thread_spawn"):
        spawned = _payload(spawned.get(key, NOTHING))
    return string(payload.get("parent_thread_id", NOTHING)) or string(spawned.get("parent_thread_id", NOTHING))


def _base(payload: _Payload) -> str | None:
    return string(_payload(payload.get("history_base", NOTHING)).get("thread_id", NOTHING))


def _payload(raw: msgspec.Raw) -> _Payload:
    return payloads.fields_of(raw) if payloads.is_object(raw) else {}


def _counts(raw: msgspec.Raw) -> tuple[int, ...] | None:
    counts = _payload(raw)
    return tuple(count(value(counts.get(key, NOTHING))) for key in _COUNTS) if counts else None


# -- what one line means after the others


def follow(carry: str, events: list[Event]) -> tuple[str, list[Event]]:
    """Mark what was copied from a parent, and count each call's tokens once.

    Where the header names the first ordinal of its own, lines below it were copied. Else a session_meta of another
    thread, or a header that says fork, closes the gate: what follows was copied, until the thread's own session_meta
    comes again, or a turn begins that was made after the thread was (a turn's id is a UUIDv7, so it tells its time; one
    that isn't is judged by the line's time). Token counts are the thread's totals: a call's tokens are the growth; a
    repeated total is a repetition, a smaller one begins anew.
    """
    known = _CARRY.decode(carry) if carry else _Carry()
    followed = [event._replace(fields=_follow(known, event)) for event in events]
    return _ENCODE(known).decode(), followed


def _follow(known: _Carry, event: Event) -> Fields:
    fields, note = event.fields, event.fields.note
    signal = note.signal if note is not None and isinstance(note.signal, _Signal) else _Signal()
    first = signal.header is not None and not known.thread
    if signal.header is not None:
        _open_or_close(known, signal.header)
    elif known.gate and signal.turn is not None and _is_own_turn(known, signal.turn, fields.ts):
        known.gate = False
    if known.first_ordinal and signal.ordinal is not None:
        known.gate = signal.ordinal < known.first_ordinal
    inherited = known.gate and not first
    known.model = signal.model or known.model
    usage = _spent(known, signal.totals, inherited) if signal.totals is not None else None
    if signal.header is not None and not first:
        fields = fields._replace(kind="other")
    if fields.role == "assistant" and fields.model is None:
        fields = fields._replace(model=known.model)
    if inherited:
        note = Note(usage=usage) if usage is not None else None
    elif note is not None:
        note = note._replace(signal=None, usage=usage)
    return fields._replace(inherited=inherited or None, note=note)


def _open_or_close(known: _Carry, header: _Header) -> None:
    if not known.thread:
        known.thread, known.made, known.first_ordinal = header.thread, header.made, header.first_ordinal
        known.gate = header.fork and not header.first_ordinal
    else:
        known.gate = header.thread != known.thread


def _is_own_turn(known: _Carry, turn: str, ts: float | None) -> bool:
    made = _uuid_seconds(known.thread) or known.made
    if made is None:
        return True
    begun = _uuid_seconds(turn)
    if begun is not None:
        return begun >= made
    return ts is None or known.made is None or ts > known.made + _ECHO_SECONDS


def _uuid_seconds(text: str) -> float | None:
    """When a UUIDv7 was made, in epoch seconds; None for any other text."""
    if _THREAD.fullmatch(text) is None or text[14] != "7":
        return None
    return int(text[:8] + text[9:13], 16) / 1000


def _spent(known: _Carry, totals: _Totals, inherited: bool) -> Usage | None:
    total, last, former = totals.total, totals.last, known.totals
    if total is None:
        return None
    if former is None:
        grown = last if last is not None and all(a <= b for a, b in zip(last, total, strict=True)) else total
    elif total == former:
        repeated = sum(last[:1] + last[3:4]) if last is not None else 0
        return _usage(known, total, (0,) * len(total), inherited)._replace(repeated=repeated)
    elif any(a < b for a, b in zip(total, former, strict=True)):
        known.era += 1
        grown = last if last is not None else total
    else:
        grown = tuple(a - b for a, b in zip(total, former, strict=True))
    known.totals = total
    return _usage(known, total, grown, inherited)


def _usage(known: _Carry, total: tuple[int, ...], grown: tuple[int, ...], inherited: bool) -> Usage:
    whole, cached, written, output, reasoning = grown
    digest = blake2b(f"{known.thread}\0{known.era}\0{total}".encode(errors="replace"), digest_size=8).digest()
    key = int.from_bytes(digest, "little", signed=True)
    read = min(cached, whole)
    written = min(written, whole - read)
    return Usage(key, known.model, whole - read - written, read, written, output, reasoning, inherited=inherited)
