"""The file that something is written to: there whole, or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from codex.logging.errors import ConfigError


@contextmanager
def target(path: str | None, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write, mode 0600, that takes its name when the block ends well; standard output for None and `-`.

    Raises ConfigError when the name is taken and `force` isn't given, or can't be made.
    """
    if path in (None, "-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    assert path is not None
    _refuse_taken(path, force)
    folder, name = os.path.split(os.path.abspath(path))
    try:
        number, made = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".part", dir=folder)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="Choose another place with --output.") from error
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _name(made, path, force)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(made)


def _name(made: str, path: str, force: bool) -> None:
    """Give the file its name; a link fails where it was taken meanwhile, which a rename doesn't."""
    if not force:
        try:
            os.link(made, path)
            return
        except OSError:
            _refuse_taken(path, force)  # else this file system has no hard links
    os.replace(made, path)


def _refuse_taken(path: str, force: bool) -> None:
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder", hint="Name a file in it.")
    if os.path.lexists(path) and not force:
        raise ConfigError(f"{path} is already there", hint="Choose another name, or replace it with --force.")
