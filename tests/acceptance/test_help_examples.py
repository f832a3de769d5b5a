"""Each command's `--help` has examples, and each example is run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from codex.logs.cli import command as codex_logs
from codex_ingestd.cli import command as codex_ingestd
from tests.commands import shell, succeed

# These go on until they are ended.
ENDLESS = re.compile(r"codex-ingestd run\b|codex-logs tail -f|codex-logs web\b")
# These change the machine, or need another one.
ELSEWHERE = re.compile(r"\bsudo\b|\bssh\b|codex-ingestd ((un)?install|forward)\b")
# These say by exit code 1 that no daemon runs, or that nobody said that.
FINDINGS = re.compile(r"codex-ingestd (status|doctor)\b|codex-logs search\b")
ENDED = 124


def leaves(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Each command under the group, and the group where it does something by itself, with its whole name."""
    context = click.Context(group)
    if group.invoke_without_command:
        yield name, group
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


COMMANDS = dict([*leaves(codex_logs, "codex-logs"), *leaves(codex_ingestd, "codex-ingestd")])
EXAMPLES = [
    pytest.param(example.strip(), id=example.strip())
    for command in COMMANDS.values()
    for example in (command.epilog or "").split("\n")
    if example.startswith("  ")
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sessions under the names that the examples use, imported, and the files that they read."""
    folder = tmp_path_factory.mktemp("examples")
    logs = folder / ".codex" / "sessions"
    logs.mkdir(parents=True)
    record = {"ts": "2026-01-31T09:00:00Z", "role": "user", "message": "Where is the parser?"}
    for name in ("demo", "deploy", "my-session"):  # in this order: my-session has generation 3
        (logs / f"{name}.ndjson").write_text((json.dumps(record) + "\n") * 50)
    (folder / "logs").mkdir()
    (folder / "report.sql").write_text("SELECT count(*) FROM session_events")
    (folder / "password.txt").write_text("parser\n")
    (folder / "other.toml").write_text('metrics = "off"\n')
    succeed("codex-import-ndjson --all && codex-import-ndjson --all --db agents.db", folder)
    succeed("codex-ingestd checkpoint --append statements.ndjson", folder)
    return folder


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_has_an_example(name: str) -> None:
    """Of the command itself, under a heading."""
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith("\b\nExamples:\n  ")
    assert name in epilog


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_works(prepared: Path, tmp_path: Path, example: str) -> None:
    """Exit code 0, where there are data; what never ends is ended."""
    if ELSEWHERE.search(example):
        pytest.skip("it changes the machine, or needs another one")
    if "| jq" in example and shutil.which("jq") is None:
        pytest.skip("there is no jq here")
    folder = tmp_path / "folder"
    shutil.copytree(prepared, folder)
    command = example.replace("/mnt/elsewhere/", "")
    if ENDLESS.search(command):
        command = f"timeout 2 {command}"
    result = shell(f"set -o pipefail; {command}", folder, {"HOME": str(folder)})
    allowed = {0, ENDED} if ENDLESS.search(command) else {0, 1} if FINDINGS.search(command) else {0}
    assert result.returncode in allowed, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
