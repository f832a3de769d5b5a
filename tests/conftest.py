"""Fixtures, few and named after nouns. Every test works in a folder and an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from codex.logging import config
from codex.logging.store.sqlite import Store
from tests.daemon import Daemon

_VARIABLES = (
    "CODEX_SESSION_ID",
    "SESSION_ID_SOURCE",
    "CODEX_SESSION_LOG_DIR",
    "CODEX_LOG_DB_PATH",
    "CODEX_DB_PATH",
    "GH_COPILOT_WORKSPACE",
    "GH_COPILOT_BACKUP_ROOT",
    "NDJSON_MAX_BYTES",
    "TEST_MODE",
    "ALLOW_AUTOLFS",
    "CODEX_ALLOW_SECRETS",
    "CODEX_REDACT",
    "CODEX_WRITABLE_BY_OTHERS",
    "CODEX_LOG_FILE_MODE",
    "CODEX_LOG_LEVEL",
    "CODEX_FINALIZE",
    "CODEX_HOOK",
    "CODEX_HOOK_SECONDS",
    "CODEX_METRICS",
    "CODEX_FORWARD_TO",
    "CODEX_FORWARD_MIB_PER_SECOND",
    "CODEX_FORWARD_HOST_ID",
    "CODEX_FORWARD_TIMEOUT",
    "CODEX_VERIFY_MIB_PER_MINUTE",
    "CODEX_INGESTD_CONFIG",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run what takes minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: --long"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """None of the product's variables are set, the user has no file of settings, no relative path was used yet."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setattr(config, "_first_seen", {})
    return monkeypatch


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    """An empty folder for session files."""
    folder = tmp_path / "sessions"
    folder.mkdir()
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "session_logs.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    """An open, empty store."""
    with closing(Store(str(database))) as opened:
        yield opened


@pytest.fixture
def daemon(log_dir: Path, database: Path) -> Iterator[Daemon]:
    """A daemon process for `log_dir` and `database`; the test starts it, and it is killed at the end."""
    process = Daemon(log_dir, database)
    yield process
    process.kill()
