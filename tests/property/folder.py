"""A folder of logs, and what may happen to the files in it."""

from __future__ import annotations

import os
from pathlib import Path

from codex.logging.ingest.sources import locate
from tests.property.model import File

KEYS = ("s.ndjson", "t.ndjson", "below/s.ndjson")


class Folder:
    """The logs' files. Each change gives a time stamp of its own, as if the file system's clock never stood still."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._rests: dict[int, bytes] = {}
        self._lines = self._stamps = 0
        (root / "below").mkdir(parents=True)

    def files(self) -> list[File]:
        """All of them, as they are."""
        found = []
        for path in (path for path in self.root.rglob("*.ndjson*") if path.is_file()):
            location = locate(str(self.root), str(path))
            assert location is not None
            found.append(File(location.key, location.number, path.stat().st_ino, path.read_bytes()))
        return sorted(found)

    def numbers(self, key: str) -> list[int]:
        """Those of the log's files, 0 for the live one."""
        return [file.number for file in self.files() if file.key == key]

    def any(self, which: int) -> Path:
        """One of the files."""
        files = self.files()
        return self.path(*files[which % len(files)][:2])

    def live(self, which: int) -> str:
        """The log of one of the live files."""
        keys = [file.key for file in self.files() if file.number == 0]
        return keys[which % len(keys)] if keys else KEYS[0]

    def path(self, key: str, number: int = 0) -> Path:
        return self.root / (f"{key}.{number}" if number else key)

    def write(self, path: Path, data: bytes, mode: str = "ab") -> None:
        with path.open(mode) as file:
            file.write(data)
        self.stamp(path)

    def stamp(self, path: Path) -> None:
        """Note a change: no two have the same time."""
        self._stamps += 1
        os.utime(path, ns=(0, self._stamps))

    def rename(self, path: Path, target: Path) -> None:
        """As mv does; the time of the inode moves, however coarse the file system's clock is."""
        before = path.stat().st_ctime_ns
        path.rename(target)
        while target.stat().st_ctime_ns == before:
            target.chmod(0o600)

    def shift(self, key: str) -> None:
        """`.1` becomes `.2`, and so on."""
        for number in reversed(self.numbers(key)):
            if number:
                self.rename(self.path(key, number), self.path(key, number + 1))

    def text(self, kinds: list[str]) -> bytes:
        """A line of each kind; all but headers are found nowhere else."""
        return b"".join(self._line(kind) for kind in kinds)

    def _line(self, kind: str) -> bytes:
        self._lines += 1
        number = self._lines
        if kind == "header":
            return b'{"message":"header"}\n'
        one = b'{"message":"%d%s"}' % (number, b" and so on" * (40 if kind == "long" else 0))
        return {"blank": b"", "junk": b"junk %d" % number, "pair": one + one}.get(kind, one) + b"\n"

    def begin(self, path: Path, line: bytes, size: int) -> None:
        """Write a line's first bytes; the rest is for later."""
        self.write(path, line[:size])
        self._rests[path.stat().st_ino] = line[size:]

    def finish(self) -> None:
        """Write what is left of the lines that were begun, wherever their files are by now."""
        for file in self.files():
            if file.inode in self._rests:
                self.write(self.path(file.key, file.number), self._rests.pop(file.inode))
