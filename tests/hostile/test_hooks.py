"""What a session says reaches a hook as data alone: no shell, no argument, no variable is made of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.daemon import Daemon, wait_for

SAID = '$(touch owned); `touch owned`\n"}\n{"session_id":"forged"}\x00\x1b]0;x\x07\u202e'
HOOK = """#!/bin/sh
env | sed 's/=.*//' | sort > {folder}/variables
for word in "$@"; do printf '%s\\n' "$word"; done > {folder}/words
cat > {folder}/part && mv {folder}/part {folder}/given
"""


@pytest.mark.parametrize("session", ["-rf", "$(touch owned)", "a b;touch owned", "--help\nx", "PATH=."], ids=ascii)
def test_a_session_is_data_to_a_hook(session: str, daemon: Daemon, tmp_path: Path) -> None:
    """A name like an option, a command or two lines, and records of that kind: one JSON object, nothing else runs."""
    hook = tmp_path / "hook.sh"
    hook.write_text(HOOK.format(folder=shlex.quote(str(tmp_path))))
    hook.chmod(0o755)
    record = {"type": "session_end", "exit_code": SAID, "summary": SAID, "LD_PRELOAD": "evil.so", "title": "-x"}
    (daemon.log_dir / f"{session}.ndjson").write_text(json.dumps(record) + "\n")
    daemon.start("--hook", f"{shlex.quote(str(hook))} '$HOME' ; -x", env={"GIVEN": "1"})
    given = tmp_path / "given"
    wait_for(given.exists, what="the hook's run")
    assert daemon.stop() == 0
    (line,) = given.read_bytes().split(b"\n")[:-1]
    details = json.loads(line)
    assert (details["session_id"], details["meta"]["summary"]) == (session, SAID)
    assert (tmp_path / "words").read_text().splitlines() == ["$HOME", ";", "-x"]
    variables = set((tmp_path / "variables").read_text().splitlines())
    assert "GIVEN" in variables
    assert not {name for name in variables if name.startswith("LD_")}
    assert not list(Path.cwd().glob("owned")) + list(tmp_path.rglob("owned"))
