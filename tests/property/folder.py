"""A folder of logs, and what may happen to the files in it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import zstandard

from codex.logging.ingest.sources import locate
from tests.property.model import File

KEYS = ("s.ndjson", "t.ndjson", "below/s.ndjson")
ZST = ".zst"


class Folder:
    """The logs' files. Each change gives a time stamp of its own, as if the file system's clock never stood still."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parked: list[Path] = []
        self._rests: dict[int, bytes] = {}
        self._lines = self._stamps = 0
        (root / "below").mkdir(parents=True)

    def files(self) -> list[File]:
        """All of them, as they are; a compressed one counts where no plain one is."""
        found = []
        for path in (path for path in self.root.rglob("*.ndjson*") if path.is_file()):
            location = locate(str(self.root), str(path))
            assert location is not None
            if not location.packed or not self.path(location.key).exists():
                found.append(File(location.key, location.number, path.stat().st_ino, self.read(path)))
        return sorted(found)

    def numbers(self, key: str) -> list[int]:
        """Those of the log's files, 0 for the live one."""
        return [file.number for file in self.files() if file.key == key]

    def any(self, which: int) -> Path:
        """One of the files."""
        files = self.files()
        return self.place(*files[which % len(files)][:2])

    def live(self, which: int) -> str:
        """The log of one of the live files that are plain."""
        return self._one(which, [file.key for file in self.files() if not file.number and self.path(file.key).exists()])

    def packed(self, which: int) -> str:
        """The log of one of the live files that are compressed."""
        return self._one(which, [file.key for file in self.files() if self.place(file.key, file.number).suffix == ZST])

    def _one(self, which: int, keys: list[str]) -> str:
        return keys[which % len(keys)] if keys else ""

    def path(self, key: str, number: int = 0) -> Path:
        return self.root / (f"{key}.{number}" if number else key)

    def place(self, key: str, number: int = 0) -> Path:
        """Where a file is: a live one may be compressed."""
        path = self.path(key, number)
        return path if number or path.exists() else Path(f"{path}{ZST}")

    def read(self, path: Path) -> bytes:
        """A file's text."""
        data = path.read_bytes()
        if path.suffix != ZST:
            return data
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()

    def write(self, path: Path, data: bytes, mode: str = "ab") -> None:
        """Write to a file; to a compressed one as a frame of its own."""
        with path.open(mode) as file:
            file.write(zstandard.compress(data) if path.suffix == ZST else data)
        self.stamp(path)

    def stamp(self, path: Path) -> None:
        """Note a change: no two have the same time."""
        self._stamps += 1
        os.utime(path, ns=(0, self._stamps))

    def pack(self, key: str) -> None:
        """Compress the live file beside itself, as an agent does."""
        self._publish(self.read(self.path(key)), Path(f"{self.path(key)}{ZST}"))

    def unpack(self, key: str) -> None:
        """The plain file, as it was, beside the compressed one."""
        self._publish(self.read(self.place(key)), self.path(key))

    def _publish(self, data: bytes, target: Path) -> None:
        part = self.root / f"part{target.suffix}"
        self.write(part, data)
        self.rename(part, target)

    def park(self, path: Path) -> None:
        """Delete a file in such a way that its inode can be had again."""
        self.parked.append(self.root.parent / f"parked{path.stat().st_ino}")
        path.rename(self.parked[-1])

    def recreate(self, path: Path, data: bytes) -> None:
        """A new file that is given the inode of a deleted one."""
        parked = self.parked.pop()
        self.write(parked, data, "wb")
        self.rename(parked, path)

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
                self.write(self.place(file.key, file.number), self._rests.pop(file.inode))
