"""A record as one line of JSON, whatever an agent put into it."""

from __future__ import annotations

import json


def encode(record: dict[str, object]) -> bytes:
    """One line, with its line feed. What JSON can't say (NaN, a set, a lone surrogate) is said nearest to it."""
    if not isinstance(record, dict):
        raise TypeError(f"a record is a dict, not {type(record).__name__}")
    try:
        return _ENCODER.encode(record).encode() + b"\n"
    except (ValueError, TypeError, RuntimeError):  # a RuntimeError is too deep, or changed by a thread meanwhile
        return json.dumps(_plain(record, ()), separators=(",", ":")).encode() + b"\n"


def text_of(value: object) -> str:
    """`str(value)`; its type's name when that raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _nearest(value: object) -> object:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="backslashreplace")
    return text_of(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_nearest)


def _plain(value: object, above: tuple[int, ...]) -> object:
    """The nearest thing that JSON can say; a cycle, or what lies deeper than 64 levels, by its type's name."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 2048 else hex(value)  # str() refuses many digits, from 640 on
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return _nearest(value)
    if id(value) in above or len(above) == 64:
        return f"<{type(value).__name__}>"
    above = (*above, id(value))
    if isinstance(value, dict):
        return {_plain_key(key, above): _plain(item, above) for key, item in list(value.items())}
    return [_plain(item, above) for item in list(value)]


def _plain_key(key: object, above: tuple[int, ...]) -> str:
    plain = _plain(key, above)
    return plain if isinstance(plain, str) else json.dumps(plain)
