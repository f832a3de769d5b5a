"""Codex rollouts, line by line, and what a line means after others."""

from __future__ import annotations

import json

import pytest

from codex.logging.events import Event, Fields, Identity, Usage
from codex.logging.ingest.formats import codex

PARENT = "019b0000-0000-7000-8000-000000000001"
CHILD = "019b2000-0000-7000-8000-000000000002"
EARLY = "019b1000-0000-7000-8000-00000000000a"
LATE = "019b3000-0000-7000-8000-00000000000b"
Line = dict[str, object]


def item(kind: str, payload: Line, at: str = "2026-01-02T03:04:05Z", **keys: object) -> Line:
    return {"timestamp": at, "type": kind, "payload": payload, **keys}


def meta(thread: str, **keys: object) -> Line:
    return item("session_meta", {"id": thread, "timestamp": "2026-01-02T03:04:05Z", "cwd": "/w", **keys})


def turn(number: str, **keys: object) -> Line:
    return item("turn_context", {"turn_id": number, "model": "gpt-5"}, **keys)  # type: ignore[arg-type]


def tokens(whole: int, output: int, last: tuple[int, int] | None = None, **keys: object) -> Line:
    def counts(whole: int, output: int) -> Line:
        return {"input_tokens": whole, "cached_input_tokens": 0, "output_tokens": output}

    info: Line = {"total_token_usage": counts(whole, output)}
    if last is not None:
        info["last_token_usage"] = counts(*last)
    return item("event_msg", {"type": "token_count", "info": info}, **keys)  # type: ignore[arg-type]


def decoded(line: Line) -> Fields:
    (fields,) = codex.decode(json.dumps(line).encode())
    return fields


def followed(*lines: Line, cut: int = 0) -> list[Fields]:
    """The events of a rollout, taken as one batch or cut into two."""
    events = [Event(number, 0, 0, 0, decoded(line)) for number, line in enumerate(lines, 1)]
    carry, first = codex.follow("", events[:cut])
    return [event.fields for event in first + codex.follow(carry, events[cut:])[1]]


def spent(*lines: Line, cut: int = 0) -> list[tuple[int, int, int, bool]]:
    """(input, output, repeated, inherited) of each token count that is one."""
    used: list[Usage | None] = [fields.note and fields.note.usage for fields in followed(*lines, cut=cut)]
    return [(u.input, u.output, u.repeated, u.inherited) for u in used if u is not None]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            ("user", "message", "hi"),
        ),
        ({"role": "developer", "content": "rules"}, ("developer", "message", "rules")),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, ("assistant", "reasoning", "hm")),
        ({"type": "reasoning", "summary": [], "encrypted_content": "x"}, ("assistant", "reasoning", "")),
        (
            {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c"},
            ("assistant", "tool_call", 'shell {"command":["ls"]}'),
        ),
        (
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin"},
            ("assistant", "tool_call", "apply_patch *** Begin"),
        ),
        (
            {"type": "web_search_call", "action": {"query": "x"}},
            ("assistant", "tool_call", 'web_search {"query": "x"}'),
        ),
        ({"type": "function_call_output", "call_id": "c", "output": "a.txt"}, ("tool", "tool_result", "a.txt")),
        (
            {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "a"}]},
            ("tool", "tool_result", "a"),
        ),
        ({"type": "not_known_yet", "x": 1}, ("system", "other", "")),
    ],
)
def test_what_becomes_of_a_response_item(payload: Line, expected: tuple[str, str, str]) -> None:
    """Messages, reasoning, calls of tools and what they gave, in the words of a reader."""
    fields = decoded(item("response_item", payload))
    assert (fields.role, fields.kind, fields.message) == expected


def test_an_unknown_type_keeps_everything() -> None:
    """Kind `other`, and the payload in the meta with its exact text."""
    fields = decoded(item("brand_new", {"type": "sub", "n": 1.10, "deep": {"a": [1]}}))
    assert fields.kind == "other"
    assert json.loads(fields.meta or "") == {"type": "brand_new", "payload": "sub", "n": 1.1, "deep": {"a": [1]}}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"created_at":"2025-09-10T12:00:00Z","role":"user","message":"hello"}',
        b'{"timestamp":"2025-09-10T12:00:00Z","type":"event_msg","payload":"text"}',
        b'{"timestamp":[],"type":"event_msg","payload":{}}',
        b'{"type":"event_msg","ordinal":"x","payload":{"type":"token_count"}}',
        b'{"type":"event_msg","payload":{"type":"token_count","info":{"prompt":1}}}',
        b'{"type":"session_meta","payload":{"id":7,"source":"cli","git":null}}',
        b"{}",
    ],
)
def test_another_shape_is_no_reject(raw: bytes) -> None:
    """Old and later versions: a line is an event, whatever it holds."""
    (fields,) = codex.decode(raw)
    assert fields.role
    codex.follow("", [Event(1, 0, 0, 0, fields)])


def test_the_first_header_owns_the_file() -> None:
    """Its thread, its parent, the thread it was forked from; git and folder are the session's."""
    raw = json.dumps(
        meta(CHILD, forked_from_id=PARENT, git={"branch": "main", "commit_hash": "c0ffee"}, cli_version="0.150.0")
    ).encode()
    assert codex.identify(raw, "2026/01/02/rollout-x.jsonl") == Identity(CHILD, None, PARENT)
    spawned = meta(CHILD, source={"subagent": {"thread_spawn": {"parent_thread_id": PARENT}}})
    assert codex.identify(json.dumps(spawned).encode(), "x.jsonl") == Identity(CHILD, PARENT, None)
    based = meta(CHILD, history_base={"thread_id": PARENT, "end_ordinal_exclusive": 7})
    assert codex.identify(json.dumps(based).encode(), "x.jsonl") == Identity(CHILD, None, PARENT)
    (fields,) = codex.decode(raw)
    assert fields.kind == "session_start"
    assert fields.note is not None
    assert fields.note[:3] == ("/w", "main", "c0ffee")


def test_a_rollout_without_its_header_is_named_by_its_file() -> None:
    """The name ends in the thread, or in the thread and another id after a revert."""
    raw = json.dumps(turn(LATE)).encode()
    assert codex.identify(raw, f"a/rollout-2026-01-02T03-04-05-{CHILD}_{LATE}.jsonl").session_id == CHILD


def test_growth_is_what_a_call_cost() -> None:
    """Totals grow; the same total again is a repetition; an info that is null is nothing."""
    lines = [meta(CHILD), tokens(100, 10, (100, 10)), tokens(100, 10, (100, 10))]
    lines += [item("event_msg", {"type": "token_count", "info": None}), tokens(250, 30, (150, 20))]
    assert spent(*lines) == [(100, 10, 0, False), (0, 0, 110, False), (150, 20, 0, False)]


def test_totals_begin_anew_after_a_compaction() -> None:
    """A total that became smaller is a new count, not a negative call."""
    lines = [meta(CHILD), tokens(1000, 100), tokens(40, 5, (40, 5)), tokens(70, 9)]
    assert spent(*lines) == [(1000, 100, 0, False), (40, 5, 0, False), (30, 4, 0, False)]


def test_numbers_that_no_agent_reaches_are_none() -> None:
    """Neither a row nor what is remembered from batch to batch holds more than 64 bits."""
    odd = {"forked_from_id": PARENT, "subagent_history_start_ordinal": 2**70}
    assert spent(meta(CHILD, **odd), tokens(2**63, 100), tokens(40, 5, (2**64, 5)))[0][:2] == (0, 100)


def test_cached_tokens_are_no_input() -> None:
    """What was read from a cache is told apart from what was not."""
    counts = {"input_tokens": 100, "cached_input_tokens": 80, "output_tokens": 7, "reasoning_output_tokens": 3}
    line = item("event_msg", {"type": "token_count", "info": {"total_token_usage": counts}})
    note = followed(meta(CHILD), turn(LATE), line)[-1].note
    assert note is not None
    assert note.usage is not None
    assert note.usage[1:7] == ("gpt-5", 20, 80, 0, 7, 3)


COPIED = [meta(PARENT), turn(EARLY), tokens(500, 50, (500, 50))]


def test_a_forks_copied_history_is_inherited() -> None:
    """From the header on until the first turn that was made after the fork; the parent's header doesn't own it."""
    lines = [meta(CHILD, forked_from_id=PARENT), *COPIED, turn(LATE), tokens(620, 60, (120, 10))]
    fields = followed(*lines)
    assert [field.inherited for field in fields] == [None, True, True, True, None, None]
    assert [field.kind for field in fields[:2]] == ["session_start", "other"]
    assert spent(*lines) == [(500, 50, 0, True), (120, 10, 0, False)]


def test_a_sub_agents_copied_history_is_inherited() -> None:
    """It says no fork: the parent's own header tells that what follows was copied."""
    lines = [meta(CHILD, parent_thread_id=PARENT), *COPIED, turn(LATE), tokens(620, 60, (120, 10))]
    assert spent(*lines) == [(500, 50, 0, True), (120, 10, 0, False)]


def test_a_sub_agent_without_copied_history_owns_all() -> None:
    """A parent alone copies nothing, also where turns have no time in their ids."""
    lines = [meta(CHILD, parent_thread_id=PARENT), turn("turn-1"), tokens(120, 10, (120, 10))]
    assert spent(*lines) == [(120, 10, 0, False)]


def test_the_childs_own_header_ends_the_copy() -> None:
    """Some versions write it again behind what they copied."""
    lines = [meta(CHILD, forked_from_id=PARENT), *COPIED, meta(CHILD), tokens(620, 60, (120, 10))]
    assert spent(*lines) == [(500, 50, 0, True), (120, 10, 0, False)]


def test_turns_without_a_time_are_judged_by_their_lines() -> None:
    """The copy is stamped with the moment of copying; what is later by more than a second is the child's."""
    late = "2026-01-02T03:05:00Z"
    copied = [meta(PARENT), turn("t1"), tokens(500, 50)]
    lines = [meta(CHILD, forked_from_id=PARENT), *copied, turn("t2", at=late), tokens(600, 60, at=late)]
    lines[0]["payload"]["id"] = "no-uuid"  # type: ignore[index]
    assert spent(*lines) == [(500, 50, 0, True), (100, 10, 0, False)]


def test_ordinals_tell_what_was_copied() -> None:
    """Paginated files name the first ordinal of their own; one that is repeated changes nothing."""
    header = meta(CHILD, parent_thread_id=PARENT, subagent_history_start_ordinal=3)
    lines = [header | {"ordinal": 0}, tokens(500, 50, ordinal=1), turn(EARLY, ordinal=2)]
    lines += [tokens(620, 60, (120, 10), ordinal=3), tokens(620, 60, (120, 10), ordinal=3)]
    assert spent(*lines) == [(500, 50, 0, True), (120, 10, 0, False), (0, 0, 130, False)]


def test_a_base_that_is_only_named_costs_nothing() -> None:
    """With history_base the parent's lines aren't there: the first total holds them, its last call doesn't."""
    header = meta(CHILD, history_base={"thread_id": PARENT, "end_ordinal_exclusive": 10}, forked_from_id=PARENT)
    lines = [header | {"ordinal": 0}, turn(LATE, ordinal=11), tokens(900, 90, (400, 40), ordinal=12)]
    assert spent(*lines) == [(400, 40, 0, False)]


@pytest.mark.parametrize("cut", range(1, 6))
def test_how_the_file_is_cut_changes_nothing(cut: int) -> None:
    """The memory carries over from batch to batch."""
    lines = [meta(CHILD, forked_from_id=PARENT), *COPIED, turn(LATE), tokens(620, 60, (120, 10))]
    assert followed(*lines, cut=cut) == followed(*lines)


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        ({"type": "task_started", "turn_id": LATE}, "working"),
        ({"type": "task_complete", "turn_id": LATE}, "waiting"),
        ({"type": "turn_aborted", "turn_id": LATE}, "waiting"),
    ],
)
def test_what_the_thread_is_doing(payload: Line, state: str) -> None:
    """A task that has begun works until it is complete or was broken off."""
    note = followed(meta(CHILD), item("event_msg", payload))[-1].note
    assert note is not None
    assert note.state == state


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "error", "message": "no"},
        {"type": "exec_command_end", "exit_code": 1},
        {"type": "patch_apply_end", "success": False},
        {"type": "mcp_tool_call_end", "result": {"Err": "no"}},
    ],
)
def test_what_counts_as_an_error(payload: Line) -> None:
    """Errors that the agent tells of, and tools that failed."""
    note = decoded(item("event_msg", payload)).note
    assert note is not None
    assert note.error
