"""The format that our own writer makes: any JSON object a line, `ts`, `role` and `message` where it has them.

Source of the format: the README of this library, "Files and records".
"""

from __future__ import annotations

import os
import re
from io import BytesIO

import msgspec

from codex.logging.events import Event, Fields, Identity, Note, parse_time
from codex.logging.ingest.formats.payloads import MALFORMED

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_STRING = msgspec.json.Decoder(str)
_ENCODE = msgspec.json.Encoder().encode
_EDGES = frozenset({"session_start", "session_end"})
_KINDS = _EDGES | {"message", "action"}
_NOTHING = msgspec.Raw(b"null")
_LONG = 1 << 20
# Whole characters and whole escapes of a JSON string, some at a time.
_PIECES = re.compile(
    rb"(?:[^\\]{1,4096}+[\x80-\xbf]*+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u.{4}|\\.){1,256}+",
    re.DOTALL,
)

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
    role = _word(pop("role", _NOTHING))
    message = _text(pop("message", _NOTHING))
    pop("session_id", None)
    kind = _word(record.get("type", _NOTHING))
    normal = kind if kind in _KINDS else "message" if message and not kind else "other"
    encoded = _ENCODE(record) if record else None
    meta = encoded.decode() if encoded is not None and len(encoded) <= _LONG else encoded
    note = _ends(normal, record) if normal in _EDGES else _NOTES.get((role, normal))
    time = _time(ts) if ts is not None else None
    return (Fields(time, role or "system", normal, message or kind, meta, None, None, None, None, None, note),)


def _ends(kind: str, record: dict[str, msgspec.Raw]) -> Note:
    """What a session's start or end tells of it."""
    if kind == "session_end":
        return Note(state="ended", error="error" in record)
    return Note(_word(record.get("cwd", _NOTHING)) or None, state="working")


def _word(raw: msgspec.Raw) -> str:
    """What _text gives, as a str however long it is."""
    text = _text(raw)
    return text if isinstance(text, str) else text.decode()


def _text(raw: msgspec.Raw) -> str | bytes:
    """A string's value; another value's JSON text; nothing for what counts as empty. A long one is UTF-8."""
    if len(raw) > _LONG:
        return _long_string(raw) if memoryview(raw)[0] == ord('"') else bytes(raw)
    try:
        value = _ANY.decode(raw)
    except msgspec.MsgspecError:  # a number beyond any float: its digits
        return bytes(raw).decode()
    if isinstance(value, str):
        return value
    return bytes(raw).decode() if value else ""


def _long_string(raw: msgspec.Raw) -> bytes:
    """A JSON string's value as UTF-8, made piece by piece: there is never a str of the whole."""
    text = BytesIO()
    for piece in _PIECES.finditer(memoryview(raw), 1, len(raw) - 1):
        text.write(_STRING.decode(b'"%b"' % piece[0]).encode())
    return text.getvalue()


def _time(raw: msgspec.Raw) -> float | None:
    if len(raw) > _LONG:
        return None
    try:
        return parse_time(_ANY.decode(raw))
    except msgspec.MsgspecError:  # a number beyond any float
        return None
