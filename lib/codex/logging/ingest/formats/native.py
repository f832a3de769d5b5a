"""The format that our own writer makes: any JSON object a line, `ts`, `role` and `message` where it has them.

Source of the format: the README of this library, "Files and records".
"""

from __future__ import annotations

import msgspec

from codex.logging.events import Fields, parse_time

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_ENCODE = msgspec.json.Encoder().encode
_KINDS = frozenset({"message", "action", "session_start", "session_end"})
_NOTHING = msgspec.Raw(b"null")

name = "native"


def decode(line: bytes) -> tuple[Fields]:
    """The one event of one object. Keys without a column go to `meta` with their exact text.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for what is no such object.
    """
    record = _OBJECT.decode(line)
    pop = record.pop
    ts = pop("ts", None)
    role = _text(pop("role", _NOTHING))
    message = _text(pop("message", _NOTHING))
    pop("session_id", None)
    kind = _text(record.get("type", _NOTHING))
    normal = kind if kind in _KINDS else "message" if message and not kind else "other"
    meta = _ENCODE(record).decode() if record else None
    return (Fields(_time(ts) if ts is not None else None, role or "system", normal, message or kind, meta),)


def _text(raw: msgspec.Raw) -> str:
    """A string's value; another value's JSON text; nothing for what counts as empty."""
    try:
        value = _ANY.decode(raw)
    except msgspec.MsgspecError:  # a number beyond any float: its digits
        return bytes(raw).decode()
    if isinstance(value, str):
        return value
    return bytes(raw).decode() if value else ""


def _time(raw: msgspec.Raw) -> float | None:
    try:
        return parse_time(_ANY.decode(raw))
    except msgspec.MsgspecError:  # a number beyond any float
        return None
