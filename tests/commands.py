"""Run the installed commands as a user's shell would."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
# In front of a command: root without the right to read and write what its permissions forbid.
UNPRIVILEGED = "setpriv --bounding-set=-dac_override,-dac_read_search" if os.geteuid() == 0 else ""


def shell(
    command: str, folder: Path, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The finished command, run by bash in `folder` with the product's commands on the path."""
    variables = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **(env or {})}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def succeed(command: str, folder: Path, env: Mapping[str, str] | None = None) -> str:
    """What the command prints on standard output; it must exit with 0."""
    result = shell(command, folder, env)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def program(text: str) -> str:
    """The command that runs a Python program in an interpreter of its own."""
    return f"python -c {shlex.quote(textwrap.dedent(text))}"


def python(text: str, folder: Path, env: Mapping[str, str] | None = None) -> str:
    """What a Python program prints; it must exit with 0."""
    return succeed(program(text), folder, env)
