"""The unit and the property list: texts made of what is to run. The files in systemd/ are examples of these."""

from __future__ import annotations

import os
import plistlib
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from codex.logging.errors import ConfigError

MARK = "Made by `codex-ingestd install`"
STOP_SECONDS = 45
RESTART_SECONDS = 2
_OPEN_FILES = 4096
_UMASK = 0o077
_BUSY_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - those that PrivateTmp= hides
_PLAIN = re.compile(r"[\w@+=:,./-]+", re.ASCII)

_UNIT = f"""\
# {MARK}, which overwrites it. What is to differ goes into a drop-in:
# systemctl {{scope}}edit {{name}}

[Unit]
Description=Carries coding agents' session logs into SQLite
# it is tried again for ever: a full disk may be full for long
StartLimitIntervalSec=0
{{mounts}}
[Service]
Type=notify
ExecStart={{command}}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={{folder}}
{{environment}}{{user}}Restart=on-failure
RestartSec={RESTART_SECONDS}s
# exit codes that a restart doesn't mend: bad configuration, another daemon serves the database
RestartPreventExitStatus=2 3
WatchdogSec=60s
# a new version may have to bring a large database up to date first
TimeoutStartSec=infinity
TimeoutStopSec={STOP_SECONDS}s
KillMode=mixed

MemoryMax=512M
TasksMax=128
LimitNOFILE={_OPEN_FILES}
LimitCORE=0
Nice=5
UMask={_UMASK:04o}

{{walls}}
[Install]
WantedBy={{target}}
"""

# What a user's manager can do everywhere; hooks are the user's own programs, and may need more than this daemon.
_USER_WALLS = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""

_SYSTEM_WALLS = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writes}
{temporary}PrivateDevices=yes
DevicePolicy=closed
PrivateMounts=yes
PrivateUsers=yes
{network}ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""
_NETWORK = {
    "none": "PrivateNetwork=yes\nIPAddressDeny=any\nRestrictAddressFamilies=AF_UNIX\n",
    "loopback": "IPAddressDeny=any\nIPAddressAllow=localhost\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n",
    "all": "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n",
}


class Job(NamedTuple):
    """What is to run: absolute paths. `user` is who a system's service runs as, None for a user's own service.

    `writes` are the folders that it writes to, `network` is whom it speaks with.
    """

    name: str
    command: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    writes: tuple[str, ...]
    user: str | None
    network: Literal["none", "loopback", "all"]


def systemd_unit(job: Job) -> str:
    """The unit file. Raises ConfigError for a name that none can hold."""
    return _UNIT.format(
        scope="" if job.user else "--user ",
        name=job.name,
        mounts=f"RequiresMountsFor={_list(job.writes)}\n" if job.user else "",
        command=" ".join(_quoted(text, dollar="$$") for text in job.command),
        folder=_checked(job.folder).replace("%", "%%"),
        environment="".join(f"Environment={_quoted(f'{key}={job.environment[key]}')}\n" for key in job.environment),
        user=f"User={job.user}\n" if job.user else "",
        walls=_walls(job) if job.user else _USER_WALLS,
        target="multi-user.target" if job.user else "default.target",
    )


def _walls(job: Job) -> str:
    paths = (*job.writes, *job.command, job.folder)
    shares = any(
        os.path.commonpath([path, busy]) == busy for path in paths if path[:1] == "/" for busy in _BUSY_FOLDERS
    )
    return _SYSTEM_WALLS.format(
        writes=_list(job.writes),
        temporary="" if shares else "PrivateTmp=yes\n",
        network=_NETWORK[job.network],
    )


def launchd_plist(job: Job, label: str, log: str) -> bytes:
    """The property list of an agent, or of a daemon where the job has a user; the keys are launchd.plist(5)'s."""
    keys: dict[str, Any] = {
        "Label": label,
        "ProgramArguments": [_checked(text) for text in job.command],
        "WorkingDirectory": _checked(job.folder),
        "EnvironmentVariables": {key: _checked(value) for key, value in job.environment.items()},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": STOP_SECONDS,
        "ProcessType": "Background",
        "Nice": 5,
        "Umask": _UMASK,
        "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES, "Core": 0},
        "StandardErrorPath": _checked(log),
        "StandardOutPath": _checked(log),
    }
    if job.user:
        keys["UserName"] = job.user
    text = plistlib.dumps(keys, sort_keys=False)
    return text.replace(b"<plist ", f"<!-- {MARK}, which overwrites it. -->\n<plist ".encode(), 1)


def _list(paths: Sequence[str]) -> str:
    return " ".join(_quoted(path) for path in paths)


def _quoted(text: str, dollar: str = "$") -> str:
    """One word of a unit's line, as systemd.syntax(7) and systemd.unit(5) read it back."""
    if _PLAIN.fullmatch(_checked(text)):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", dollar)
    return f'"{escaped}"'


def _checked(text: str) -> str:
    """The text itself. Raises ConfigError where no service's file can hold it."""
    if not text.isprintable():
        raise ConfigError(f"{text!r} can't stand in a service's file", hint="Give the folder or the file a plain name.")
    return text
