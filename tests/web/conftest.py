"""A page's real process over the test's database, and a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.browser import CHROMIUM, chromium, is_there
from tests.web.server import Page

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext


@pytest.fixture
def page(database: Path) -> Iterator[Page]:
    """`codex-logs web` over `database`; the test starts it, and it is killed at the end."""
    served = Page(database)
    yield served
    served.kill()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    """Chromium, as wide as a desk's."""
    if not is_there():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with chromium(tmp_path / "browser") as context:
        yield context
    shutil.rmtree(tmp_path / "browser", ignore_errors=True)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots are kept: CODEX_PICTURES, else the test's own folder."""
    folder = Path(os.environ.get("CODEX_PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
