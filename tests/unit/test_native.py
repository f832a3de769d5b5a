"""One JSON object to one event, by our own format."""

from __future__ import annotations

import json

import msgspec
import pytest

from codex.logging.events import Fields, Note
from codex.logging.ingest.formats import native


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            b'{"ts":"2026-01-02T03:04:05Z","type":"message","session_id":"s","role":"user","message":"hi","n":1}',
            Fields(1767323045.0, "user", "message", "hi", '{"type":"message","n":1}'),
        ),
        (b'{"ts":"2026-01-02T03:04:05.5+01:00"}', Fields(1767319445.5, "system", "other", "", None)),
        (b'{"ts":1767323045}', Fields(1767323045.0, "system", "other", "", None)),
        (b'{"ts":1767323045000}', Fields(1767323045.0, "system", "other", "", None)),
        (b'{"ts":"yesterday"}', Fields(None, "system", "other", "", None)),
        (b'{"ts":1e400}', Fields(None, "system", "other", "", None)),
        (b'{"ts":[1]}', Fields(None, "system", "other", "", None)),
        (b'{"type":"session_end"}', Fields(None, "system", "session_end", "session_end", '{"type":"session_end"}')),
        (b'{"type":"odd","message":"m"}', Fields(None, "system", "other", "m", '{"type":"odd"}')),
        (b'{"message":"m"}', Fields(None, "system", "message", "m", None)),
        (b'{"message":{"a": [1]},"role":7}', Fields(None, "7", "message", '{"a": [1]}', None)),
        (b'{"message":"","role":null}', Fields(None, "system", "other", "", None)),
        (b'{"message":1e400}', Fields(None, "system", "message", "1e400", None)),
        (b'{"a": 1.10,"b":9e999}', Fields(None, "system", "other", "", '{"a":1.10,"b":9e999}')),
        (b"{}", Fields(None, "system", "other", "", None)),
    ],
)
def test_what_becomes_of_an_object(line: bytes, fields: Fields) -> None:
    """`ts`, `role`, `message` have columns; the message falls back to the type, the role to `system`;
    other keys keep their exact text."""
    (made,) = native.decode(line)
    assert made._replace(note=None) == fields


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (b'{"role":"user","message":"hi"}', Note(turn=True, state="working")),
        (b'{"role":"assistant","message":"hi"}', Note(state="waiting")),
        (b'{"role":"tool","message":"hi"}', None),
        (b'{"type":"session_start","cwd":"/w"}', Note(cwd="/w", state="working")),
        (b'{"type":"session_end","error":"E"}', Note(state="ended", error=True)),
    ],
)
def test_what_a_line_tells_of_its_session(line: bytes, note: Note | None) -> None:
    """A person's message begins a turn, an answer ends the work, a start names the folder, an end ends it."""
    assert native.decode(line)[0].note == note


@pytest.mark.parametrize("line", [b"[1]", b"1", b'{"a":1}x', b'{"a":', b""])
def test_what_is_no_object_raises(line: bytes) -> None:
    """The caller makes a reject of it."""
    with pytest.raises(msgspec.MsgspecError):
        native.decode(line)


@pytest.mark.parametrize(
    "unit",
    [b"x", "é😀".encode(), rb"\u00e9", rb"\ud83d\ude00", rb"\\", rb"said \"\u00e9\n\ud83d\ude00\" \\", rb"\u0022 "],
)
def test_a_long_text_is_given_as_utf8(unit: bytes) -> None:
    """Made piece by piece it is what one decoding gives; long meta keeps its exact text."""
    text = unit * ((1 << 20) // len(unit) + 7)
    line = b'{"message":"%s","n": 1.10,"k":"%s"}' % (text, text)
    (fields,) = native.decode(line)
    assert fields.message == json.loads(line)["message"].encode()
    assert fields.meta == b'{"n":1.10,"k":"%s"}' % text


def test_what_is_long_and_no_text() -> None:
    """A list for a message is its exact text, for a time nothing; a role of any length is a role."""
    long = b"[%s1]" % (b"[1, 2], " * (1 << 18))
    (fields,) = native.decode(b'{"message":%s,"ts":%s,"role":"%s"}' % (long, long, b"r" * (1 << 21)))
    assert fields == Fields(None, "r" * (1 << 21), "message", long, None)
