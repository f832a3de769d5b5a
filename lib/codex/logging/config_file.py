"""`codex-ingestd.toml`: where it is looked for, and what stands at which line of it. Not for the agent's side."""

from __future__ import annotations

import os
import re
import tomllib
from typing import NamedTuple

from codex.logging.errors import ConfigError

NAME = "codex-ingestd.toml"
VARIABLE = "CODEX_INGESTD_CONFIG"


class Source(NamedTuple):
    """A file that counts, by its absolute path.

    `own` is False for the working folder's: it may have come with a project that somebody else made.
    """

    path: str
    own: bool


class Entry(NamedTuple):
    """A key's value, the file that gives it, and its line, counted from 1."""

    value: object
    source: Source
    line: int

    @property
    def place(self) -> str:
        """For a message."""
        return f"{self.source.path}:{self.line}"


def sources(folder: str, named: str | None = None) -> list[Source]:
    """The files that count, the strongest last: the named one, CODEX_INGESTD_CONFIG's, or the user's and the folder's.

    Only a named one need not be there. Paths that are relative begin in the folder.
    """
    named = named or os.environ.get(VARIABLE)
    if named:
        return [Source(os.path.normpath(os.path.join(folder, os.path.expanduser(named))), own=True)]
    found = {path: Source(path, own=False) for path in (os.path.join(folder, NAME),) if os.path.lexists(path)}
    users = user_path()
    if users is not None and os.path.lexists(users):
        found[users] = Source(users, own=True)
    return list(reversed(found.values()))


def user_path() -> str | None:
    """The user's own file, in XDG_CONFIG_HOME or `~/.config`, there or not; None for a user without a home."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/.config")
    return os.path.join(folder, NAME) if os.path.isabs(folder) else None


def read(source: Source) -> dict[str, Entry]:
    """What stands in a file. Raises ConfigError, with file and line, where it is no TOML or not to be trusted."""
    try:
        with open(source.path, "rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            text = file.read().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{source.path}: {error.strerror}", hint="Name another file with --config.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source.path}:{line}: it is no UTF-8", hint="Save it as UTF-8.") from error
    if not source.own and owner not in (0, os.geteuid()):
        raise ConfigError(
            f"{source.path} belongs to another user",
            hint="Read it, and name it with --config where it may count; or start in another folder.",
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        raise ConfigError(f"{source.path}:{line}: it is no TOML: {error}", hint='Write KEY = "VALUE".') from error
    lines = _lines(text)
    return {key: Entry(value, source, lines.get(key, 1)) for key, value in values.items()}


def _lines(text: str) -> dict[str, int]:
    """The line at which each key first stands, in sound TOML: a statement ends where it can be read by itself."""
    found: dict[str, int] = {}
    statement, begun = "", 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not statement:
            begun = number
        statement += line
        try:
            keys = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        for key in keys:
            found.setdefault(key, begun)
        statement = ""
    return found
