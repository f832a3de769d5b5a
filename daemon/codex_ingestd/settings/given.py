"""What a flag, a variable, a file or nobody says of a key, made into its value."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import click

from codex.logging import config, config_file
from codex.logging.config_file import Entry
from codex.logging.errors import ConfigError
from codex_ingestd.forward import address as sinks
from codex_ingestd.hooks.hook import BUILT_IN, chosen
from codex_ingestd.settings import address as metrics
from codex_ingestd.settings.keys import Key
from codex_ingestd.settings.roots import Root, default_roots, roots

DEFAULT = "default"


def said(key: Key, flag: Any, entry: Entry | None) -> tuple[str, Callable[[], Any]]:
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
            sinks.refuse_secrets(address)
    return value


def _from_text(key: Key, given: Any) -> Any:
    if key.name == "db":
        return _file(config.resolve_database(given))
    if key.name == "watch":
        return roots(given, config.absolute(os.curdir))
    if key.name == "hook":
        chosen(given)
        return tuple(given)
    if key.name == "metrics":
        return metrics.parse(given)
    if key.name == "forward-to":
        return tuple({address.name: address for address in map(sinks.parse, given)}.values())
    try:
        return key.kind.convert(given, None, None)
    except click.BadParameter as error:
        raise ConfigError(error.message, hint=_default_of(key)) from error


def _from_variable(key: Key, text: str) -> Any:
    if key.name == "db":
        return _file(config.environment_database())
    if key.name == "watch":  # the writers take it as it is
        return default_roots()
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
            return roots(given, os.path.dirname(path))
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


def _refuse_openness(address: metrics.Address | None) -> None:
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
        return default_roots()
    return _file(config.environment_database()) if key.name == "db" else unset(key)


def unset(key: Key) -> Any:
    """The default, whatever may be wrong with it."""
    if key.name == "watch":
        return (Root(config.absolute(config.DEFAULT_LOG_DIR), None),)
    if key.name == "metrics":
        return metrics.parse(key.default)
    if key.name == "redact":
        return None
    return config.absolute(key.default) if key.name == "db" else key.default


def _is_of(kind: type, value: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _default_of(key: Key) -> str:
    return f"Its default is {key.name} = {json.dumps(key.default)}."


def _file(path: str) -> str:
    """The path itself. Raises ConfigError for a folder."""
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder", hint="Give the path of a *.db file, which need not be there.")
    return path
