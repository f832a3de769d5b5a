"""systemd and launchd: where a service's file belongs, and how the manager is told of it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from typing import Protocol

from codex.logging.config import expanded
from codex.logging.errors import CodexLoggingError
from codex_ingestd.install.units import Job, launchd_plist, systemd_unit


class InstallError(CodexLoggingError):
    """The system's service manager could not do what was asked of it."""


class Manager(Protocol):
    """One service of one manager, by its file's `path`.

    `log` is the command that shows what the service says, `state` where the system's services keep their data.
    """

    path: str
    log: str
    state: str

    def content(self, job: Job) -> bytes:
        """The file. Raises ConfigError."""

    def start(self) -> None:
        """Have the file, which is in its place, in force, now and at each start. Raises InstallError."""

    def stop(self) -> None:
        """Stop the service, and start it no more; the file is still there. Raises InstallError."""

    def forget(self) -> None:
        """The file is gone. Raises InstallError."""

    def notes(self) -> list[str]:
        """What a person should know of a service that was started."""


class Systemd:
    """A unit of the system's manager, or of this user's."""

    state = "/var/lib"

    def __init__(self, name: str, *, user: bool) -> None:
        self._name = name
        self._scope = ("--user",) if user else ()
        folder = os.path.join(_configuration(), "systemd", "user") if user else "/etc/systemd/system"
        self.path = os.path.join(folder, f"{name}.service")
        self.log = " ".join(["journalctl", *self._scope, "-u", name])

    def content(self, job: Job) -> bytes:
        return systemd_unit(job).encode()

    def start(self) -> None:
        self._call("daemon-reload")
        self._call("enable", "--quiet", self._name)
        self._call("restart", self._name, hint=f"`{self.log} -n 20` tells why.")

    def stop(self) -> None:
        self._call("disable", "--quiet", "--now", self._name)

    def forget(self) -> None:
        self._call("daemon-reload")

    def notes(self) -> list[str]:
        user = pwd.getpwuid(os.getuid()).pw_name if self._scope else ""
        if not user or os.path.exists(f"/var/lib/systemd/linger/{user}"):
            return []
        return ["it ends when you log out for good: `loginctl enable-linger` keeps it running"]

    def _call(self, *arguments: str, hint: str = "") -> None:
        environment = dict(os.environ)
        runtime = f"/run/user/{os.getuid()}"
        if self._scope and os.path.isdir(runtime):  # su and sudo leave it out
            environment.setdefault("XDG_RUNTIME_DIR", runtime)
        _run(["systemctl", *self._scope, *arguments], hint or self._hint(), environment)

    def _hint(self) -> str:
        if self._scope:
            return "Log in as this user, or have `loginctl enable-linger` start its manager; --print shows the unit."
        return "Run it as root, on a system that systemd has started; --print shows the unit."


class Launchd:
    """An agent of this user's, or a daemon of the system's."""

    state = "/Library/Application Support"

    def __init__(self, name: str, *, user: bool) -> None:
        self._label = "org.codex.ingestd" + ("" if name == "codex-ingestd" else f".{name}")
        self._domain = f"gui/{os.getuid()}" if user else "system"
        library = os.path.join(expanded("~"), "Library") if user else "/Library"
        self.path = os.path.join(library, "LaunchAgents" if user else "LaunchDaemons", f"{self._label}.plist")
        self._file = os.path.join(library, "Logs", f"{name}.log")
        self.log = f"tail -F '{self._file}'"

    def content(self, job: Job) -> bytes:
        return launchd_plist(job, self._label, self._file)

    def start(self) -> None:
        subprocess.run(self._bootout, check=False, capture_output=True)  # noqa: S603 - one that was there before
        _run(["launchctl", "bootstrap", self._domain, self.path], f"`{self.log}` may tell why.")

    def stop(self) -> None:
        _run(self._bootout, "`launchctl print-disabled` and `launchctl list` show what there is.")

    def forget(self) -> None:
        pass

    def notes(self) -> list[str]:
        return []

    @property
    def _bootout(self) -> list[str]:
        return ["launchctl", "bootout", f"{self._domain}/{self._label}"]


def owner(path: str) -> str:
    """Whose the path is, or the nearest folder above it that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    number = os.stat(path).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _configuration() -> str:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    return folder if os.path.isabs(folder) else os.path.join(expanded("~"), ".config")


def _run(command: list[str], hint: str, environment: Mapping[str, str] | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise InstallError(f"there is no {command[0]} here", hint="--print shows the file for another machine.")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or f"it ended with {done.returncode}"
        raise InstallError(f"{' '.join(command)}: {said}", hint=hint)
