"""Which format a file has, whatever its first line is."""

from __future__ import annotations

import pytest

from codex.logging.ingest.formats import claude, codex, native, recognise

DEEP = b"[" * 20_000 + b"]" * 20_000
MALFORMED = [
    b'{"type":"mode","sessionId":"a\xff"}',
    b'{"type":"mode","x":' + DEEP + b"}",
    b'{"type":"session_meta","payload":{"id":"\xff"}}',
    b'{"type":"session_meta","payload":{"id":' + DEEP + b"}}",
    b"\xff",
    b"",
]


@pytest.mark.parametrize("first", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_first_line_is_recognised_or_not(first: bytes) -> None:
    """One that isn't UTF-8, or is nested too deep, raises nothing: else a single such file would stop all others."""
    recognise(iter([first]), "a.jsonl")
    for form in (native, codex, claude):
        form.claims(first, "a.jsonl")
        assert form.identify(first, "p/a.jsonl").session_id == "a"
