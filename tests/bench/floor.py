"""What the live path is measured against: the least that a process can do between an append and a commit."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import apsw

_IN_MODIFY, _IN_CREATE = 0x2, 0x100
_HEADER = struct.Struct("iIII")
_PR_SET_TIMERSLACK = 29


def sharpen_sleep() -> None:
    """Let this process wake when it asked for, not up to 50 µs later. Linux only; nothing elsewhere."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def commit_lines(folder: Path, database: Path, ready: Event) -> None:
    """For each notification: read what is new, insert its lines, commit. Runs until it is killed.

    No lock, no watermark, no decoding, no checkpoint.
    """
    connection = apsw.Connection(str(database))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    connection.wal_autocheckpoint(0)
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, line TEXT)")

    def commit(data: bytes) -> None:
        connection.execute("BEGIN IMMEDIATE")
        rows = ((line.decode(),) for line in data.splitlines())
        connection.executemany("INSERT INTO rows (line) VALUES (?)", rows)
        connection.execute("COMMIT")

    _follow(folder, commit, ready)


def copy_lines(folder: Path, text: Path, ready: Event) -> None:
    """For each notification: read what is new, and append it to one text file. Runs until it is killed."""
    descriptor = os.open(text, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    _follow(folder, lambda data: os.write(descriptor, data), ready)


def _follow(folder: Path, take: Callable[[bytes], object], ready: Event) -> None:
    """Give `take` the whole lines that are appended to any file of the folder."""
    descriptors: dict[bytes, int] = {}
    begun: dict[bytes, bytes] = {}
    for name in _modified(folder, ready):
        if name not in descriptors:
            descriptors[name] = os.open(os.path.join(os.fsencode(folder), name), os.O_RDONLY)
        data = begun.get(name, b"") + os.read(descriptors[name], 1 << 20)
        end = data.rfind(b"\n") + 1
        begun[name] = data[end:]
        if end:
            take(data[:end])


def _modified(folder: Path, ready: Event) -> Iterator[bytes]:
    """The names of the files in the folder that something was written to, by inotify without a library."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_MODIFY | _IN_CREATE) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    ready.set()
    while True:
        buffer = os.read(descriptor, 1 << 16)
        start = 0
        while start < len(buffer):
            _, _, _, length = _HEADER.unpack_from(buffer, start)
            start += _HEADER.size + length
            yield buffer[start - length : start].rstrip(b"\0")
