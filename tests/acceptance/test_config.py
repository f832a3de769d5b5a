"""`config` and `validate`, and the commands that go by them."""

from __future__ import annotations

import json
import signal
import tomllib
from pathlib import Path

from tests.commands import ROOT, shell, succeed
from tests.daemon import Daemon, wait_for


def test_config_shows_each_value_and_its_place(tmp_path: Path) -> None:
    """For people as TOML that can be read back; for machines as JSON."""
    (tmp_path / "codex-ingestd.toml").write_text("verify-rate = 1\n")
    env = {"CODEX_LOG_LEVEL": "debug"}
    command = "codex-ingestd config --hook finalize"
    shown = json.loads(succeed(f"{command} --json", tmp_path, env))
    assert shown["verify-rate"] == {"value": 1.0, "from": f"{tmp_path}/codex-ingestd.toml:1"}
    assert shown["log-level"] == {"value": "debug", "from": "CODEX_LOG_LEVEL"}
    assert shown["hook"] == {"value": ["finalize"], "from": "--hook"}
    assert shown["watch"] == {"value": [f"{tmp_path}/.codex/sessions"], "from": "default"}
    text = succeed(command, tmp_path, env)
    assert tomllib.loads(text) == {name: one["value"] for name, one in shown.items()}
    assert f"# {tmp_path}/codex-ingestd.toml:1" in text


def test_validate_names_file_line_and_nearest(tmp_path: Path) -> None:
    """It exits with 2; the daemon doesn't start; where all is well it says what it has read."""
    file = tmp_path / "codex-ingestd.toml"
    file.write_text("# settings\nlog-levle = 'info'\n")
    for command in ("run", "config", f"validate {file}"):
        result = shell(f"codex-ingestd {command}", tmp_path)
        assert result.returncode == 2
        assert f"error: {file}:2: log-levle: there is no such key\nhint: Did you mean log-level?\n" in result.stderr
    problems = json.loads(shell("codex-ingestd validate --json", tmp_path).stdout)
    assert problems[0]["place"] == f"{file}:2"
    file.write_text("log-level = 'info'\n")
    assert succeed("codex-ingestd validate", tmp_path) == f"fine: {file}\n"


def test_every_command_goes_by_the_file(tmp_path: Path) -> None:
    """What the daemon's side writes to is what the readers read."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "s.ndjson").write_text('{"message":"hello"}\n')
    (tmp_path / "codex-ingestd.toml").write_text('watch = "logs"\ndb = "kept.db"\n')
    assert "1 new row" in succeed("codex-ingestd once", tmp_path)
    assert "hello" in succeed("codex-logs", tmp_path)
    assert json.loads(shell("codex-ingestd status --json", tmp_path).stdout)["database"] == f"{tmp_path}/kept.db"
    succeed("codex-ingestd verify", tmp_path)
    assert not (tmp_path / ".codex").exists()


def test_the_documented_file_is_sound(tmp_path: Path) -> None:
    """The README's example has every key, and nothing that isn't one."""
    readme = (ROOT / "daemon" / "codex_ingestd" / "README.md").read_text(encoding="utf-8")
    text = readme.partition("<!-- settings -->\n```toml\n")[2].partition("```")[0]
    (tmp_path / "shown.toml").write_text(text)
    succeed("codex-ingestd validate shown.toml", tmp_path, {"GH_COPILOT_BACKUP_ROOT": str(tmp_path)})
    shown = json.loads(succeed("codex-ingestd config --json", tmp_path))
    assert tomllib.loads(text).keys() == shown.keys()


def test_a_reload_reads_the_file_anew(daemon: Daemon, tmp_path: Path) -> None:
    """SIGHUP; a file that can't be used leaves all as it was, and says so."""
    file = tmp_path / "daemon.toml"
    file.write_text('log-level = "warning"\n')
    daemon.start("--config", str(file), ready=False)
    wait_for(lambda: daemon.database.exists() and daemon.status()["watcher"] == "events", what="the daemon to watch")
    file.write_text('log-level = "info"\nhook = "finalize"\n')
    daemon.send(signal.SIGHUP)
    wait_for(lambda: daemon.told("reloaded"), what="the new log level")
    file.write_text('log-level = "loud"\n')
    daemon.send(signal.SIGHUP)
    wait_for(lambda: daemon.told("not reloaded"), what="the refusal")
    assert f"{file}:1: log-level: 'loud' is not one of" in str(daemon.told("not reloaded")[0]["message"])
    (daemon.log_dir / "s.ndjson").write_text('{"type":"session_end"}\n')
    wait_for(lambda: daemon.told("hook ran"), what="the hook of the file before")
    assert daemon.stop() == 0
