"""A throw-away machine under a real systemd: this machine's own root, seen through an overlay, booted in a container.

It takes a second, changes nothing outside, and needs root and Debian's systemd, systemd-container, dbus and
libpam-systemd. What is written inside lives in memory until it is closed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.daemon import wait_for

PROGRAM = "/srv/codex/bin"
NEEDED = ("systemd-nspawn", "nsenter", "unshare", "setpriv", "dbus-daemon")
_NAMESPACE = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
# Within a mount namespace of its own: the overlay, the wheel installed in it, and the boot. An interpreter may lie in
# root's home, where the users of the machine inside could not reach it.
_BOOT = """
set -eu
top=$1 wheel=$2 python=$3
mount -t tmpfs tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
cd "$top/root"
mkdir -p srv
mount --bind srv /srv
"$python" -m venv --without-pip /srv/codex
"$python" -m pip --quiet --python /srv/codex/bin/python install "$wheel"
umount /srv
chmod a+rx root
systemd-id128 new > etc/machine-id
rm -f etc/systemd/system/*.wants/* var/lib/systemd/linger/*
for unit in hwdb-update update-done firstboot binfmt udevd udev-trigger networkd; do
    rm -f "lib/systemd/system/sysinit.target.wants/systemd-$unit.service"
done
cd /
exec systemd-nspawn --quiet --directory="$top/root" --register=no --keep-unit --private-network --link-journal=no \\
    --console=pipe --boot -- systemd.unit=multi-user.target
"""


def missing() -> str:
    """Why no lab can be here; empty where one can."""
    if os.geteuid() != 0:
        return "only root can boot a systemd of its own"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"no {', '.join(lacking)} here: apt-get install systemd-container dbus libpam-systemd"
    done = subprocess.run([*_NAMESPACE, *["mount", "-t", "tmpfs", "tmpfs", "/mnt"]], capture_output=True, text=True)
    return f"nothing may be mounted here: {done.stderr.strip()}" if done.returncode else ""


class NoBootError(Exception):
    """systemd doesn't come up on this machine."""


class Lab:
    """The machine, with the wheel's commands in PROGRAM; `folder` is an empty one of this machine's.

    Raises NoBootError.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        self._console = folder / "console.log"
        top = folder / "top"
        top.mkdir()
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [*_NAMESPACE, "bash", "-c", _BOOT, "boot", str(top), str(wheel), sys.executable],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._leader = 0
        try:
            wait_for(self._has_leader, 300, "a process 1")
            wait_for(self._is_up, 120, "the boot's end")
        except AssertionError as error:
            self.close()
            raise NoBootError(f"{error}; {self._console.read_text('utf-8', 'replace')[-500:]}") from error
        except BaseException:
            self.close()
            raise

    def _has_leader(self) -> bool:
        """Whether systemd runs inside; the process is nspawn by then."""
        assert self._process.poll() is None, "it has ended"
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"/usr/lib/systemd/systemd\0"):
                    self._leader = int(child)
        return self._leader > 0

    def _is_up(self) -> bool:
        """Whether systemd has started all that it is to start."""
        return self.shell("systemctl is-system-running --wait", check=False).strip() in ("running", "degraded")

    def close(self) -> None:
        """Turn it off, at once."""
        if self._leader:
            os.kill(self._leader, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait(30)

    def shell(self, command: str, user: str = "root", *, check: bool = True, given: bytes = b"") -> str:
        """What a shell command prints, run inside as that user; with `check` it must exit with 0."""
        home = "/root" if user == "root" else f"/home/{user}"
        number = 0 if user == "root" else self._number(user)
        variables = {
            "HOME": home,
            "LANG": "C.UTF-8",
            "PATH": f"{PROGRAM}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "XDG_RUNTIME_DIR": f"/run/user/{number}",
        }
        inside = f"nsenter --target={self._leader} --all setpriv --reuid={number} --regid={number} --clear-groups"
        done = subprocess.run(
            [*inside.split(), "sh", "-c", f"cd {home} && {command}"],
            env=variables,
            input=given,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode("utf-8", "replace")

    def _number(self, user: str) -> int:
        lines = Path(f"/proc/{self._leader}/root/etc/passwd").read_text().splitlines()
        return next(int(line.split(":")[2]) for line in lines if line.startswith(f"{user}:"))

    def add_user(self, name: str) -> None:
        """An account with a home, whose own manager runs."""
        self.shell(f"useradd --create-home --user-group {name} && loginctl enable-linger {name}")
        wait_for(lambda: "running" in self.shell("systemctl --user is-system-running", name, check=False), 30)


class Unit:
    """One service of the machine, of the system's manager or of a user's; `user` is whose logs it carries."""

    def __init__(self, lab: Lab, user: str, *, system: bool, database: str) -> None:
        self.lab = lab
        self.user = user
        self.database = database
        self._manager, self._scope = ("root", "") if system else (user, " --user")

    def systemctl(self, *words: str) -> str:
        """What it prints; it must exit with 0."""
        return self.lab.shell(f"systemctl{self._scope} {' '.join(words)}", self._manager)

    def shown(self, name: str) -> str:
        """One of the unit's properties."""
        return self.systemctl("show", "--value", f"--property={name}", "codex-ingestd").strip()

    def journal(self, *words: str) -> str:
        """What the service said, without times."""
        self.lab.shell("journalctl --sync")
        return self.lab.shell(
            f"journalctl{self._scope} -u codex-ingestd -o cat --no-pager {' '.join(words)}", self._manager
        )

    def kill(self, number: signal.Signals) -> None:
        """Send the service's main process a signal."""
        self.lab.shell(f"kill -{number.name[3:]} {self.shown('MainPID')}")

    def append(self, session: str, *messages: str) -> None:
        """One record each, as an agent writes them."""
        lines = b"".join(b'{"role":"user","message":"%s"}\n' % message.encode() for message in messages)
        self.lab.shell(f"cat >> .codex/sessions/{session}.ndjson", self.user, given=lines)

    def messages(self, session: str) -> list[str]:
        """What the product's reader shows of it."""
        query = f"codex-logs --db {shlex.quote(self.database)} --session-id {session}"
        return [line.split("user: ", 1)[1] for line in self.lab.shell(query, self.user, check=False).splitlines()]

    def wait_for_messages(self, session: str, *messages: str) -> None:
        """Until these are there, each once and in order."""
        wait_for(lambda: self.messages(session) == list(messages), 30, f"{messages}")

    def wait_for_ready(self, former: str = "") -> None:
        """Until it is active, in another process than the former one."""
        wait_for(
            lambda: self.shown("ActiveState") == "active" and self.shown("MainPID") not in ("0", former), 60, "READY"
        )
