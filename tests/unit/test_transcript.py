"""What a transcript is made of: calls in words, short names, times, and text that no terminal obeys."""

from __future__ import annotations

import json
import unicodedata

import pytest
from click import unstyle
from hypothesis import given
from hypothesis import strategies as st

from codex.logging.listing import to_json
from codex.logging.plain import one_line, visible
from codex.logs.read.events import Event
from codex.logs.shown.calls import change, failed, summary
from codex.logs.shown.colour import Ink, Labels, of_session
from codex.logs.shown.highlight import highlighted, is_diff
from codex.logs.shown.times import ago, span
from codex.logs.shown.transcript import Style, transcript
from codex.logs.shown.words import words

PATCH = "*** Begin Patch\n*** Update File: a.py\n-old\n+new\n*** End Patch"


def event(message: str, kind: str = "message", role: str = "assistant", **more: object) -> Event:
    """An event with this text."""
    known: dict[str, object] = dict.fromkeys(Event._fields)
    known |= {"position": 1 << 40, "session_id": "s", "seq": 1, "part": 0, "generation": 1, "inherited": False}
    return Event(**known | {"message": message, "kind": kind, "role": role} | more)  # type: ignore[arg-type]


def call(tool: str, given: object) -> Event:
    text = given if isinstance(given, str) else json.dumps(given)
    return event(f"{tool} {text}", "tool_call", tool=tool)


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        ("Bash", {"command": "ls -l", "description": "List"}, "ls -l"),
        ("shell", {"command": ["bash", "-lc", "ls -l"], "workdir": "/x"}, "ls -l"),
        ("shell", {"command": ["ls", "a b"]}, "ls 'a b'"),
        ("Read", {"file_path": "/a.py", "offset": 3}, "/a.py"),
        ("Grep", {"pattern": "x+", "glob": "*.py"}, "x+"),
        ("TodoWrite", {"todos": [1]}, '{"todos": [1]}'),
        ("custom", "not json", "not json"),
        ("list", {}, ""),
    ],
)
def test_a_call_says_what_it_is_about(tool: str, given: object, said: str) -> None:
    """The command, the file or the pattern; all of it where it has none of those."""
    assert summary(call(tool, given)) == said


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"old_string": "a\nb", "new_string": "c"}, "-a\n-b\n+c"),
        ({"edits": [{"old_string": "a", "new_string": "b"}, {"old_string": "", "new_string": "c"}]}, "-a\n+b\n+c"),
        ({"command": ["apply_patch", PATCH]}, PATCH),
        (PATCH, PATCH),
        ({"command": "ls"}, ""),
        ({"edits": "odd"}, ""),
    ],
)
def test_a_change_is_lines_with_plus_and_minus(given: object, shown: str) -> None:
    """Of an edit, several edits, a patch; of nothing else."""
    assert change(call("Edit", given)).rstrip("'") == shown


def test_failures_are_told_apart() -> None:
    """By the record's own word, else by how a result begins; a text that only speaks of errors is none."""
    bad = [
        event("Exit code 2\nno such file", "tool_result", "tool"),
        event("fine", "tool_result", "tool", meta='{"uuid":"u","is_error":true}'),
        event("Process exited with code 1\n", "tool_result", "tool"),
        event("session_end", "session_end", "system", meta='{"type":"session_end","exit_code":3}'),
        event("careful", "message", "WARN"),
    ]
    good = [
        event("no errors\nexit code 0", "tool_result", "tool"),
        event("Errors: none", "tool_result", "tool"),
        event("The error is in line 3"),
        event("session_end", "session_end", "system", meta='{"type":"session_end","exit_code":0}'),
    ]
    assert [failed(each) for each in bad + good] == [True] * len(bad) + [False] * len(good)


def test_actions_and_ends_say_what_their_record_holds() -> None:
    """The statement, the exit code that isn't 0, the error, the summary."""
    assert words(event("action", "action", meta='{"action":"edit","statement":"a.py"}')) == "edit: a.py"
    ended = event("session_end", "session_end", meta='{"exit_code":3,"error":"boom","summary":"half"}')
    assert words(ended) == "session_end, exit code 3, boom, half"
    assert words(event("session_end", "session_end", meta="not json")) == "session_end"


def test_labels_are_short_unique_and_stay() -> None:
    """At least four letters, as many as it takes; a session that begins later changes none that was given."""
    known = ["deploy-1", "deploy-2", "fix", "0196aaaa-1", "0196aaab-2", "fix/agent-1", "fix/agent-2"]
    label = Labels(lambda: known)
    assert {name: label(name) for name in known} == {
        "deploy-1": "deploy-1",
        "deploy-2": "deploy-2",
        "fix": "fix",
        "0196aaaa-1": "0196aaaa",
        "0196aaab-2": "0196aaab",
        "fix/agent-1": "fix/agent-1",
        "fix/agent-2": "fix/agent-2",
    }
    known.append("0196aaaa-2")
    assert (label("0196aaaa-1"), label("0196aaaa-2")) == ("0196aaaa", "0196aaaa-2")
    assert of_session("fix") == of_session("fix")


def test_times_are_said_as_people_say_them() -> None:
    """How long ago, and how long it took; the day where it is long ago."""
    now = 1_800_000_000.0
    assert [ago(now - past, now) for past in (0, 59, 60, 7199, 86_400 * 3)] == [
        "0s ago",
        "59s ago",
        "1min ago",
        "1h ago",
        "3d ago",
    ]
    assert (ago(None, now), ago(now - 1e9, now)[:4]) == ("-", "1995")
    assert [span(seconds) for seconds in (0, 61, 7500, 90_000)] == ["0s", "1min 1s", "2h 5min", "1d 1h"]


@given(st.text())
def test_no_text_is_obeyed(text: str) -> None:
    """Whatever it is: neither in lines nor in one line is a control left; in JSON it is the same value."""
    left = {letter for letter in visible(text) if unicodedata.category(letter) == "Cc"}
    assert left <= {"\n", "\t"}
    assert not any(unicodedata.category(letter) == "Cc" for letter in one_line(text))
    escaped = to_json({"text": text})
    assert json.loads(escaped) == {"text": text}
    assert not any(unicodedata.bidirectional(letter) in {"RLO", "LRO", "RLE", "LRE", "PDF"} for letter in escaped)


@given(st.lists(st.text(max_size=30), max_size=5), st.sampled_from(["full", "fold", "none"]), st.booleans())
def test_any_event_has_a_transcript(texts: list[str], tools: str, wrap: bool) -> None:
    """Calls whose arguments are anything, results, thoughts and messages: none is lost in full, none breaks it."""
    kinds = ("message", "reasoning", "tool_call", "tool_result", "other")
    found = [event(text, kinds[number % 5], tool="t") for number, text in enumerate(texts)]
    made = "".join(transcript(found, Style(Ink(False), tools, 40, None, wrap)))
    if tools == "full" and not wrap:
        for each in found:
            if each.kind == "message":
                assert visible(each.message.strip("\n")) in made or not each.message.strip()


def test_code_keeps_its_letters() -> None:
    """Colours are added, nothing is taken; an unknown language stays as it is."""
    code = "def f():\n\treturn '<b>'  \n\n"
    painted = highlighted(code, "python")
    assert painted != code
    assert unstyle(painted) == code
    assert highlighted(code, "no such language") == code
    assert is_diff("diff --git a/x b/x\n")
    assert not is_diff("a - b\n+ c")
