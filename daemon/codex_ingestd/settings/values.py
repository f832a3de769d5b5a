"""The daemon's configuration: defaults, then `codex-ingestd.toml`, then the environment, then flags; one frozen answer.

Reading it has no effect: it may be read again at any time, and compared with what is in force.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from codex.logging import config, config_file
from codex.logging.config_file import Entry
from codex.logging.errors import ConfigError
from codex.logging.ingest.formats import named
from codex_ingestd.forward.address import Address as SinkAddress
from codex_ingestd.forward.address import parse, refuse_secrets
from codex_ingestd.hooks.hook import BUILT_IN, chosen
from codex_ingestd.settings.keys import KEYS, OFF, Key

DEFAULT = "default"
_LAST_PORT = 65535


class Root(NamedTuple):
    """A folder to watch, by its absolute path; the format of all its logs, None where each one's first line tells."""

    folder: str
    format: str | None


class Address(NamedTuple):
    """Where the metrics are: a host's name or number, and a port, 0 for any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether no other host can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Settings(NamedTuple):
    """What a daemon goes by. `hook_seconds` and `forward_timeout` are seconds, `verify_rate` MiB a minute,
    `forward_rate` MiB a second, 0 for no limit; `metrics` is None for none, `redact` where nobody says it.
    """

    watch: tuple[Root, ...]
    db: str
    writable_by_others: bool
    finalize: bool
    hook: tuple[str, ...]
    hook_seconds: float
    verify_rate: float
    redact: str | None
    allow_secrets: bool
    log_level: str
    metrics: Address | None
    forward_to: tuple[SinkAddress, ...]
    forward_rate: float
    forward_host_id: str
    forward_timeout: float

    @property
    def folders(self) -> list[str]:
        """What to watch."""
        return [root.folder for root in self.watch]

    @property
    def formats(self) -> dict[str, str]:
        """The format of those folders whose logs are all of one."""
        return {root.folder: root.format for root in self.watch if root.format is not None}

    @property
    def redacts(self) -> bool | None:
        """Whether secrets are taken out; None for as before."""
        return None if self.redact is None else self.redact != OFF

    @property
    def hooks(self) -> list[str]:
        """All that is to run at a session's end."""
        return [*(["finalize"] if self.finalize else []), *self.hook]


class Problem(NamedTuple):
    """A setting that can't be used: the place that gives it, what is wrong, what to do."""

    place: str
    key: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.message}" if self.key else self.message


class Loaded(NamedTuple):
    """The settings, and where each came from: `FILE:LINE`, a variable, a flag, or "default"."""

    settings: Settings
    origins: dict[str, str]


def load(flags: Mapping[str, Any], file: str | None = None, only: Sequence[str] = tuple(KEYS)) -> Loaded:
    """The settings that flags (by key; None where not given), environment and files give together.

    `file` is read in the place of those that are there by themselves. Raises ConfigError for the first problem with
    one of the keys `only`; a problem with another leaves that one at its default.
    """
    loaded, problems = examine(flags, file)
    for problem in problems:
        if problem.key in only or problem.key not in KEYS:
            raise ConfigError(str(problem), hint=problem.hint)
    return loaded


def needs_restart(former: Settings, latter: Settings) -> list[str]:
    """The keys that differ and don't take effect in a daemon that runs."""
    return [key.name for key in KEYS.values() if not key.live and _field(former, key) != _field(latter, key)]


def examine(flags: Mapping[str, Any], file: str | None = None) -> tuple[Loaded, list[Problem]]:
    """As load, with every problem there is; what has one is set as if nobody had set it."""
    problems: list[Problem] = []
    entries = _entries(file, problems)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key in KEYS.values():
        origins[key.name], value = _value(key, flags.get(_name(key)), entries.get(key.name))
        try:
            values[_name(key)] = value()
        except ConfigError as error:
            problems.append(Problem(origins[key.name], key.name, str(error), error.hint))
            origins[key.name], values[_name(key)] = DEFAULT, _unset(key)
    return Loaded(Settings(**values), origins), problems


def _entries(file: str | None, problems: list[Problem]) -> dict[str, Entry]:
    """What the files give: the stronger one's entry of each known key."""
    found: dict[str, Entry] = {}
    for source in config_file.sources(config.absolute(os.curdir), file):
        try:
            entries = config_file.read(source)
        except ConfigError as error:
            problems.append(Problem(source.path, "", str(error), error.hint))
            continue
        for name, entry in entries.items():
            if name in KEYS:
                found[name] = entry
            else:
                problems.append(Problem(entry.place, name, "there is no such key", _nearest(name)))
    return found


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), KEYS, 1)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(KEYS)}."


def _value(key: Key, flag: Any, entry: Entry | None) -> tuple[str, Callable[[], Any]]:
    """What says the most of a key: its place, and the way to the value, which raises ConfigError without the place."""
    if flag is not None and flag != ():
        return f"--{key.name}", lambda: _from_flag(key, flag)
    variable = config.database_variable() if key.name == "db" else next(filter(os.environ.get, key.variables), None)
    if variable is not None:
        return variable, lambda: _from_variable(key, os.environ[variable])
    if entry is not None:
        return entry.place, lambda: _from_entry(key, entry)
    return DEFAULT, lambda: _by_default(key)


def _from_flag(key: Key, given: Any) -> Any:
    value = _from_text(key, given)
    if key.name == "forward-to":
        for address in value:
            refuse_secrets(address)
    return value


def _from_text(key: Key, given: Any) -> Any:
    if key.name == "db":
        return _file(config.resolve_database(given))
    if key.name == "watch":
        return _apart([_root(text, config.absolute(os.curdir)) for text in given])
    if key.name == "hook":
        chosen(given)
        return tuple(given)
    if key.name == "metrics":
        return _address(given)
    if key.name == "forward-to":
        return tuple({address.name: address for address in map(parse, given)}.values())
    try:
        return key.kind.convert(given, None, None)
    except click.BadParameter as error:
        raise ConfigError(error.message, hint=_default_of(key)) from error


def _from_variable(key: Key, text: str) -> Any:
    if key.name == "db":
        return _file(config.environment_database())
    if key.name == "watch":  # the writers take it as it is
        return (Root(_folder(config.resolve_log_dir()), None),)
    return _from_text(key, (text,) if key.several else text)


def _from_entry(key: Key, entry: Entry) -> Any:
    given, path = entry.value, entry.source.path
    if key.name == "db":
        return _file(config.file_database(given, path))
    if key.several:
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            raise ConfigError(f"{entry.value!r} is no list of texts", hint=f'Write {key.name} = ["…", "…"].')
        if key.name == "watch":
            return _apart([_root(text, os.path.dirname(path)) for text in given])
        if not entry.source.own:
            _refuse_elsewhere(key, given)
    elif not _is_of(type(key.default), given):
        word = {bool: "true or false", float: "a number", str: "a text in quotes"}[type(key.default)]
        raise ConfigError(f"{given!r} is not {word}", hint=_default_of(key))
    if key.name == "redact":
        config.file_redacts(entry)
    if key.name == "allow-secrets":
        config.file_allows_secrets(entry)
    if key.name == "writable-by-others":
        config.file_lets_others_write(entry)
    value = _from_text(key, given)
    if key.name == "metrics" and not entry.source.own:
        _refuse_openness(value)
    return value


def _address(text: str) -> Address | None:
    """What `[HOST:]PORT` names, on this host alone where it names none. Raises ConfigError."""
    if text == OFF:
        return None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ConfigError(f"{text!r} is no address", hint="Write 127.0.0.1:9464, or a port alone; off for none.")
    return Address(host or "127.0.0.1", int(port))


def _refuse_openness(address: Address | None) -> None:
    if address is not None and not address.is_loopback:
        raise ConfigError(
            "the working folder's file can't open the metrics to other hosts: it may have come with somebody else's"
            " project",
            hint=_elsewhere(),
        )


def _refuse_elsewhere(key: Key, given: Sequence[str]) -> None:
    """What somebody else's project may not have done: a command run, the record sent away. Raises ConfigError."""
    if key.name == "forward-to":
        raise ConfigError(
            "the working folder's file can't have the record sent elsewhere: it may have come with somebody else's"
            " project",
            hint=_elsewhere(),
        )
    for hook in given:
        if hook not in BUILT_IN:
            raise ConfigError(
                f"the working folder's file can't have {hook!r} run: it may have come with somebody else's project",
                hint=_elsewhere(),
            )


def _elsewhere() -> str:
    return f"Put it into {config_file.user_path()}, or name this file with --config."


def _by_default(key: Key) -> Any:
    if key.name == "watch":
        return (Root(_folder(config.resolve_log_dir()), None),)
    return _file(config.environment_database()) if key.name == "db" else _unset(key)


def _unset(key: Key) -> Any:
    """The default, whatever may be wrong with it."""
    if key.name == "watch":
        return (Root(config.absolute(config.DEFAULT_LOG_DIR), None),)
    if key.name == "metrics":
        return _address(key.default)
    if key.name == "redact":
        return None
    return config.absolute(key.default) if key.name == "db" else key.default


def _is_of(kind: type, value: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _default_of(key: Key) -> str:
    return f"Its default is {key.name} = {json.dumps(key.default)}."


def _apart(roots: Sequence[Root]) -> tuple[Root, ...]:
    """Without those that lie within another one, whose files would be read twice."""
    by_place = {os.path.realpath(root.folder): root for root in reversed(roots)}
    return tuple(
        root
        for place, root in reversed(by_place.items())
        if not any(place.startswith(os.path.join(other, "")) for other in by_place if other != place)
    )


def _root(text: str, base: str) -> Root:
    """What `[FORMAT=]FOLDER` names; a folder that is there under the whole name has no format before it.

    Raises ConfigError for a format that isn't there.
    """
    form, _, rest = text.partition("=")
    if not rest or os.path.exists(os.path.join(base, os.path.expanduser(text))):
        form, rest = "", text
    if form:
        named(form)
    return Root(_folder(config.absolute(os.path.join(base, config.expanded(rest)))), form or None)


def _folder(path: str) -> str:
    """The path itself. Raises ConfigError for what is there and can't be watched."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise ConfigError(f"{path} is no folder", hint="Name the folder that the log lies in.")
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise ConfigError(f"{path} is not readable", hint="Give this user the right to read it.")
    return path


def _file(path: str) -> str:
    """The path itself. Raises ConfigError for a folder."""
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder", hint="Give the path of a *.db file, which need not be there.")
    return path


def _name(key: Key) -> str:
    return key.name.replace("-", "_")


def _field(settings: Settings, key: Key) -> Any:
    return getattr(settings, _name(key))
