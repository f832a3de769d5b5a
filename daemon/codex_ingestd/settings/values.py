"""The daemon's configuration: defaults, then `codex-ingestd.toml`, then the environment, then flags; one frozen answer.

Reading it has no effect: it may be read again at any time, and compared with what is in force.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from codex.logging import config, config_file
from codex.logging.address import Address as SinkAddress
from codex.logging.config_file import Entry
from codex.logging.errors import ConfigError
from codex_ingestd.settings.address import Address
from codex_ingestd.settings.given import DEFAULT, said, unset
from codex_ingestd.settings.keys import KEYS, OFF
from codex_ingestd.settings.roots import Root


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
        if self.place in (f"--{self.key}", f"CODEX_{self.key.replace('-', '_').upper()}"):  # it says the key already
            return f"{self.place}: {self.message}"
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
    keys = [key for key in KEYS.values() if not key.live]
    return [key.name for key in keys if getattr(former, key.field) != getattr(latter, key.field)]


def examine(flags: Mapping[str, Any], file: str | None = None) -> tuple[Loaded, list[Problem]]:
    """As load, with every problem there is; what has one is set as if nobody had set it."""
    problems: list[Problem] = []
    entries = _entries(file, problems)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key in KEYS.values():
        origins[key.name], value = said(key, flags.get(key.field), entries.get(key.name))
        try:
            values[key.field] = value()
        except ConfigError as error:
            problems.append(Problem(origins[key.name], key.name, str(error), error.hint))
            origins[key.name], values[key.field] = DEFAULT, unset(key)
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
