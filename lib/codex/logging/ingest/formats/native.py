"""The format that our own writer makes: any JSON object a line, `ts`, `role` and `message` where it has them.

Source of the format: the README of this library, "Files and records".
"""

from __future__ import annotations

import os

import msgspec

from codex.logging.events import Event, Fields, Identity, Note, parse_time

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_ENCODE = msgspec.json.Encoder().encode
_EDGES = frozenset({"session_start", "session_end"})
_KINDS = _EDGES | {"message", "action"}
_NOTHING = msgspec.Raw(b"null")

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NOTES = {
    ("user", "message"): Note(turn=True, state="working"),
    ("assistant", "message"): Note(state="waiting"),
}

name = "native"


def claims(first: bytes, path: str) -> bool:
    """Whether a file whose first line this is, is one of these: by its name, else by the time in it."""
    if path.endswith(".ndjson"):
        return True
    try:
        return "ts" in _OBJECT.decode(first)
    except MALFORMED:
        return False


def identify(first: bytes, key: str) -> Identity:
    """The session is the file's name."""
    return Identity(os.path.splitext(os.path.basename(key))[0])


def follow(carry: str, events: list[Event]) -> tuple[str, list[Event]]:
    """Each line speaks for itself."""
    return carry, events


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
    note = _ends(normal, record) if normal in _EDGES else _NOTES.get((role, normal))
    return (Fields(_time(ts) if ts is not None else None, role or "system", normal, message or kind, meta, note=note),)


def _ends(kind: str, record: dict[str, msgspec.Raw]) -> Note:
    """What a session's start or end tells of it."""
    if kind == "session_end":
        return Note(state="ended", error="error" in record)
    return Note(_text(record.get("cwd", _NOTHING)) or None, state="working")


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
