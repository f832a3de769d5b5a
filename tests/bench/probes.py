"""The eyes of `live`: each sees, in another process, which lines have come out of one side."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from typing import Protocol

import apsw

from codex.logging.errors import CodexLoggingError
from codex.logging.store.connection import open_reader, scalar

_SENT = re.compile(rb'"(?:message|text)":"(\d+) ')


class Probe(Protocol):
    """Watches one side's output."""

    def __init__(self, output: Path) -> None: ...

    def fresh(self) -> list[int]:
        """The times that the lines carry which became visible since the last call."""
        ...

    @staticmethod
    def knows(output: Path, count: int) -> bool:
        """Whether that many files' lines have come out by now."""
        ...


class DaemonProbe:
    """Reads the daemon's rows, generation by generation."""

    def __init__(self, database: Path) -> None:
        self._connection = open_reader(str(database))
        self._version = -1
        self._last: dict[int, int] = {}

    def fresh(self) -> list[int]:
        """As Probe."""
        execute = self._connection.execute
        version = scalar(self._connection, "PRAGMA data_version")
        if version == self._version:
            return []
        self._version = version
        if not self._last:
            own = "SELECT g.id FROM generations AS g JOIN streams AS s ON s.id = g.stream WHERE s.path LIKE 'writer-%'"
            self._last = {number: (number + 1 << 40) - 1 for (number,) in execute(own)}
            for number, end in self._last.items():
                query = "SELECT max(id) FROM events WHERE id BETWEEN ? AND ?"
                self._last[number] = scalar(self._connection, query, (number << 40, end))
            return []
        sent = []
        for number, last in self._last.items():
            query = "SELECT id, message FROM events WHERE id > ? AND id < ?"
            for row, message in execute(query, (last, number + 1 << 40)):
                sent.append(int(message.partition(" ")[0]))
                self._last[number] = row
        return sent

    @staticmethod
    def knows(output: Path, count: int) -> bool:
        """As Probe."""
        return _scalar(output, "SELECT count(*) FROM streams WHERE path LIKE 'writer-%'") == count


class LinesProbe:
    """Reads whole lines out of the rows of `floor.commit_lines`, or of syslog-ng."""

    def __init__(self, database: Path) -> None:
        self._connection = open_reader(str(database))
        self._version = -1
        self._last = scalar(self._connection, "SELECT max(rowid) FROM rows")

    def fresh(self) -> list[int]:
        """As Probe."""
        execute = self._connection.execute
        version = scalar(self._connection, "PRAGMA data_version")
        if version == self._version:
            return []
        self._version = version
        sent = []
        for row, line in execute("SELECT rowid, CAST(line AS BLOB) FROM rows WHERE rowid > ?", (self._last,)):
            sent.append(_sent(line))
            self._last = row
        return sent

    @staticmethod
    def knows(output: Path, count: int) -> bool:
        """As Probe."""
        return _scalar(output, "SELECT count(*) FROM rows") == count


class TextProbe:
    """Reads the text file of `floor.copy_lines`, or of rsyslog."""

    def __init__(self, text: Path) -> None:
        self._descriptor = os.open(text, os.O_RDONLY)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self._begun = b""

    def fresh(self) -> list[int]:
        """As Probe."""
        *lines, self._begun = (self._begun + os.read(self._descriptor, 1 << 20)).split(b"\n")
        return [_sent(line) for line in lines]

    @staticmethod
    def knows(output: Path, count: int) -> bool:
        """As Probe."""
        return output.exists() and output.read_bytes().count(b"\n") == count


def _scalar(database: Path, query: str) -> object:
    """One value; None while there is no such table yet."""
    try:
        with closing(open_reader(str(database))) as connection:
            return scalar(connection, query)
    except (apsw.Error, CodexLoggingError):
        return None


def _sent(line: bytes) -> int:
    match = _SENT.search(line)
    assert match is not None
    return int(match[1])
