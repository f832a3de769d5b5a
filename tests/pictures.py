"""The README's pictures, drawn from sessions that are made for them: `python -m tests.pictures [FOLDER]`.

Each is what a command prints on a terminal, as an SVG. `PICTURES` names them; the page for the browser is drawn of the
same database, which `prepare` makes, as a PNG.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import random
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from codex.logging.import_ndjson import import_all
from tests.commands import BIN, ROOT
from tests.web.browser import chromium
from tests.web.server import Page

FOLDER = ROOT / "lib" / "codex" / "logs" / "pictures"
_DAYS = 30
_SESSIONS = 60
_ROWS = 40
_MOST_BYTES = 100_000
_MOST_PAGE_BYTES = 150_000
_WEB_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_TOOLS = ("Bash", "Bash", "Bash", "Read", "Read", "Edit", "Grep", "Write", "WebFetch")
_TASKS = (
    ("Fix the flaky test of the parser", "parser"),
    ("Explain why the import is slow", "importer"),
    ("Rename the column and migrate", "schema"),
    ("Add a --json flag to the report", "report"),
    ("Find who holds the lock", "daemon"),
)
SAMPLE = "019b2000-0000-7000-8000-00000000c0de"


class Picture(NamedTuple):
    """A command, and how wide the terminal is that it prints on."""

    command: str
    columns: int = 100


PICTURES = {
    "sessions": Picture("codex-logs sessions --limit 8", 120),
    "show": Picture(f"codex-logs show {SAMPLE[:8]} --no-pager"),
    "search": Picture("codex-logs search 'timeout parser' --limit 4"),
    "stats": Picture("codex-logs stats"),
}


def prepare(folder: Path, now: datetime) -> Path:
    """A database of thirty days' sessions, and one worth reading; the same each time but for the time."""
    logs = folder / "logs"
    logs.mkdir()
    rng = random.Random(7)
    for number in range(_SESSIONS):
        began = now - timedelta(days=_DAYS * rng.random() ** 1.3, minutes=20)
        _write(logs / f"{_uuid(rng)}.jsonl", _busy(rng, began, _TASKS[number % len(_TASKS)]))
    _write(logs / f"{SAMPLE}.jsonl", _told(now - timedelta(minutes=6)))
    import_all(logs, folder / "agents.db")
    return folder / "agents.db"


def draw(picture: Picture, database: Path) -> str:
    """The picture as SVG, of the installed command's own output."""
    from rich.console import Console
    from rich.text import Text

    shown = Text.from_ansi(printed(picture, database))
    console = Console(record=True, width=picture.columns, file=io.StringIO(), force_terminal=True)
    console.print(shown, overflow="crop", no_wrap=True, crop=True)
    svg = console.export_svg(title=picture.command, unique_id="picture")
    return _WEB_FONTS.sub("", svg)  # a picture asks for no other file


def draw_page(folder: Path, database: Path) -> bytes:
    """The sample's timeline as PNG, with its change unfolded, by a Chromium that has the folder for its own things."""
    page = Page(database)
    try:
        address = page.start()
        with chromium(folder, 1100, 740) as browser:
            tab = browser.new_page()
            tab.goto(address)
            tab.goto(f"http://127.0.0.1:{page.port}/session?id={SAMPLE}")
            tab.click(".kind-tool_call:has-text('Edit') summary")
            tab.wait_for_selector("#link[data-state=live]")
            tab.evaluate("scrollTo(0, 0)")
            return tab.screenshot()
    finally:
        page.kill()


def printed(picture: Picture, database: Path) -> str:
    """What the command prints on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, picture.columns, 0, 0))
    env = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    env |= {"CODEX_LOG_DB_PATH": str(database), "TEST_MODE": "1", "COLUMNS": str(picture.columns), "TZ": "UTC"}
    with subprocess.Popen(
        shlex.split(picture.command), stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, env=env
    ) as process:
        os.close(theirs)
        text = b"".join(_read(ours))
    os.close(ours)
    assert process.returncode == 0, f"{picture.command}: {text!r}"
    return text.decode().replace("\r\n", "\n")


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when nobody is left who writes
            return
        if not piece:
            return
        yield piece


def _busy(rng: random.Random, began: datetime, task: tuple[str, str]) -> Iterator[dict[str, object]]:
    """A session of some turns; its model, its folder and how much it does are drawn."""
    model = rng.choice(("claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"))
    session = _Session(began, f"/home/me/{task[1]}", model, rng)
    yield {"type": "custom-title", "customTitle": task[0]}
    for _ in range(rng.randint(1, 6)):
        yield session.said(task[0])
        for _ in range(rng.randint(2, 30)):
            yield from session.called(rng.choice(_TOOLS), {"command": f"grep -rn timeout {task[1]}"}, "3 matches", rng)
        yield session.answered(f"Done: the {task[1]} waits for its timeout now.", ended=True)


def _told(began: datetime) -> Iterator[dict[str, object]]:
    """A session that is worth reading."""
    rng = random.Random(1)
    session = _Session(began, "/home/me/parser", "claude-opus-4-5-20251101", rng)
    yield {"type": "custom-title", "customTitle": "Fix the flaky test of the parser"}
    yield session.said("test_timeout fails one time in ten. Find out why and fix it.")
    yield from session.called(
        "Bash", {"command": "pytest -x --count 50 tests/test_parser.py"}, "1 failed, 23 passed", rng
    )
    change = {
        "file_path": "/home/me/parser/tests/test_parser.py",
        "old_string": "time.sleep(0.1)\nassert parser.done",
        "new_string": "wait_for(lambda: parser.done, seconds=5)",
    }
    yield from session.called("Edit", change, "The file was updated.", rng)
    yield from session.called("Bash", {"command": "pytest -x --count 200 tests/test_parser.py"}, "200 passed", rng)
    text = "It slept for **0.1 s** where the parser may take longer. Now it waits for the condition:\n\n"
    code = '```python\nwait_for(lambda: parser.done, seconds=5, what="the parser")\n```'
    yield session.answered(f"{text}{code}", ended=True)


class _Session:
    """Lines as Claude Code writes them, each a few seconds after the one before."""

    def __init__(self, began: datetime, folder: str, model: str, rng: random.Random) -> None:
        self._now, self._folder, self._model, self._rng = began, folder, model, rng

    def said(self, text: str) -> dict[str, object]:
        """A prompt."""
        return self._line("user", {"role": "user", "content": text})

    def called(self, tool: str, given: dict[str, str], result: str, rng: random.Random) -> Iterator[dict[str, object]]:
        """A call and its result, which fails now and then."""
        call = _uuid(rng)
        yield self._spoken({"type": "tool_use", "id": call, "name": tool, "input": given}, "tool_use")
        heard = {"type": "tool_result", "tool_use_id": call, "content": result, "is_error": rng.random() < 0.04}
        yield self._line("user", {"role": "user", "content": [heard]})

    def answered(self, text: str, *, ended: bool) -> dict[str, object]:
        """An answer, after which a person's turn comes."""
        return self._spoken({"type": "text", "text": text}, "end_turn" if ended else "tool_use")

    def _spoken(self, block: dict[str, object], reason: str) -> dict[str, object]:
        rng = self._rng
        usage = {"input_tokens": rng.randint(5, 900), "output_tokens": rng.randint(50, 900)}
        usage |= {"cache_read_input_tokens": rng.randint(9_000, 90_000), "cache_creation_input_tokens": 800}
        message = {"id": _uuid(rng), "role": "assistant", "model": self._model, "content": [block], "usage": usage}
        return self._line("assistant", message | {"stop_reason": reason})

    def _line(self, kind: str, message: dict[str, object]) -> dict[str, object]:
        self._now += timedelta(seconds=self._rng.randint(2, 30))
        moment = self._now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        place = {"cwd": self._folder, "gitBranch": "main", "timestamp": moment}
        return {"type": kind, "uuid": _uuid(self._rng), "requestId": _uuid(self._rng), "message": message} | place


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _write(path: Path, lines: Iterator[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line | {"sessionId": path.stem}) + "\n" for line in lines), encoding="utf-8")


def main(folder: Path = FOLDER) -> None:
    """Draw them all into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        database = prepare(Path(made), datetime.now(UTC))
        for name, picture in PICTURES.items():
            svg = draw(picture, database)
            assert len(svg.encode()) < _MOST_BYTES, name
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
            print(folder / f"{name}.svg")
        png = draw_page(Path(made) / "browser", database)
        assert len(png) < _MOST_PAGE_BYTES
        (folder / "page.png").write_bytes(png)
        print(folder / "page.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
