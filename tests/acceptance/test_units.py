"""What `install` writes is valid to the systems that read it, and the examples in systemd/ are what it writes."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
from pathlib import Path
from typing import Literal

import pytest

from codex_ingestd.install.units import Job, launchd_plist, systemd_unit
from tests.commands import ROOT, shell, succeed

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
PROGRAM = "/usr/local/bin/codex-ingestd"
USER = Job("codex-ingestd", (PROGRAM, "run"), "/home/me", {}, (), None, "none")
SYSTEM = Job(
    "codex-ingestd",
    (PROGRAM, "run", "--watch", "/home/me/.codex/sessions", "--db", "/var/lib/codex-ingestd/session_logs.db"),
    "/",
    {},
    ("/home/me/.codex/sessions", "/var/lib/codex-ingestd"),
    "me",
    "none",
)
AGENT = USER._replace(folder="/Users/me")
EXAMPLES = {
    "user/codex-ingestd.service": systemd_unit(USER).encode(),
    "system/codex-ingestd.service": systemd_unit(SYSTEM).encode(),
    "org.codex.ingestd.plist": launchd_plist(AGENT, "org.codex.ingestd", "/Users/me/Library/Logs/codex-ingestd.log"),
}
# The types of launchd.plist(5).
LAUNCHD = {
    "Label": str,
    "UserName": str,
    "ProgramArguments": list,
    "WorkingDirectory": str,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Nice": int,
    "Umask": int,
    "SoftResourceLimits": dict,
    "StandardErrorPath": str,
    "StandardOutPath": str,
}


def install(folder: Path, flags: str, variables: str = "") -> str:
    """What `install --print` prints; it must exit with 0."""
    return succeed(f"{variables} codex-ingestd install --print {flags}", folder)


def setting(unit: str, name: str) -> list[str]:
    """The words of a unit's setting, in all its lines, as systemd reads them."""
    lines = [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]
    words = [word for line in lines for word in shlex.split(line)]
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_what_is_made(example: str) -> None:
    """Each file in systemd/ is, to the byte, what the program makes for such a machine."""
    assert (ROOT / "systemd" / example).read_bytes() == EXAMPLES[example]


@needs_systemd
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_accepts_the_unit(tmp_path: Path, scope: str) -> None:
    """systemd-analyze finds nothing to say of what is made for this program, also with names that need quoting."""
    (tmp_path / "a b").mkdir()
    flags = """--watch 'a b' --watch 'claude=100% $HOME "x" \\' --hook 'sh -c "echo $HOME"'"""
    unit = tmp_path / "codex-ingestd.service"
    unit.write_text(install(tmp_path, f"--{scope} --as root {flags}"))
    result = shell(f"systemd-analyze verify --{scope} '{unit}'", tmp_path, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("network", ["none", "loopback"])
def test_the_system_unit_is_rated_safe(tmp_path: Path, network: Literal["none", "loopback"]) -> None:
    """1.5 or better by `systemd-analyze security`, with and without metrics."""
    (tmp_path / "codex-ingestd.service").write_text(systemd_unit(SYSTEM._replace(network=network)))
    succeed("systemd-analyze security --offline=true --threshold=15 ./codex-ingestd.service", tmp_path)


def test_a_user_service_runs_as_here(tmp_path: Path) -> None:
    """In the present folder, with what flags and variables say; what files say is left to them."""
    (tmp_path / "codex-ingestd.toml").write_text('verify-rate = 7\nlog-level = "error"\n')
    unit = install(tmp_path, "--user --watch logs --finalize", "CODEX_LOG_DB_PATH=x/y.db CODEX_LOG_LEVEL=debug")
    command = setting(unit, "ExecStart")
    assert os.path.basename(command[0]) == "codex-ingestd"
    expected = ["--watch", f"{tmp_path}/logs", "--db", f"{tmp_path}/x/y.db", "--finalize", "--log-level", "debug"]
    assert command[1:] == ["run", *expected]
    assert setting(unit, "WorkingDirectory") == [str(tmp_path)]
    assert any(word.startswith("PATH=") for word in setting(unit, "Environment"))


def test_a_system_service_depends_on_no_folder(tmp_path: Path) -> None:
    """Every setting is a flag; a file that is given by name goes along, and is read again at a reload."""
    (tmp_path / "codex-ingestd.toml").write_text("verify-rate = 7\n")
    unit = install(tmp_path, "--system --as root --watch claude=logs --metrics 9464")
    database = "/var/lib/codex-ingestd/session_logs.db"
    expected = ["--watch", f"claude={tmp_path}/logs", "--db", database, "--verify-rate", "7"]
    assert setting(unit, "ExecStart")[2:] == [*expected, "--metrics", "127.0.0.1:9464"]
    assert setting(unit, "IPAddressAllow") == ["localhost"]
    assert setting(unit, "ReadWritePaths") == [f"{tmp_path}/logs", "/var/lib/codex-ingestd"]
    (tmp_path / "other.toml").write_text('watch = "there"\n')
    unit = install(tmp_path, "--system --as root", "CODEX_INGESTD_CONFIG=other.toml")
    assert setting(unit, "ExecStart")[2:] == ["--config", f"{tmp_path}/other.toml", "--db", database]
    assert setting(unit, "ReadWritePaths") == [f"{tmp_path}/there", "/var/lib/codex-ingestd"]


def test_a_repository_stays_writable_for_finalize(tmp_path: Path) -> None:
    """With the finalize hook the walls let git and the backup folder through."""
    (tmp_path / ".git").mkdir()
    unit = install(tmp_path, "--system --as root --finalize --db data/x.db", "GH_COPILOT_BACKUP_ROOT=/backup")
    assert {str(tmp_path), "/backup"} <= set(setting(unit, "ReadWritePaths"))
    assert "GH_COPILOT_BACKUP_ROOT=/backup" in setting(unit, "Environment")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--name 'a/b'", "can't name a service"),
        ("--system --print", "the logs are root's"),
        ("--user --print --watch $'a\\nb'", "can't stand in a service's file"),
        ("--system --as nobody-here-has-this-name", "there is no user"),
    ],
)
def test_what_can_not_be_installed_is_refused(tmp_path: Path, flags: str, said: str) -> None:
    """Exit code 2, a message, and what to do."""
    if "root's" in said and os.geteuid() != 0:
        pytest.skip("not root's")
    result = shell(f"codex-ingestd install {flags}", tmp_path)
    assert (result.returncode, said in result.stderr) == (2, True), result.stderr
    assert "hint: " in result.stderr


@needs_systemd
def test_without_a_manager_it_says_so(tmp_path: Path) -> None:
    """Where no manager answers, exit code 1 and what to do; `uninstall` of what isn't there is fine."""
    home = {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "XDG_CONFIG_HOME": "",
        "DBUS_SESSION_BUS_ADDRESS": "",
    }
    result = shell("codex-ingestd install --user", tmp_path, home)
    assert result.returncode == 1
    assert "--print" in result.stderr
    other = tmp_path / ".config/systemd/user/mine.service"
    other.write_text("[Unit]\n")
    result = shell("codex-ingestd install --user --name mine", tmp_path, home)
    assert (result.returncode, other.read_text()) == (2, "[Unit]\n")
    result = shell("codex-ingestd uninstall --user --name none --json", tmp_path, home)
    assert (result.returncode, '"removed": false' in result.stdout) == (0, True)


def test_launchd_keys_are_its_own() -> None:
    """The property list holds keys of launchd.plist(5) alone, of their types; it is kept alive after failures."""
    for job in (AGENT, SYSTEM):
        plist = plistlib.loads(launchd_plist(job, "org.codex.ingestd", "/tmp/log"))
        assert {key: type(value) for key, value in plist.items()}.items() <= LAUNCHD.items()
        assert plist["ProgramArguments"] == list(job.command)
        assert plist["KeepAlive"] == {"SuccessfulExit": False}
        assert plist.get("UserName") == job.user
