"""`codex-ingestd install` and `uninstall`: this program with these settings, kept running by systemd or launchd."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeVar

import click

from codex.logging import config_file
from codex.logging.address import Address
from codex.logging.config import absolute, refuse_test_mode
from codex.logging.errors import ConfigError
from codex.logging.terminal import json_option, tell, tell_json
from codex_ingestd.forward.address import refuse_secrets
from codex_ingestd.hooks.hook import BUILT_IN
from codex_ingestd.install.managers import InstallError, Launchd, Manager, Systemd, owner
from codex_ingestd.install.units import MARK, Job
from codex_ingestd.settings.command import setting_options
from codex_ingestd.settings.given import DEFAULT
from codex_ingestd.settings.keys import KEYS, OFF
from codex_ingestd.settings.roots import Root
from codex_ingestd.settings.values import Loaded, load

Command = TypeVar("Command", bound=Callable[..., Any])

NAME = "codex-ingestd"
# What a service needs of the installing shell's environment, besides the settings: see finalize.
_CARRIED = ("GH_COPILOT_BACKUP_ROOT", "ALLOW_AUTOLFS")
_NO_NAME = "another name: letters, digits, and . _ - within it"


class _Account(NamedTuple):
    """Who a system's service runs as."""

    name: str
    uid: int
    gid: int


def _place_options(command: Command) -> Command:
    for option in (
        click.option(
            "--name", default=NAME, show_default=True, help="The service's name, where several are to run for one user."
        ),
        click.option("--launchd", is_flag=True, help="For launchd instead of systemd; the default on macOS."),
        click.option(
            "--user/--system",
            "for_user",
            default=None,
            help="For this user, or for the system as a whole.  [default: --system for root, else --user]",
        ),
    ):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd install\n  codex-ingestd install --watch ~/.codex/sessions --db ~/agents.db"
    "\n  sudo codex-ingestd install --system --watch /home/me/.codex/sessions"
    "\n  codex-ingestd install --launchd --print"
)
@_place_options
@click.option("--as", "account", metavar="USER", help="Who a --system service runs as.  [default: the logs' owner]")
@click.option("--print", "only_print", is_flag=True, help="Print the file, and change nothing.")
@setting_options(*KEYS)
@json_option
def install(
    for_user: bool | None,
    launchd: bool,
    name: str,
    account: str | None,
    only_print: bool,
    as_json: bool,
    file: str | None,
    **flags: Any,
) -> int:
    """Have this program run as a service with these settings, now and from each start on; or bring it up to date.

    A --user service runs in the present folder, and finds its `codex-ingestd.toml` as `run` does here. A --system
    service is walled in: it can write to its folders, and nowhere else.

    Exit codes: 0 it runs, 1 it does not, 2 bad usage.
    """
    for_user = os.geteuid() != 0 if for_user is None else for_user
    manager = _manager(name, for_user, launchd)
    file = file or os.environ.get(config_file.VARIABLE)
    loaded = load(flags, file)
    job = _user_job(name, loaded, file) if for_user else _system_job(name, loaded, file, account, manager.state)
    content = manager.content(job)
    if only_print:
        click.echo(content.decode(), nl=False)
        return 0
    refuse_test_mode()
    _refuse_others_file(manager)
    if job.user:
        _prepare(job, manager)
    _write(manager.path, content)
    manager.start()
    if as_json:
        tell_json({"file": manager.path, "command": job.command, "user": job.user, "log": manager.log})
        return 0
    tell(f"it runs, and starts again by itself: {manager.path}")
    tell(f"what it says: {manager.log}")
    tell(f"to end it for good: codex-ingestd uninstall{'' if name == NAME else f' --name {name}'}")
    for note in manager.notes():
        tell(note, err=True)
    return 0


@click.command(epilog="\b\nExamples:\n  codex-ingestd uninstall\n  sudo codex-ingestd uninstall --system")
@_place_options
@json_option
def uninstall(for_user: bool | None, launchd: bool, name: str, as_json: bool) -> int:
    """Stop the service and remove its file; logs and database stay.

    Exit codes: 0 it is gone, or never was there; 1 it could not be stopped; 2 bad usage.
    """
    refuse_test_mode()
    manager = _manager(name, os.geteuid() != 0 if for_user is None else for_user, launchd)
    there = os.path.exists(manager.path)
    if there:
        _refuse_others_file(manager)
        manager.stop()
        os.unlink(manager.path)
        manager.forget()
    if as_json:
        tell_json({"file": manager.path, "removed": there})
    else:
        tell(f"{'removed' if there else 'there is no'} {manager.path}")
    return 0


def _manager(name: str, for_user: bool, launchd: bool) -> Manager:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(f"{name!r} can't name a service", hint=f"Give --name {_NO_NAME}.")
    kind = Launchd if launchd or sys.platform == "darwin" else Systemd
    return kind(name, user=for_user)


def _user_job(name: str, loaded: Loaded, file: str | None) -> Job:
    """What `run` would do here: the same folder, and as flags what a flag or a variable says now."""
    flags = _flags(
        loaded, [key for key, origin in loaded.origins.items() if origin != DEFAULT and not _is_file(origin)]
    )
    config = ["--config", absolute(file)] if file else []
    command = (*_program(), "run", *config, *flags)
    return Job(name, command, os.getcwd(), _environment(loaded), _writes(loaded), None, _network(loaded))


def _system_job(name: str, loaded: Loaded, file: str | None, account: str | None, state: str) -> Job:
    """The same from any folder and for another user: every setting is a flag, but what a file given by name says."""
    if loaded.origins["db"] == DEFAULT:
        database = os.path.join(state, name, "session_logs.db")
        loaded = loaded._replace(settings=loaded.settings._replace(db=database))
    said = [key for key, origin in loaded.origins.items() if origin != DEFAULT and not (file and _is_file(origin))]
    named = {"watch", "db"} if not file else {key for key in ("watch", "db") if loaded.origins[key] == DEFAULT}
    flags = _flags(loaded, [key for key in loaded.origins if key in said or key in named])
    config = ["--config", absolute(file)] if file else []
    user = account or owner(loaded.settings.folders[0])
    if user == "root" and account is None:
        raise ConfigError("the logs are root's", hint="Name who the service is to run as with --as; it may be root.")
    command = (*_program(), "run", *config, *flags)
    return Job(name, command, "/", _environment(loaded), _writes(loaded), user, _network(loaded))


def _is_file(origin: str) -> bool:
    """Whether a setting came from a file, which the service reads for itself."""
    return ":" in origin


def _program() -> list[str]:
    """How this program was called, by a path that stays when it is upgraded in its place."""
    called = os.path.abspath(shutil.which(sys.argv[0]) or sys.argv[0])
    return [called] if os.path.basename(called) == NAME else [sys.executable, "-m", "codex_ingestd.cli"]


def _flags(loaded: Loaded, keys: list[str]) -> list[str]:
    """These settings on a command line, paths absolute."""
    flags: list[str] = []
    for key in keys:
        value = getattr(loaded.settings, key.replace("-", "_"))
        if isinstance(value, bool):
            flags.append(f"--{key}" if value else f"--no-{key}")
            continue
        for one in value if KEYS[key].several else (value,):
            flags += [f"--{key}", _text(one)]
    return flags


def _text(value: object) -> str:
    if isinstance(value, Address):
        refuse_secrets(value)
        return value.url
    if isinstance(value, Root):
        return f"{value.format}={value.folder}" if value.format else value.folder
    if isinstance(value, float):
        return f"{value:g}"
    return OFF if value is None else str(value)


def _environment(loaded: Loaded) -> dict[str, str]:
    """With hooks also where their programs are found."""
    names = (*_CARRIED, "PATH") if loaded.settings.hooks else _CARRIED
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _writes(loaded: Loaded) -> tuple[str, ...]:
    """The folders that it writes to: the watched ones (its sentinel), the database's, and those of finalized copies."""
    settings = loaded.settings
    places = [*settings.folders, os.path.dirname(settings.db)]
    if any(hook in BUILT_IN for hook in settings.hooks):
        places += [place for place in (_repository(settings.db), os.environ.get("GH_COPILOT_BACKUP_ROOT")) if place]
    return tuple(dict.fromkeys(os.path.abspath(place) for place in places))


def _repository(path: str) -> str | None:
    """The folder of the git repository that holds the path, if one does."""
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        if os.path.exists(os.path.join(path, ".git")):
            return path
    return None


def _network(loaded: Loaded) -> Literal["none", "loopback", "all"]:
    address = loaded.settings.metrics
    if loaded.settings.forward_to:
        return "all"
    if address is None:
        return "none"
    return "loopback" if address.is_loopback else "all"


def _refuse_others_file(manager: Manager) -> None:
    with suppress(FileNotFoundError), open(manager.path, "rb") as file:
        if MARK.encode() not in file.read():
            raise ConfigError(
                f"{manager.path} was not made by `codex-ingestd install`",
                hint="Move it away, or choose another --name.",
            )


def _prepare(job: Job, manager: Manager) -> None:
    """What a system's service needs before its start: its folders, and a program that its user can run.

    Folders are made with that user's own rights: where he may write, he may also put a link.
    """
    if os.geteuid() != 0:
        raise ConfigError("a --system service is root's to install", hint="Use sudo, or --user.")
    account = _account(str(job.user))
    _as(account, [*job.command[: job.command.index("run")], "--version"])
    for folder in job.writes:
        if os.path.dirname(folder) == manager.state and not os.path.exists(folder):
            os.makedirs(folder, mode=0o700)
            os.chown(folder, account.uid, account.gid)
        _as(account, ["mkdir", "-p", "-m", "700", folder])


def _account(name: str) -> _Account:
    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError as error:
        raise ConfigError(f"there is no user {name}", hint="Name one with --as.") from error
    return _Account(found.pw_name, found.pw_uid, found.pw_gid)


def _as(account: _Account, command: list[str]) -> None:
    """Run a command as that user. Raises InstallError."""
    ids: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, check=False, **ids)  # noqa: S603
        said = "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip() or "it fails"
    except OSError as error:
        said = str(error.strerror)
    if said:
        raise InstallError(
            f"{account.name} can't run `{' '.join(command)}`: {said}",
            hint="Give that user the rights, or choose other folders, another --as, another place for the program.",
        )


def _write(path: str, content: bytes) -> None:
    """Put the file in its place as a whole. Raises InstallError."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".codex-ingestd-", dir=folder)
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(part, path)
    except OSError as error:
        raise InstallError(f"{path}: {error.strerror}", hint="--print shows the file without writing it.") from error
