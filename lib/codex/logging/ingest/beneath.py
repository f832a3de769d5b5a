"""Open what lies under a root, and only that: whoever may write there can put a link in the place of any name.

A root itself, and what it lies in, are as trusted as the setting that names it. Below it each folder is opened by its
name within the one before, and a link is refused, so that nobody can lead away between a look and what follows it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

# O_NONBLOCK: a named pipe under a log's name must not hang who opens it
FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


def open_beneath(root: str, name: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the file that is called so under the root. Raises OSError: ELOOP for a link in the way."""
    folder, file = os.path.split(name)
    if not folder:
        return os.open(os.path.join(root, name), flags | FILE)
    with folder_beneath(root, folder) as within:
        return os.open(file, flags | FILE, dir_fd=within)


@contextmanager
def folder_beneath(root: str, name: str) -> Iterator[int]:
    """A descriptor of the folder that is called so under the root, to be named as `dir_fd`; "" is the root itself.

    Raises OSError: ELOOP for a link in the way.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for part in name.split(os.sep) if name else ():
            inner = _enter(part, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(name: str, within: int) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=within)
    except NotADirectoryError as error:  # by O_DIRECTORY, which comes before O_NOFOLLOW
        raise OSError(errno.ELOOP, "a link or a file stands in a folder's place", name) from error
