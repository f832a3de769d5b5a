"""The service files are valid to the systems that read them."""

from __future__ import annotations

import plistlib
import shutil
from pathlib import Path

import pytest

from tests.commands import ROOT, shell

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to say of the user unit."""
    unit = ROOT / "systemd" / "codex-ingestd.service"
    result = shell(f"systemd-analyze verify --user '{unit}'", tmp_path, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")


def test_launchd_plist_parses() -> None:
    """The agent is a property list that runs the daemon and keeps it alive."""
    plist = plistlib.loads((ROOT / "systemd" / "org.codex.ingestd.plist").read_bytes())
    assert plist["Label"] == "org.codex.ingestd"
    assert plist["ProgramArguments"][1] == "run"
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
