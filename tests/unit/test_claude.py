"""Claude Code's transcripts, line by line."""

from __future__ import annotations

import json

import pytest

from codex.logging.events import Fields, Identity
from codex.logging.ingest.formats import claude

BASE = {"uuid": "u-1", "parentUuid": "u-0", "sessionId": "s", "timestamp": "2026-01-02T03:04:05Z", "cwd": "/w"}


def line(**keys: object) -> bytes:
    return json.dumps(BASE | keys).encode()


def said(content: object, **keys: object) -> bytes:
    return line(type="assistant", message={"id": "m", "role": "assistant", "content": content, **keys})


def shown(raw: bytes) -> list[tuple[str, str, str]]:
    return [(fields.role, fields.kind, fields.message) for fields in claude.decode(raw)]


def test_a_message_gives_one_event_for_each_block() -> None:
    """Text, thinking and a call of a tool, each with its kind; the call has the tool's name and its own id."""
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "ok"},
        {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}},
    ]
    events = claude.decode(said(blocks, model="opus"))
    assert [(event.kind, event.message) for event in events] == [
        ("reasoning", "hm"),
        ("message", "ok"),
        ("tool_call", 'Bash {"command": "ls"}'),
    ]
    assert [(event.tool, event.call_id, event.model) for event in events[1:]] == [
        (None, None, "opus"),
        ("Bash", "t", "opus"),
    ]
    assert {event.parent for event in events} == {"u-0"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("done", "done"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (
            [{"type": "image", "source": {"media_type": "image/png", "data": "x" * 99}}],
            "[image/png: 99 bytes of base64]",
        ),
        (None, ""),
        ({"odd": 1}, '{"odd": 1}'),
        ([{"type": ["image"]}], '{"type":["image"]}'),
    ],
)
def test_a_tools_output_is_text(content: object, expected: str) -> None:
    """Whatever shape the output has; it is joined to its call."""
    block = {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": True}
    (event,) = claude.decode(line(type="user", message={"role": "user", "content": [block]}))
    assert (event.role, event.kind, event.message, event.call_id) == ("tool", "tool_result", expected, "t")
    assert event.note is not None
    assert (event.note.error, event.note.turn) == (True, False)


def test_big_payloads_stay_in_the_record() -> None:
    """An image, and an output over 64 KiB, have a stand-in that says what they are."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1000}}
    output = {"type": "tool_result", "tool_use_id": "t", "content": "x" * 70_000}
    raw = line(type="user", message={"role": "user", "content": [image, output]})
    (first, second) = claude.decode(raw)
    assert first.message == "[image/png: 1000 bytes of base64]"
    assert second.message.endswith("[tool output: 70000 bytes in all, kept in the record]")
    assert len(second.message) < 1100


@pytest.mark.parametrize(
    ("keys", "turn"),
    [
        ({}, True),
        ({"isMeta": True}, False),
        ({"isSidechain": True}, False),
        ({"isCompactSummary": True}, False),
    ],
)
def test_what_a_person_says_is_a_turn(keys: dict[str, bool], turn: bool) -> None:
    """But for what the program says in their name, and what an agent tells its sub-agent."""
    raw = line(type="user", message={"role": "user", "content": "hi"}, **keys)
    (event,) = claude.decode(raw)
    assert (event.role, event.kind, event.message) == ("user", "message", "hi")
    assert event.note is not None
    assert event.note.turn is turn


@pytest.mark.parametrize(("reason", "state"), [("end_turn", "waiting"), ("tool_use", "working"), (None, "working")])
def test_an_answer_that_ends_a_turn_waits(reason: str | None, state: str) -> None:
    """The agent works until its message says that the turn has ended."""
    (event,) = claude.decode(said("x", stop_reason=reason))
    assert event.note is not None
    assert event.note.state == state


def test_usage_names_the_call() -> None:
    """The lines of one message have one key; another request's have another."""
    usage = {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 11}

    def used(**keys: object) -> object:
        raw = line(type="assistant", message={"id": "m", "content": "x", "usage": usage}, **keys)
        (event,) = claude.decode(raw)
        assert event.note is not None
        assert event.note.usage is not None
        return event.note.usage

    one, same, other = used(requestId="r"), used(requestId="r", uuid="u-2"), used(requestId="r2")
    assert one == same
    assert one != other
    assert one[1:6] == (None, 3, 5, 7, 11)  # type: ignore[index]


@pytest.mark.parametrize("odd", [2**63, 2**40, -1, None])
def test_a_count_that_no_agent_reaches_is_none(odd: int | None) -> None:
    """SQLite holds 64 bits, in sums as well: one such line would stop its file for ever."""
    (event,) = claude.decode(said("x", usage={"input_tokens": odd, "output_tokens": 7}))
    assert event.note is not None
    assert event.note.usage is not None
    assert event.note.usage[2:6] == (0, 0, 0, 7)


def test_an_unknown_type_keeps_everything() -> None:
    """Kind `other`, and every key in the meta with its exact text."""
    raw = b'{"type":"new-thing","sessionId":"s","n":1.10,"deep":{"a":[1]},"timestamp":"2026-01-02T03:04:05Z"}'
    (event,) = claude.decode(raw)
    assert (event.kind, event.ts) == ("other", 1767323045.0)
    assert event.meta == '{"type":"new-thing","sessionId":"s","n":1.10,"deep":{"a":[1]}}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"user","message":"just text","sessionId":"s"}',
        b'{"type":"assistant","message":{"content":[1,2]},"sessionId":"s"}',
        b'{"type":7,"sessionId":"s"}',
        b'{"type":"assistant","message":{"content":[],"usage":{"input_tokens":"many"}},"sessionId":"s"}',
        b'{"type":"user","timestamp":[1],"message":{"content":"x"}}',
    ],
)
def test_a_known_key_of_another_shape_is_no_reject(raw: bytes) -> None:
    """Later versions may change any of it: the line is an event of kind `other`, with all of it in the meta."""
    (event,) = claude.decode(raw)
    assert event.kind == "other"
    assert event.meta is not None
    assert json.loads(event.meta).items() <= json.loads(raw).items()


def test_a_line_of_very_many_blocks_is_bounded() -> None:
    """The rest of the blocks is one event that says how many there are."""
    events = claude.decode(said([{"type": "text", "text": str(number)} for number in range(1000)]))
    assert len(events) <= 256
    assert events[-1].message == "[800 more blocks, kept in the record]"


@pytest.mark.parametrize(
    ("raw", "path", "is_claude"),
    [
        (b'{"type":"user","sessionId":"s"}', "/x/a.jsonl", True),
        (b'{"type":"file-history-snapshot","messageId":"m"}', "/x/a.jsonl", True),
        (b'{"type":"new-thing"}', "/home/me/.claude/projects/p/a.jsonl", True),
        (b'{"type":"new-thing"}', "/x/a.jsonl", False),
        (b'{"type":"session_meta","payload":{}}', "/x/a.jsonl", False),
        (b"{", "/home/me/.claude/projects/p/a.jsonl", False),
    ],
)
def test_what_is_a_transcript(raw: bytes, path: str, is_claude: bool) -> None:
    """The first line shows it, or the folder where that says too little."""
    assert claude.claims(raw, path) is is_claude


UUID = "3a782158-6c7c-4d4d-9c73-eae031da5b18"


@pytest.mark.parametrize(
    ("raw", "key", "identity"),
    [
        (b'{"sessionId":"other"}', f"p/{UUID}.jsonl", Identity(UUID)),
        (b'{"sessionId":"s"}', "p/copy.jsonl", Identity("s")),
        (b'{"type":"summary"}', "p/copy.jsonl", Identity("copy")),
        (b'{"sessionId":"s","agentId":"a1"}', "p/s/subagents/agent-a1.jsonl", Identity("s/a1", "s")),
        (b'{"type":"x"}', "p/s/subagents/agent-a1.jsonl", Identity("s/a1", "s")),
        (b'{"sessionId":7}', "agent-a1.jsonl", Identity("agent-a1")),
    ],
)
def test_the_file_is_the_session(raw: bytes, key: str, identity: Identity) -> None:
    """A sub-agent's file has its parent's id in its lines: it is a session of its own, with a link."""
    assert claude.identify(raw, key) == identity


def test_titles_and_failures() -> None:
    """A summary and a title name the session; an API error is an error."""
    titled = [
        line(type="summary", summary="What was done"),
        line(type="ai-title", aiTitle="What was done"),
    ]
    for raw in titled:
        assert _note(claude.decode(raw)[0]).title == "What was done"
    assert _note(claude.decode(line(type="system", subtype="api_error", error={"message": "no"}))[0]).error


def _note(fields: Fields):  # type: ignore[no-untyped-def]
    assert fields.note is not None
    return fields.note


def test_what_is_no_persons_word_is_marked() -> None:
    """A notice, a sub-agent's line, a summary and an API error say so in their meta; a result that failed as well."""
    line = BASE | {"type": "user", "message": {"role": "user", "content": "hello"}}
    marks = {"isMeta": True, "isSidechain": True, "isCompactSummary": True, "isApiErrorMessage": True}
    for given, meta in (
        ({}, {"uuid": "u-1"}),
        (marks, {"uuid": "u-1"} | marks),
        ({"uuid": "ü", "isMeta": True}, {"isMeta": True}),
    ):
        (fields,) = claude.decode(json.dumps(line | given).encode())
        assert json.loads(str(fields.meta)) == meta
    failed = {"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True}
    content = [failed, failed | {"is_error": False}]
    first, second = claude.decode(json.dumps(line | {"message": {"role": "user", "content": content}}).encode())
    assert (json.loads(str(first.meta)), json.loads(str(second.meta))) == (
        {"uuid": "u-1", "is_error": True},
        {"uuid": "u-1"},
    )
