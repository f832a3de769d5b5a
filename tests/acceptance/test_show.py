"""`codex-logs show` and `sessions`: a session as a person reads it, exact bytes, and the list to choose from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import shell, succeed

TIMES = {"TZ": "Europe/Berlin"}
SESSION = "5e551011-0000-4000-8000-000000000001"


def line(number: int, role: str, content: object, **more: object) -> dict[str, object]:
    """A line of a Claude transcript."""
    message = {"role": role, "content": content, "model": "claude-sonnet-4-5"}
    return {
        "type": role,
        "uuid": f"u{number}",
        "sessionId": SESSION,
        "timestamp": f"2026-01-31T08:00:{number:02}Z",
        "cwd": "/work/tool",
        "gitBranch": "main",
        "message": message,
        **more,
    }


def call(name: str, **given: object) -> list[dict[str, object]]:
    return [{"type": "tool_use", "id": f"c-{name}", "name": name, "input": given}]


def result(name: str, text: str, **more: object) -> list[dict[str, object]]:
    return [{"type": "tool_result", "tool_use_id": f"c-{name}", "content": text, **more}]


LINES = [
    line(1, "user", "Why does it fail?\nPlease look."),
    line(2, "assistant", [{"type": "thinking", "thinking": "Where is it?"}]),
    line(3, "assistant", call("Bash", command="cat parser.py", description="Show it")),
    line(4, "user", result("Bash", "\n".join(f"line {number}" for number in range(1, 41)))),
    line(5, "assistant", call("Edit", file_path="parser.py", old_string="a = 1", new_string="a = 2\nb = 3")),
    line(6, "user", result("Edit", "no such file", is_error=True)),
    line(7, "assistant", call("Task", prompt="Look in the tests")),
    line(8, "assistant", "## Done\n```python\nimport parser\n```\nwith \x1b]0;title\x07 and \u202egnp.exe"),
    line(9, "user", "Thanks"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with that session in its log folder, a sub-agent's beside it, and an older one."""
    logs = tmp_path / ".codex" / "sessions"
    agents = logs / SESSION / "subagents"
    agents.mkdir(parents=True)
    (logs / f"{SESSION}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in LINES))
    agent = line(10, "user", "Look in the tests", isSidechain=True, agentId="a17")
    (agents / "agent-a17.jsonl").write_text(json.dumps(agent) + "\n")
    native = {"ts": "2026-01-01T00:00:00Z", "role": "user", "message": "older"}
    (logs / "older.ndjson").write_text(json.dumps(native) + "\n")
    return tmp_path


def test_a_transcript_reads_in_turns(folder: Path) -> None:
    """The session's facts, then who says what: thoughts apart, calls folded with what was left out, failures marked."""
    text = succeed("codex-logs show", folder, TIMES)
    header, _, body = text.partition("\n\n")
    assert header.splitlines() == [
        SESSION,
        "agent     claude, working",
        "project   /work/tool (main)",
        "models    claude-sonnet-4-5",
        header.splitlines()[4],
        "counts    turns 2, events 9, calls 3, errors 1",
        f"agents    {SESSION}/a17",
    ]
    assert header.splitlines()[4].startswith("time      2026-01-31 09:00:01+0100, 8s, last event ")
    lines = [each for each in body.splitlines() if not each.startswith("──")]
    assert lines == [
        "Why does it fail?",
        "Please look.",
        "",
        "  ~ Where is it?",
        "⚙ Bash cat parser.py",
        "  │ line 1",
        "  │ line 2",
        "  │ line 3",
        "  │ … 37 lines, 292 letters more: --tools full",
        "⚙ Edit parser.py",
        "    -a = 1",
        "    +a = 2",
        "    +b = 3",
        "  ✗ no such file",
        "▶ sub-agent Task Look in the tests",
        "## Done",
        "```python",
        "import parser",
        "```",
        "with \\x1b]0;title\\x07 and \\u202egnp.exe",
        "",
        "Thanks",
    ]
    assert [each.split()[1:5] for each in body.splitlines() if each.startswith("──")] == [
        ["user", "2026-01-31", "09:00:01+0100", "#1"],
        ["assistant", "2026-01-31", "09:00:02+0100", "#2"],
        ["user", "2026-01-31", "09:00:09+0100", "#9"],
    ]


def test_what_is_shown_can_be_chosen(folder: Path) -> None:
    """Tools in full or not at all, a span of lines, roles and kinds, and one line with what stands around it."""
    assert "line 40" in succeed("codex-logs show 5e55 --tools full", folder)
    assert "parser.py" not in succeed("codex-logs show 5e55 --tools none", folder)
    chosen = succeed("codex-logs show 5e55 --from 3 --to 5 --json", folder)
    assert [event["seq"] for event in json.loads(chosen)] == [3, 4, 5]
    chosen = succeed("codex-logs show 5e55 --role user --kind message --json", folder)
    assert [event["seq"] for event in json.loads(chosen)] == [1, 9]
    around = succeed("codex-logs show 5e55 --at 6 --from 5 --to 8", folder)
    assert "▼ #6\n  ✗ no such file\n▲\n" in around
    assert ("Where is it?" in around, "Done" in around) == (False, True)
    missing = shell("codex-logs show 5e55 --at 99", folder)
    assert (missing.returncode, "no event on line 99" in missing.stderr) == (2, True)


def test_raw_is_what_the_agent_wrote(folder: Path) -> None:
    """All of it byte for byte, or the lines that are chosen; with --json it is a usage error."""
    log = (folder / ".codex" / "sessions" / f"{SESSION}.jsonl").read_text()
    assert succeed("codex-logs show last --raw", folder) == log
    assert succeed("codex-logs show last --raw --from 3 --to 4", folder) == "".join(log.splitlines(keepends=True)[2:4])
    assert succeed("codex-logs raw 5e55 9", folder) == log.splitlines(keepends=True)[8]
    assert shell("codex-logs show last --raw --json", folder).returncode == 2


def test_a_session_is_named_as_people_do(folder: Path) -> None:
    """By `last`, a beginning, a sub-agent's own part; near ones are named; exit code 2 for none."""
    assert succeed("codex-logs show a17", folder).startswith(f"{SESSION}/a17\n")
    succeed("codex-import-ndjson --all", folder)
    mistyped = shell("codex-logs show oldre", folder)
    assert (mistyped.returncode, "Did you mean older?" in mistyped.stderr) == (2, True)
    assert succeed("codex-logs pack olde", folder).startswith(f"{folder}/older.zip: older.ndjson")
    assert succeed("codex-logs usage --session-id 5e55 --json", folder) == "[]\n"
    nothing = folder / "nothing"
    nothing.mkdir()
    assert shell("codex-logs show", nothing).returncode == 2


def test_what_was_purged_is_said_to_be_gone(folder: Path) -> None:
    """Its name is still known, its events aren't there: exit code 1."""
    succeed("codex-import-ndjson --all", folder)
    succeed("codex-ingestd purge --session older --days 0 --sources --rows", folder)
    gone = shell("codex-logs show older", folder)
    assert (gone.returncode, gone.stdout, "purged" in gone.stderr) == (1, "", True)
    assert shell("codex-logs show older --raw", folder).returncode == 1


def test_a_session_of_many_events_is_read_as_it_is_shown(tmp_path: Path) -> None:
    """Who wants only the first page waits for no more."""
    log = tmp_path / ".codex" / "sessions" / "long.ndjson"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f'{{"role":"user","message":"number {number}"}}\n' for number in range(5000)))
    result = shell("codex-logs show long | head -n 9; echo ${PIPESTATUS[0]}", tmp_path)
    assert ("number 0" in result.stdout, result.stdout.splitlines()[-1], result.stderr) == (True, "0", "")
    assert succeed("codex-logs show long", tmp_path).count("number ") == 5000


def test_sessions_are_chosen_and_sorted(folder: Path) -> None:
    """By who started them, model, time and more; by each order and its reverse."""

    def listed(flags: str) -> list[str]:
        return [row["session_id"] for row in json.loads(succeed(f"codex-logs sessions --json {flags}", folder))]

    agent = f"{SESSION}/a17"
    assert listed("") == [agent, SESSION, "older"]
    assert listed("--reverse") == ["older", SESSION, agent]
    assert listed("--top") == [SESSION, "older"]
    assert listed("--parent 5e55") == [agent]
    assert listed("--model sonnet --top") == [SESSION]
    assert listed("--since 2026-01-31 --sort events") == [SESSION, agent]
    assert listed("--sort errors --limit 1") == [SESSION]
    assert listed("--sort started") == [agent, SESSION, "older"]
    assert listed("--sort tokens --agent native") == ["older"]
    table = succeed("codex-logs sessions", folder, TIMES).splitlines()
    assert table[2].split()[:6] == ["2026-01-31", "09:00+0100", "working", "claude", SESSION, "tool"]
