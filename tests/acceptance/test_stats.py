"""`codex-logs stats`: what happened, counted; and the times that commands take."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from codex.logging.import_ndjson import import_all
from codex.logging.listing import parse_moment
from codex.logs.shown.charts import bar, sparkline
from tests.commands import shell, succeed
from tests.pictures import Picture, printed

THREAD = "019b2000-0000-7000-8000-000000000002"


def claude(number: int, day: int, content: object, *, role: str = "user", tokens: int = 0) -> dict[str, object]:
    """A line of a Claude transcript; an assistant's tells of a call's tokens."""
    message: dict[str, object] = {"role": role, "content": content}
    if role == "assistant":
        usage = {"input_tokens": tokens, "output_tokens": 0}
        message |= {"id": f"m{number}", "model": "claude-sonnet-4-5-20250929", "usage": usage}
    return {
        "type": role,
        "uuid": f"u{number}",
        "sessionId": "s",
        "requestId": f"r{number}",
        "timestamp": f"2026-01-{day:02}T12:00:{number:02}Z",
        "cwd": "/work/tool",
        "message": message,
    }


def call(number: int, tool: str) -> list[dict[str, object]]:
    return [{"type": "tool_use", "id": f"t{number}", "name": tool, "input": {}}]


def result(number: int, *, failed: bool) -> list[dict[str, object]]:
    return [{"type": "tool_result", "tool_use_id": f"t{number}", "content": "it ran", "is_error": failed}]


CLAUDE = [
    claude(1, 2, "look at it"),
    claude(2, 2, call(2, "Bash"), role="assistant", tokens=100),
    claude(3, 2, result(2, failed=True)),
    claude(4, 3, call(4, "Read"), role="assistant", tokens=200),
    claude(5, 3, result(4, failed=False)),
    claude(6, 3, [{"type": "text", "text": "done"}], role="assistant", tokens=300),
]
CODEX = [
    ("session_meta", {"id": THREAD, "timestamp": "2026-01-03T12:00:00Z", "cwd": "/work/other"}),
    ("event_msg", {"type": "user_message", "message": "build it"}),
    ("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "build it"}]}),
    ("response_item", {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c"}),
    ("event_msg", {"type": "exec_command_end", "call_id": "c", "exit_code": 2}),
    ("event_msg", {"type": "exec_command_end", "call_id": "d", "exit_code": 0}),
]


@pytest.fixture
def filled(log_dir: Path, database: Path) -> Path:
    """A Claude session over two days and a Codex thread."""
    (log_dir / "s.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in CLAUDE))
    rollout = [{"timestamp": "2026-01-03T12:30:00Z", "type": kind, "payload": payload} for kind, payload in CODEX]
    (log_dir / f"rollout-x-{THREAD}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in rollout))
    import_all(log_dir, database)
    return database


def counted(database: Path, options: str) -> dict[str, dict[str, object]]:
    """What `stats --by` counts, by its key."""
    rows = json.loads(succeed(f"codex-logs stats --json --db {database} --by {options}", database.parent))
    return {str(next(iter(row.values()))): row for row in rows}


def figures(row: dict[str, object], *names: str) -> list[object]:
    return [row[name] for name in names or ("sessions", "events", "turns", "tool_calls", "errors")]


def test_each_key_counts_what_is_its(filled: Path) -> None:
    """The same events by day, tool, agent, project, model, role and hour; errors and turns as each agent tells them."""
    days = counted(filled, "day")
    assert figures(days["2026-01-02"]) == [1, 3, 1, 1, 1]
    assert figures(days["2026-01-03"]) == [2, 9, 1, 2, 1]
    assert [days[day]["tokens"] for day in sorted(days)] == [100, 500]
    tools = counted(filled, "tool")
    assert {name: figures(row, "tool_calls", "errors") for name, row in tools.items()} == {
        "Bash": [1, 1],
        "Read": [1, 0],
        "shell": [1, 0],
    }
    assert figures(counted(filled, "agent")["codex"]) == [1, 6, 1, 1, 1]
    assert figures(counted(filled, "project")["/work/tool"]) == [1, 6, 1, 2, 1]
    assert counted(filled, "project")["/work/tool"]["cost"] == pytest.approx(600 * 3 / 1e6)
    model = counted(filled, "model")["claude-sonnet-4-5-20250929"]
    assert figures(model, "events", "tokens", "errors") == [3, 600, None]
    assert counted(filled, "role")["tool"]["events"] == 2
    assert list(counted(filled, "hour")) == ["12"]
    assert figures(counted(filled, "session")[THREAD], "first") == ["2026-01-03T12:30:00.000Z"]


def test_filters_narrow_every_figure(filled: Path) -> None:
    """By time, project, agent and session; tokens as well as events."""
    assert list(counted(filled, "day --after 2026-01-03")) == ["2026-01-03"]
    assert counted(filled, "day --project tool --after 2026-01-03")["2026-01-03"]["events"] == 3
    assert list(counted(filled, "agent --session-id s")) == ["claude"]
    assert list(counted(filled, "agent --session-id 019b")) == ["codex"]
    assert counted(filled, "agent --before 2026-01-02T23:00:00Z")["claude"]["tokens"] == 100
    assert counted(filled, "day --project other")["2026-01-03"]["tokens"] == 0
    assert list(counted(filled, "tool --agent codex")) == ["shell"]
    assert list(counted(filled, "day --limit 1")) == ["2026-01-03"]


def test_days_are_the_local_ones(filled: Path) -> None:
    """Thirteen hours east it is the next day; the heading says which clock."""
    env = {"TZ": "Pacific/Auckland"}
    shown = succeed(f"codex-logs stats --by day --db {filled}", filled.parent, env).splitlines()
    assert shown[0].startswith("day (NZDT)")
    assert [line.split()[0] for line in shown[1:]] == ["2026-01-03", "2026-01-04"]
    assert "2026-01-03 01:00:01+1300" in succeed(f"codex-logs stats --db {filled}", filled.parent, env)


def test_the_overview_adds_it_up(filled: Path) -> None:
    """Plain figures where nobody looks; the same for machines."""
    overview = json.loads(succeed(f"codex-logs stats --json --db {filled}", filled.parent))
    assert figures(overview) == [2, 12, 2, 3, 2]
    assert [tool["tool"] for tool in overview["tools"]] == ["Bash", "Read", "shell"]
    assert overview["models"][0]["tokens"] == overview["tokens"] == 600
    shown = succeed(f"codex-logs stats --db {filled}", filled.parent)
    assert "errors      2 (66.7% of the calls)" in shown
    assert not set(shown) & set("▁▂▃▄▅▆▇█")


def test_a_terminal_gets_bars_and_a_line(filled: Path) -> None:
    """Bars beside the tools, a line over the last thirty days; the busiest of them is the highest."""
    shown = printed(Picture("codex-logs stats"), filled)
    line = next(line for line in shown.splitlines() if line.startswith("30 days")).split()[-1]
    assert (len(line), line[-2:]) == (30, "▃█")
    assert next(line for line in shown.splitlines() if line.startswith("Bash")).rstrip().endswith("█" * 24)


@pytest.mark.parametrize("columns", [200, 70, 40])
def test_no_figure_is_ever_cut(filled: Path, columns: int) -> None:
    """On a narrow terminal names give way, and bars; what is wider still wraps, but every figure is whole."""
    shown = printed(Picture("codex-logs stats --by model", columns), filled)
    line = next(line for line in shown.splitlines() if line.startswith("claude-"))
    assert line.split()[1:8] == ["1", "3", "-", "2", "-", "600", "0.00"]
    assert ("█" in line) == (columns == 200)
    assert ("…" in line) == (columns < 200)


def test_letters_show_figures() -> None:
    """The highest is full, nothing is a dot or no bar, and what is more than nothing shows."""
    assert sparkline([0, 1, 4, 8]) == "·▂▅█"
    assert sparkline([]) == ""
    assert (bar(8, 8, 4), bar(1, 1000, 4), bar(0, 8, 4), bar(4.5, 8, 4)) == ("████", "▏", "", "██▎")


def test_a_database_without_events_has_figures_too(tmp_path: Path, database: Path, log_dir: Path) -> None:
    """Nothing is counted, nothing fails."""
    import_all(log_dir, database)
    assert "sessions    0" in succeed(f"codex-logs stats --db {database}", tmp_path)
    assert counted(database, "day") == {}
    assert shell(f"codex-logs stats --by weekday --db {database}", tmp_path).returncode == 2


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("24h", 86400), ("7d ago", 604_800), ("2 w", 1_209_600)])
def test_a_time_may_be_before_now(text: str, seconds: int) -> None:
    """So many minutes, hours, days or weeks ago."""
    before = time.time()
    moment = parse_moment(text)
    assert moment is not None
    assert before <= moment + seconds <= time.time()


def test_a_day_may_be_named() -> None:
    """Today begins at this clock's midnight, yesterday at the one before."""
    today, yesterday = parse_moment("today"), parse_moment("yesterday")
    assert today is not None
    assert yesterday is not None
    moment = datetime.fromtimestamp(today)
    assert (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    assert (moment.date() - datetime.fromtimestamp(yesterday).date()).days == 1
    assert parse_moment("2026-01-31") == 1769817600.0
    assert parse_moment("someday") is None
