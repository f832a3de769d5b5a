"""Other people's programs to measure beside ours: put into the user's cache where they are missing, never elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_DEBS = {
    "rsyslog": ("rsyslog", "libestr0", "libfastjson4", "liblognorm5"),
    "syslog-ng": (
        "syslog-ng-core",
        "syslog-ng-mod-sql",
        "libivykis0",
        "libnet1",
        "libpcre3",
        "libwrap0",
        "libdbi1",
        "libdbd-sqlite3",
    ),
}
_SECONDS = 600


class PeerError(Exception):
    """This program can't be had here; the message says which, and why."""


def python_with(package: str, module: str) -> str:
    """A Python that can import that module, in an environment of its own. Raises PeerError."""
    environment = _cache(package) / f"venv-{sys.version_info.major}.{sys.version_info.minor}"
    python = str(environment / "bin" / "python")
    if not os.path.exists(python):
        _do(package, [sys.executable, "-m", "venv", str(environment)])
    if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
        _do(package, [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", package])
    return python


def unpacked(name: str) -> Path:
    """A folder with that program's Debian packages in it, as they would lie below /. Raises PeerError."""
    folder = _cache(name) / name
    if not folder.exists():
        begun = folder.with_name(f"{name}.begun")
        shutil.rmtree(begun, ignore_errors=True)
        (begun / "packages").mkdir(parents=True)
        _do(name, ["apt-get", "download", "-qq", *_DEBS[name]], begun / "packages")
        for package in sorted((begun / "packages").iterdir()):
            _do(name, ["dpkg-deb", "-x", str(package), str(begun)])
        _bring_drivers_home(begun)
        begun.rename(folder)
    return folder


def _cache(name: str) -> Path:
    """The folder that they are put into. Raises PeerError for that one."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "codex-ingestd-bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PeerError(f"{name}: {folder}: {error.strerror}") from error
    return folder


def _bring_drivers_home(folder: Path) -> None:
    """libdbi looks for its drivers in one folder below /usr that is built in: let it look in `dbd`, where it runs."""
    for drivers in folder.glob("usr/lib/*/dbd"):
        library = drivers.parent / "libdbi.so.1"
        there = b"/%b\0" % bytes(drivers.relative_to(folder))
        library.write_bytes(library.read_bytes().replace(there, b"dbd".ljust(len(there), b"\0")))


def _do(name: str, command: Sequence[str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{name}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PeerError(f"{name}: {said[-1] if said else f'exit {done.returncode}'}")
