"""The shell completes commands and sessions, by the script that `codex-logs completion` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import shell, succeed

COMPLETE = """
eval "$({program} completion bash)"
COMP_WORDS=({program} {words}) COMP_CWORD={count}
_{function}_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(folder: Path, *words: str, program: str = "codex-logs") -> list[str]:
    """What bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    command = COMPLETE.format(program=program, function=program.replace("-", "_"), words=quoted, count=len(words))
    return succeed(command, folder).splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database of some sessions; one file's name is made to be run by a shell."""
    logs = tmp_path / ".codex" / "sessions"
    logs.mkdir(parents=True)
    for name in ("deploy-1", "deploy-2", "fix", "deploy$(touch oops)", "deploy*"):
        (logs / f"{name}.ndjson").write_text('{"role":"user","message":"x"}\n')
    succeed("codex-import-ndjson --all", tmp_path)
    return tmp_path


def test_commands_and_sessions_are_completed(folder: Path) -> None:
    """By their beginning, in the database that is named; what a shell would expand or run isn't offered."""
    assert completed(folder, "sess") == ["sessions"]
    assert completed(folder, "show", "dep") == ["deploy-1", "deploy-2"]
    assert completed(folder, "tail", "fix", "--db", ".codex/session_logs.db", "l") == ["last"]
    assert completed(folder, "usage", "--session-id", "f") == ["fix"]
    assert completed(folder, "show", "--db", "nowhere.db", "d") == [""]
    assert not (folder / "oops").exists()


def test_the_daemons_commands_are_completed(tmp_path: Path) -> None:
    """With their options."""
    assert completed(tmp_path, "re", program="codex-ingestd") == ["rebuild", "restore"]
    assert completed(tmp_path, "verify", "--de", program="codex-ingestd") == ["--deep"]


@pytest.mark.parametrize("program", ["codex-logs", "codex-ingestd"])
@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_the_scripts_of_other_shells_are_sound(tmp_path: Path, name: str, program: str) -> None:
    """Their own shell takes them."""
    if shell(f"command -v {name}", tmp_path).returncode:
        pytest.skip(f"there is no {name} here")
    succeed(f"{program} completion {name} > script && {name} -n script", tmp_path)
