"""Which folder, which database, which session: arguments, then variables, then defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex.logging import config
from codex.logging.errors import ConfigError, SessionIdError


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to start in; no path has been used yet."""
    monkeypatch.setattr(config, "_first_seen", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_lie_in_the_working_folder(working_folder: Path) -> None:
    """Nothing set: the seeds' names."""
    assert config.resolve_log_dir() == f"{working_folder}/.codex/sessions"
    assert config.resolve_database() == f"{working_folder}/.codex/session_logs.db"
    assert config.single_log() is None


def test_the_database_is_resolved_in_one_order(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, CODEX_LOG_DB_PATH, CODEX_DB_PATH, the workspace; an empty variable counts as unset."""
    monkeypatch.setenv("GH_COPILOT_WORKSPACE", "/w")
    assert config.resolve_database() == "/w/databases/codex_log.db"
    monkeypatch.setenv("CODEX_DB_PATH", "/b.db")
    assert config.resolve_database() == "/b.db"
    monkeypatch.setenv("CODEX_LOG_DB_PATH", "/a.db")
    assert config.resolve_database() == "/a.db"
    assert config.resolve_database("x.db") == f"{working_folder}/x.db"
    monkeypatch.setenv("CODEX_LOG_DB_PATH", "")
    assert config.resolve_database() == "/b.db"


def test_a_variable_that_names_a_log_names_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite must never be made where agents append."""
    monkeypatch.setenv("CODEX_LOG_DB_PATH", "/a.ndjson")
    monkeypatch.setenv("CODEX_DB_PATH", "/b.db")
    assert config.single_log() == "/a.ndjson"
    assert config.resolve_database() == "/b.db"
    assert config.single_log("/c.db") is None
    assert config.single_log(Path("/c.ndjson")) == "/c.ndjson"
    with pytest.raises(ConfigError, match="not of a database"):
        config.resolve_database("/c.ndjson")


def test_relative_paths_hold_from_first_use_on(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later chdir changes nothing; `..` is taken out."""
    before = config.load("logs", "x/../s.db")
    (working_folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert config.load("logs", "x/../s.db") == before
    assert before == config.Config(f"{working_folder}/logs", f"{working_folder}/s.db")


def test_relative_settings_begin_in_one_folder(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's folder was used before a chdir, the database is asked for after it: they stay together."""
    log_dir = config.resolve_log_dir()
    (working_folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert log_dir == f"{working_folder}/.codex/sessions"
    assert config.resolve_database() == f"{working_folder}/.codex/session_logs.db"
    monkeypatch.setenv("CODEX_DB_PATH", "x.ndjson")
    assert config.single_log() == f"{working_folder}/x.ndjson"


def test_a_home_is_meant_by_a_tilde(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables come from units and .env files too, where no shell expands them."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("CODEX_SESSION_LOG_DIR", "~/logs")
    assert config.resolve_log_dir() == "/home/somebody/logs"


def test_a_path_with_a_nul_is_refused() -> None:
    """A clear error, not one from the depths of the system."""
    with pytest.raises(ConfigError, match="NUL"):
        config.load("a\0b")


@pytest.mark.parametrize(
    "session_id",
    ["s", "0", "_x", "a" * 200, "3a782158-6c3b-4d1e-9a59-4be9a1b1d9a3", "x@host+1=2,~y z", "console", "com10", "a.con"],
)
def test_a_plain_name_is_a_session_id(session_id: str) -> None:
    """It names a file in the folder and only there."""
    assert config.session_path(session_id, "/logs") == f"/logs/{session_id}.ndjson"


@pytest.mark.parametrize(
    "session_id",
    [
        "",
        ".",
        "..",
        "../../x",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "a\0b",
        "a\n",
        "a\x1b[2J",
        pytest.param("a" * 300, id="300 characters"),
        "a" * 201,
        "-rf",
        " a",
        "a ",
        "a.",
        ".hidden",
        "~root",
        "C:x",
        "a*",
        "naïve",
        "ｓ",
        "١",
        "a\u202eb",
        "\ud800",
        "con",
        "CON.txt",
        "nul .x",
        "Com1",
        "lpt9.log",
        None,
        7,
        b"s",
    ],
)
def test_a_hostile_session_id_is_refused(session_id: str) -> None:
    """One short line that says what is wrong, and a hint that says what to do."""
    with pytest.raises(SessionIdError) as caught:
        config.session_path(session_id, "/logs")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
    assert "CODEX_SESSION_ID" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "said"), [("1", True), (" TRUE ", True), ("yes", True), ("", False), ("0", False), ("off", False)]
)
def test_test_mode_is_a_word_for_yes(value: str, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """TEST_MODE=0 is no test mode."""
    monkeypatch.setenv("TEST_MODE", value)
    assert config.test_mode() is said


@pytest.mark.parametrize(
    ("value", "size"),
    [("100000", 100_000), (" 7 ", 7), ("0", 0), ("-1", 0), ("", 0), ("1MB", 0), ("²", 0), ("9" * 5000, 0)],
)
def test_a_rotation_size_that_is_no_number_is_never(value: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad setting can't stop an append."""
    monkeypatch.setenv("NDJSON_MAX_BYTES", value)
    assert config.rotate_bytes() == size


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("0640", 0o640),
        ("0o644", 0o644),
        ("000", 0o600),
        ("044", 0o644),
        ("-1", 0o600),
        ("7777", 0o600),
        ("rw", 0o600),
        ("", 0o600),
    ],
)
def test_a_file_mode_never_shuts_the_owner_out(value: str, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no mode is 0600."""
    monkeypatch.setenv("CODEX_LOG_FILE_MODE", value)
    assert config.file_mode() == mode
