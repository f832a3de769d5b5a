"""Defaults, then files, then the environment, then flags; and where each setting came from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codex.logging import config
from codex.logging.errors import ConfigError
from codex_ingestd.settings.keys import KEYS
from codex_ingestd.settings.roots import Root
from codex_ingestd.settings.values import Problem, examine, load, needs_restart

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away: root only")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def project(folder: Path) -> Path:
    """The working folder's file, not there yet."""
    return folder / "codex-ingestd.toml"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The user's own file, not there yet."""
    (tmp_path / ".config").mkdir()
    return tmp_path / ".config" / "codex-ingestd.toml"


def problems(*arguments: object) -> list[Problem]:
    """What `validate` finds."""
    return examine({}, *map(str, arguments))[1]


def test_each_place_outdoes_the_one_before(project: Path, users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, the user's file, the working folder's, a variable, a flag; each is told by where it stands."""

    def level(**flags: object) -> tuple[str, str]:
        settings, origins = load(flags)
        return settings.log_level, origins["log-level"]

    assert level() == ("info", "default")
    users.write_text('verify-rate = 1\nlog-level = "error"\n')
    assert level() == ("error", f"{users}:2")
    project.write_text('# ours\n\nlog-level = "warning"\n')
    assert level() == ("warning", f"{project}:3")
    assert load({}).settings.verify_rate == 1.0
    monkeypatch.setenv("CODEX_LOG_LEVEL", "debug")
    assert level() == ("debug", "CODEX_LOG_LEVEL")
    assert level(log_level="info") == ("info", "--log-level")
    monkeypatch.setenv("CODEX_LOG_LEVEL", "")
    assert level() == ("warning", f"{project}:3")


def test_a_named_file_counts_alone(project: Path, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --config or CODEX_INGESTD_CONFIG; it must be there."""
    for path in (project, users):
        path.write_text("verify-rate = 1")
    named = tmp_path / "named.toml"
    named.write_text("hook-seconds = 2")
    monkeypatch.setenv("CODEX_INGESTD_CONFIG", str(named))
    settings = load({}).settings
    assert (settings.verify_rate, settings.hook_seconds) == (32.0, 2.0)
    with pytest.raises(ConfigError, match="No such file"):
        load({}, "missing.toml")


def test_every_key_can_be_set_in_each_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the file is the flag's name, and has a variable."""
    values: dict[str, tuple[object, str, object]] = {
        "watch": (["a"], "b", ("c",)),
        "db": ("a.db", "b.db", "c.db"),
        "writable-by-others": (True, "yes", True),
        "finalize": (True, "yes", True),
        "hook": (["finalize"], "archive --now", ("finalize",)),
        "hook-seconds": (1, "2.5", 3.0),
        "verify-rate": (0, "2", 3.0),
        "redact": ("ingest", "off", "ingest"),
        "allow-secrets": (True, "no", True),
        "log-level": ("debug", "error", "warning"),
        "metrics": (":9464", "[::1]:9464", "off"),
        "forward-to": (["postgresql://a/b"], "postgresql://u:p@c/d", ("postgresql:///e",)),
        "forward-rate": (0.5, "2", 3.0),
        "forward-host-id": ("a", "b", "c"),
        "forward-timeout": (5, "2.5", 3.0),
    }
    assert values.keys() == KEYS.keys()
    for name, (written, text, flag) in values.items():
        file = folder / "one.toml"
        toml = str(written).lower() if isinstance(written, bool) else repr(written)
        file.write_text(f"{name} = {toml}")
        assert load({}, str(file)).origins[name] == f"{file}:1"
        monkeypatch.setenv(KEYS[name].variables[0], text)
        assert load({}, str(file)).origins[name] == KEYS[name].variables[0]
        assert load({name.replace("-", "_"): flag}, str(file)).origins[name] == f"--{name}"


def test_paths_in_a_file_begin_in_its_folder(folder: Path, users: Path) -> None:
    """Wherever the daemon was started; a tilde is the home; what lies in another root is that root's."""
    users.write_text('db = "x/logs.db"\nwatch = ["logs", "claude=~/transcripts", "logs/below"]')
    settings = load({}).settings
    assert settings.db == f"{users.parent}/x/logs.db"
    assert settings.watch == (
        Root(f"{users.parent}/logs", None),
        Root(os.path.expanduser("~/transcripts"), "claude"),
    )
    assert config.resolve_database() == settings.db


def test_readers_find_the_database_that_the_file_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One resolution for every command; the agents' own part never opens a file for it."""
    project.write_text('db = "ours.db"')
    assert config.resolve_database() == str(project.with_name("ours.db"))
    assert config.resolve_log_dir() == f"{project.parent}/.codex/sessions"
    monkeypatch.setenv("GH_COPILOT_WORKSPACE", "/w")
    assert config.resolve_database() == load({}).settings.db == "/w/databases/codex_log.db"
    assert load({}).origins["db"] == "GH_COPILOT_WORKSPACE"
    monkeypatch.delenv("GH_COPILOT_WORKSPACE")
    project.write_text('\ndb = "x.ndjson"')
    with pytest.raises(ConfigError, match=rf"{project}:2: db: .*no name of a database"):
        config.resolve_database()


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("\nverify-rte = 1", 2, "verify-rte: there is no such key", "Did you mean verify-rate?"),
        ("log_level = 'info'", 1, "log_level: there is no such key", "Did you mean log-level?"),
        ("[table]\nx = 1", 1, "table: there is no such key", "There are watch,"),
        ('hook = [\n "finalize",\n]\nlog-level = "loud"', 4, "'loud' is not one of", 'log-level = "info"'),
        ("# é\nlog-level = 5", 2, "5 is not a text", 'log-level = "info"'),
        ("finalize = 'yes'", 1, "'yes' is not true or false", "finalize = false"),
        ("verify-rate = true", 1, "True is not a number", "verify-rate = 32.0"),
        ("verify-rate = -1", 1, "-1.0 is not in the range x>=0", "verify-rate = 32.0"),
        ("hook-seconds = 0", 1, "x>0", "hook-seconds = 60.0"),
        ("watch = [1]", 1, "[1] is no list of texts", 'watch = ["…", "…"]'),
        ("watch = 'nix=logs'", 1, "no format is called 'nix'", "claude"),
        ("watch = 'codex-ingestd.toml'", 1, "is no folder", "folder that the log lies in"),
        ("db = '.'", 1, "is a folder", "*.db"),
        ('hook = "curl x | sh"', 1, "somebody else's project", "--config"),
        ("hook = 'archive'", 1, "no place to go", "GH_COPILOT_BACKUP_ROOT"),
        ("metrics = 'here'", 1, "'here' is no address", "127.0.0.1:9464"),
        ("metrics = ':65536'", 1, "':65536' is no address", "127.0.0.1:9464"),
        ("metrics = '0.0.0.0:9464'", 1, "somebody else's project", "--config"),
        ("\n\nx = ", 3, "no TOML", 'KEY = "VALUE"'),
        ("a = 1\nb = [1,\n\n", 2, "no TOML", 'KEY = "VALUE"'),
        ("a = '\udcff'", 1, "no UTF-8", "UTF-8"),
    ],
)
def test_what_cant_be_used_is_told_with_its_line(project: Path, text: str, line: int, message: str, hint: str) -> None:
    """And with what to do; the other keys are read all the same."""
    project.write_bytes(text.encode("utf-8", "surrogateescape"))
    found = [problem for problem in problems() if message in str(problem)]
    assert len(found) == 1
    assert str(found[0]).startswith(f"{project}:{line}: ")
    assert hint in found[0].hint
    with pytest.raises(ConfigError):
        load({})


def test_all_problems_are_told_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and environment; a command that needs none of these keys goes on."""
    project.write_text("verify-rate = -1\nhook-seconds = 0\n")
    monkeypatch.setenv("CODEX_FINALIZE", "perhaps")
    assert [problem.place for problem in problems()] == ["CODEX_FINALIZE", f"{project}:2", f"{project}:1"]
    assert load({}, only=("watch", "db")).settings.db.endswith("/.codex/session_logs.db")


def test_a_command_from_the_users_own_file_is_run(users: Path, project: Path) -> None:
    """As from a file that is named; the working folder's own may name what comes with the daemon."""
    project.write_text("hook-seconds = 5")
    users.write_text('hook = "notify-send done"')
    assert load({}).settings.hooks == ["notify-send done"]
    project.write_text('hook = "touch x"')
    assert load({}, str(project)).settings.hooks == ["touch x"]
    project.write_text('hook = "finalize"')
    assert load({}).settings.hooks == ["finalize"]


@needs_root
def test_a_file_of_another_user_counts_only_when_named(project: Path) -> None:
    """A folder that others may write to must not change what the daemon does."""
    project.write_text("verify-rate = 1")
    os.chown(project, 12345, -1)
    assert ["another user" in str(problem) for problem in problems()] == [True]
    assert problems(project) == []


def test_what_changes_without_a_restart(folder: Path) -> None:
    """All but the database and the address of the metrics."""
    former = load({}).settings
    latter = load({"watch": ("x",), "hook": ("finalize",), "verify_rate": 1.0, "log_level": "debug"}).settings
    assert needs_restart(former, latter) == []
    assert needs_restart(former, load({"db": "x.db", "metrics": "9464"}).settings) == ["db", "metrics"]


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("9464", "127.0.0.1:9464", True),
        (":0", "127.0.0.1:0", True),
        ("localhost:9464", "localhost:9464", True),
        ("[::1]:9464", "[::1]:9464", True),
        ("127.9.9.9:1", "127.9.9.9:1", True),
        ("0.0.0.0:9464", "0.0.0.0:9464", False),
        ("[::]:9464", "[::]:9464", False),
        ("example.org:9464", "example.org:9464", False),
    ],
)
def test_metrics_stay_on_this_host_unless_told(text: str, address: str, is_loopback: bool) -> None:
    """A port alone is this host's."""
    metrics = load({"metrics": text}).settings.metrics
    assert metrics is not None
    assert (str(metrics), metrics.is_loopback) == (address, is_loopback)
