"""Chromium as the distribution has it, with an empty folder of its own; nothing is fetched to have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def is_there() -> bool:
    """Whether there is a Chromium."""
    return os.path.exists(CHROMIUM)


@contextmanager
def chromium(folder: Path, width: int = 1280, height: int = 860) -> Iterator[BrowserContext]:
    """A browser that keeps its things in the folder, with a window of that size."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(folder),
            executable_path=CHROMIUM,
            args=_ARGUMENTS,
            viewport={"width": width, "height": height},
        )
        context.set_default_timeout(20_000)
        yield context
        context.close()
