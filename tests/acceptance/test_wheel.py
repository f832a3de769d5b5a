"""The wheel, installed away from the checkout, is the whole product."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from tests.commands import ROOT, succeed


def test_wheel_holds_both_roots_and_the_schema(wheel: Path) -> None:
    """`lib/` and `daemon/` are both in it, with the SQL and the type markers, and nothing else is."""
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("lib", "daemon"):
        sources = (path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.*"))
        assert {str(path) for path in sources if path.suffix in {".py", ".sql", ".sh", ".typed"}} <= set(names)
    assert "codex/__init__.py" not in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"codex", "codex_ingestd"}


def test_commands_run_from_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """All three commands work, installed in an environment that knows nothing of the checkout."""
    succeed(f"'{sys.executable}' -m venv env && env/bin/pip install --quiet '{wheel}'", tmp_path)
    write = "from codex.logging import log_event; log_event('s1', 'user', 'hello')"
    succeed(f'env/bin/python -I -c "{write}"', tmp_path)
    assert "1 new row" in succeed("env/bin/codex-ingestd once", tmp_path)
    assert "0 new rows" in succeed("env/bin/codex-import-ndjson --all", tmp_path)
    assert "user: hello" in succeed("env/bin/codex-logs --tail 1", tmp_path)
