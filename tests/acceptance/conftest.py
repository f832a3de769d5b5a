"""The wheel, built once for each worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, succeed


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    succeed(f"'{sys.executable}' -m pip wheel --quiet --no-deps --wheel-dir . '{ROOT}'", folder)
    return next(folder.glob("*.whl"))
