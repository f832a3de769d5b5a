"""What a person sees: on narrow and wide terminals, with colour and without, whatever a message holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.commands import succeed
from tests.daemon import Daemon
from tests.tmux import needs_tmux, terminal

pytestmark = needs_tmux
HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x1b[31mred \x9b31m \u202egnp.exe \x1b[5n"
SHOWN = "\\x1b]0;owned\\x07 \\x1b[2J\\x1b[31mred \\x9b31m \\u202egnp.exe \\x1b[5n"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[1-6]m|\x1b\[[0-9;]*9[1-6]m")
CODE = "```python\nimport parser\n```"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two sessions in its log folder and their database; one says what no terminal must obey."""
    logs = tmp_path / ".codex" / "sessions"
    logs.mkdir(parents=True)
    append(logs / "deploy-the-parser.ndjson", f"Please look: {HOSTILE}", "sentence " * 40, CODE)
    append(logs / "fix-the-lexer.ndjson", "older", second=1)
    succeed("codex-import-ndjson --all", tmp_path)
    return tmp_path


def append(log: Path, *messages: str, second: int = 5) -> None:
    with log.open("a", encoding="utf-8") as file:
        for message in messages:
            record = {"ts": f"2026-01-31T09:00:{second:02}Z", "role": "user", "message": message}
            file.write(json.dumps(record) + "\n")


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_a_transcript_on_a_terminal(folder: Path, columns: int, env: dict[str, str]) -> None:
    """Through the pager; orders in messages are read, not obeyed; colour is there unless NO_COLOR says otherwise."""
    with terminal("codex-logs show deploy", folder, columns, env=env) as shown:
        text = shown.wait_for("Please look", "import parser")
        assert SHOWN in text.replace("\n", "")
        assert shown.title() != "owned"
        assert bool(COLOUR.search(shown.screen(colour=True))) == (not env)
        assert max(map(len, text.splitlines())) <= min(columns, 100)
        assert all(line.endswith("sentence") for line in text.splitlines() if line.startswith("sentence"))


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_a_line_for_each_event_that_comes(daemon: Daemon, tmp_path: Path, columns: int, env: dict[str, str]) -> None:
    """Cut to the terminal's width, short names by which sessions are found again, Ctrl-C ends it."""
    append(daemon.log_dir / "deploy-the-parser.ndjson", f"Please look: {HOSTILE}", "sentence " * 40)
    daemon.start()
    daemon.wait_for_rows(2)
    with terminal(f"codex-logs tail -f --db '{daemon.database}'; echo code $?", tmp_path, columns, env=env) as shown:
        shown.wait_for("sentence")
        append(daemon.log_dir / "fix-the-lexer.ndjson", "and this", second=6)
        lines = [line for line in shown.wait_for("and this").splitlines() if line.startswith("09:00")]
        assert [line.split()[:3] for line in lines] == [["09:00:05+0000", "depl", "user:"]] * 2 + [
            ["09:00:06+0000", "fix-", "user:"]
        ]
        assert SHOWN[:40] in lines[0]
        assert (len(lines[1]), lines[1][-1]) == (columns, "…")
        assert bool(COLOUR.search(shown.screen(colour=True))) == (not env)
        shown.press("C-c")
        assert "Traceback" not in shown.wait_for("code 130")
        assert shown.title() != "owned"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_list_has_what_there_is_room_for(folder: Path, columns: int) -> None:
    """On a narrow terminal the columns that tell most; on a wide one all of them."""
    with terminal("codex-logs sessions", folder, columns) as shown:
        text = shown.wait_for("depl", "fix-")
        assert ("branch" in text, "errors" in text) == (columns == 200, columns == 200)
        assert "session" in text.splitlines()[0]
        assert "…" not in text.splitlines()[0]


def test_a_long_table_is_shown_by_pages(tmp_path: Path) -> None:
    """Its heading is on the first one; with another PAGER it goes there, and a short one goes to none."""
    logs = tmp_path / ".codex" / "sessions"
    logs.mkdir(parents=True)
    for number in range(60):
        (logs / f"s-{number:02}.ndjson").write_text('{"role":"user","message":"x"}\n')
    with terminal("codex-logs sessions --limit 60; echo code $?", tmp_path, lines=20) as shown:
        assert "code" not in shown.wait_for("last event", "s-00")
        shown.press("q")
        shown.wait_for("code 0")
    command = "codex-logs sessions --limit 60; codex-logs sessions --limit 3"
    with terminal(command, tmp_path, lines=30, env={"PAGER": "grep s-59"}) as shown:
        assert "s-30" not in shown.wait_for("s-59", "s-00")


def test_the_pager_shows_the_first_page_at_once(tmp_path: Path) -> None:
    """Of a long session; and leaving it there ends the command."""
    log = tmp_path / ".codex" / "sessions" / "long.ndjson"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f'{{"role":"user","message":"number {number}"}}\n' for number in range(5000)))
    with terminal("codex-logs show last; echo code $?", tmp_path, env={"LESS": "-RX"}) as shown:
        assert "number 4999" not in shown.wait_for("number 1")
        shown.press("q")
        shown.wait_for("code 0")


@pytest.mark.parametrize(
    "command", ["codex-logs --tail 3", "python -m codex.logging.viewer --session-id deploy-the-parser"]
)
def test_older_readers_obey_nothing_either(folder: Path, command: str) -> None:
    """On a terminal; elsewhere they give each letter as it is."""
    with terminal(command, folder) as shown:
        assert SHOWN in shown.wait_for("import parser").replace("\n", "")
        assert shown.title() != "owned"
    assert HOSTILE in succeed(command, folder)


@pytest.mark.parametrize("command", ["show deploy --json", "--tail 3 --format json", "tail --json"])
def test_json_on_a_terminal_is_safe_and_the_same(folder: Path, command: str) -> None:
    """What a terminal would obey is an escape of JSON, and its value is what the agent wrote."""
    with terminal(f"codex-logs {command}", folder) as shown:
        text = shown.wait_for("import parser").replace("\n", "")
        assert "\\u001b]0;owned\\u0007" in text
        assert "\\u009b31m \\u202egnp.exe" in text
    found = succeed(f"codex-logs {command}", folder)
    events = json.loads(found) if found.startswith("[") else [json.loads(line) for line in found.splitlines()]
    assert HOSTILE in "".join(event["message"] for event in events)
