"""What is to survive a power cut."""

from __future__ import annotations

import os
from collections.abc import Callable


def sync(path: str) -> None:
    """Have a file's content, or a folder's names, on the disk."""
    _sync(path, os.fsync)


def sync_data(path: str) -> None:
    """Have a file's content on the disk, without its time stamps where the system can tell them apart."""
    _sync(path, getattr(os, "fdatasync", os.fsync))


def _sync(path: str, call: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        call(descriptor)
    finally:
        os.close(descriptor)
