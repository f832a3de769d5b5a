"""The folders to watch, as a person names them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from codex.logging import config
from codex.logging.errors import ConfigError
from codex.logging.ingest.formats import named


class Root(NamedTuple):
    """A folder to watch, by its absolute path; the format of all its logs, None where each one's first line tells."""

    folder: str
    format: str | None


def default_roots() -> tuple[Root, ...]:
    """Where the writers write. Raises ConfigError for what can't be watched."""
    return (Root(_folder(config.resolve_log_dir()), None),)


def roots(texts: Sequence[str], base: str) -> tuple[Root, ...]:
    """What `[FORMAT=]FOLDER` names each, from the folder `base` on. Raises ConfigError."""
    return _apart([_root(text, base) for text in texts])


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
