"""Readable text out of what agents put into their lines, and short stand-ins for what is too big to read."""

from __future__ import annotations

from typing import Any

import msgspec

LONGEST = 64 << 10
_SHOWN = 1000

# What decoding raises of bytes that are no such JSON: not UTF-8 and nested too deep are errors of their own.
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_ANY = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE = msgspec.json.Encoder().encode
NOTHING = msgspec.Raw(b"")


def clip(text: str, what: str) -> str:
    """The text; one over 64 KiB of UTF-8 gives its beginning and a stand-in, its whole is in the record."""
    if len(text) <= LONGEST >> 2:
        return text
    size = len(text.encode(errors="surrogatepass"))
    return text if size <= LONGEST else f"{text[:_SHOWN]}\n[{what}: {size} bytes in all, kept in the record]"


def image(media_type: str | None, size: int) -> str:
    """The stand-in of an image of so many bytes of base64."""
    return f"[{media_type or 'image'}: {size} bytes of base64]"


def is_object(raw: msgspec.Raw) -> bool:
    """Whether a JSON text is an object."""
    return len(raw) > 0 and memoryview(raw)[0] == ord("{")


def value(raw: msgspec.Raw) -> Any:
    """What a JSON text says; None where there is none, or it is a number that Python can't hold."""
    try:
        return _ANY.decode(raw) if len(raw) else None
    except msgspec.MsgspecError:
        return None


def count(found: object) -> int:
    """A count of tokens or lines; 0 for what is none, or more than any agent has come to: sums must stay 64 bits."""
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 40 else 0


def string(raw: msgspec.Raw) -> str | None:
    """A JSON string's value; None for anything else."""
    found = value(raw) if len(raw) and memoryview(raw)[0] == ord('"') else None
    return found if isinstance(found, str) else None


def text(raw: msgspec.Raw) -> str:
    """A JSON text as a person reads it: a string's own value, the text of text blocks, else the JSON itself."""
    found = value(raw)
    if isinstance(found, str):
        return found
    if isinstance(found, list) and found and all(isinstance(block, dict | str) for block in found):
        return "\n".join(filter(None, map(_block, found)))
    if isinstance(found, dict) and isinstance(found.get("text"), str):
        return str(found["text"])
    return bytes(raw).decode(errors="replace") if found else ""


def _block(block: dict[str, Any] | str) -> str:
    if isinstance(block, str):
        return block
    for key in ("text", "thinking", "refusal"):
        if isinstance(block.get(key), str):
            return str(block[key])
    kind = block.get("type")
    address = block.get("image_url")
    if isinstance(address, str):
        return image(address[5 : address.find(";")] if address.startswith("data:") else None, len(address))
    source = block.get("source")
    if isinstance(source, dict) and isinstance(source.get("data"), str):
        return image(str(source.get("media_type") or "image"), len(source["data"]))
    if kind in ("input_image", "image", "encrypted_content"):  # by comparison: a list can't be hashed
        return f"[{kind}]"
    return _ENCODE(block).decode()


def fields_of(line: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """An object's keys with their exact texts. Raises msgspec.MsgspecError for what is no object."""
    return _OBJECT.decode(line)


def whole(record: dict[str, Any]) -> str | None:
    """Keys without a column as JSON text; a value that is too big gives way to its size."""
    if not record:
        return None
    encoded = _ENCODE(record)
    if len(encoded) > LONGEST:
        encoded = _ENCODE({key: _small(part) for key, part in record.items()})
    return encoded.decode()


def _small(part: Any) -> Any:
    size = len(part) if isinstance(part, msgspec.Raw) else len(_ENCODE(part))
    return part if size <= _SHOWN else f"[{size} bytes, kept in the record]"
