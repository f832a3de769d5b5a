"""`codex-ingestd.toml`: where it is looked for, and what stands at which line of it. Not for the agent's side."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import NamedTuple

from codex.logging.errors import ConfigError
from codex.logging.owners import is_trusted, others_may_write

NAME = "codex-ingestd.toml"
VARIABLE = "CODEX_INGESTD_CONFIG"
_MOST_BYTES = 1 << 16
_MOST_LINES = 1000  # each is read with all of its statement before it


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
        # A named pipe that came with somebody's project must not hang who starts there.
        with open(os.open(source.path, os.O_RDONLY | (0 if source.own else os.O_NONBLOCK)), "rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(_MOST_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{source.path}: {error.strerror}", hint="Name another file with --config.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source.path}:{line}: it is no UTF-8", hint="Save it as UTF-8.") from error
    if stat.S_ISREG(status.st_mode) and others_may_write(status):
        raise ConfigError(f"{source.path}: others than its owner may write to it", hint=f"chmod go-w {source.path}")
    if len(text) > _MOST_BYTES or text.count("\n") > _MOST_LINES:
        most = f"{_MOST_BYTES >> 10} KiB and {_MOST_LINES} lines"
        raise ConfigError(f"{source.path} has more than {most}", hint="Name another file with --config.")
    if not source.own and not is_trusted(status.st_uid):
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
    except RecursionError as error:
        raise ConfigError(f"{source.path}: it is nested too deep", hint='Write KEY = "VALUE".') from error
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
