"""An environment that lacks what others have: no home, a folder that can't be written, no place for temporary files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.commands import UNPRIVILEGED, shell
from tests.daemon import Daemon, wait_for

# A user whom no list of users knows.
NOBODY = "unshare --user --map-user=54321 env -u HOME -u XDG_CONFIG_HOME"
needs_nobody = pytest.mark.skipif(
    subprocess.run(["sh", "-c", f"{NOBODY} true"], capture_output=True).returncode != 0,
    reason="no user namespaces here",
)


@needs_nobody
@pytest.mark.parametrize(
    "command",
    [
        "codex-ingestd run --db '~/x.db'",
        "codex-ingestd run --watch '~/logs' --db x.db",
        "codex-import-ndjson --all --db '~/x.db'",
        "codex-ingestd install --user",
    ],
)
def test_without_a_home_a_path_in_it_is_refused(command: str, tmp_path: Path) -> None:
    """Exit code 2 and what to do; nothing is made under the name `~`."""
    result = shell(f"timeout 20 {NOBODY} {command}", tmp_path)
    assert (result.returncode, "this user has no home folder" in result.stderr) == (2, True), result.stderr
    assert "hint: Set HOME" in result.stderr
    assert list(tmp_path.iterdir()) == []


@needs_nobody
def test_without_a_home_all_else_works(daemon: Daemon, log_dir: Path) -> None:
    """A daemon whose paths are not in a home folder needs none."""
    daemon.start(under=NOBODY.split())
    (log_dir / "s.ndjson").write_bytes(b'{"message":"hello"}\n')
    daemon.wait_for_rows(1)
    assert daemon.stop() == 0


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    """Started where it may not write, the daemon says which file can't be had, and to choose another place."""
    tmp_path.chmod(0o555)
    result = shell(f"timeout 20 {UNPRIVILEGED} codex-ingestd run", tmp_path)
    tmp_path.chmod(0o755)
    assert result.returncode == 1
    assert f"error: {tmp_path}/.codex/session_logs.db" in result.stderr
    assert "hint: Choose another place with --db." in result.stderr


def test_without_a_temporary_folder_rows_and_hooks_go_on(daemon: Daemon, log_dir: Path) -> None:
    """TMPDIR may name what isn't there."""
    ran = log_dir.parent / "ran"
    daemon.start("--hook", f"touch {ran}", env={"TMPDIR": "/nowhere/at/all"})
    (log_dir / "s.ndjson").write_bytes(b'{"type":"session_end","session_id":"s"}\n')
    daemon.wait_for_rows(1)
    wait_for(ran.exists)
    assert daemon.stop() == 0
