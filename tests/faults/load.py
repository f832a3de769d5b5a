"""Writers as processes that append and rotate without end, and what each of them wrote: the exact oracle."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from codex.logging.encoding import encode
from codex.logging.writer import Appender

ROTATE_BYTES = 30_000


class Writer(NamedTuple):
    """Who writes which session. A foreign one takes no lock, and renames or copies and truncates its log itself."""

    number: int
    session: str
    rotate_bytes: int = ROTATE_BYTES
    foreign: bool = False


WRITERS = (
    Writer(0, "alone"),
    Writer(1, "unrotated", rotate_bytes=0),
    Writer(2, "shared"),
    Writer(3, "shared"),
    Writer(4, "foreign", foreign=True),
)


class Load:
    """All of WRITERS at once on one folder. They are forked: the process must have no threads."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.log_dir = folder / "sessions"
        self._journals = folder / "journals"
        self._seed = seed
        self._counts = mmap.mmap(-1, 8 * len(WRITERS))
        self._processes: list[int] = []
        self.log_dir.mkdir()
        self._journals.mkdir()

    def __enter__(self) -> Load:
        self._processes = [self._fork(writer) for writer in WRITERS]
        return self

    def __exit__(self, *_: object) -> None:
        """Let each finish its line."""
        for process in self._processes:
            os.kill(process, signal.SIGTERM)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in self._processes]
        assert codes == [0] * len(WRITERS), f"the writers ended with {codes}"

    def counts(self) -> list[int]:
        """Whole lines that each writer has written by now."""
        return list(struct.unpack_from(f"={len(WRITERS)}q", self._counts))

    def journal(self, writer: Writer) -> bytes:
        """All that the writer says it wrote."""
        return self._path(writer).read_bytes()

    def _path(self, writer: Writer) -> Path:
        return self._journals / str(writer.number)

    def _fork(self, writer: Writer) -> int:
        parent, process = os.getpid(), os.fork()
        if process:
            return process
        code = 1
        try:
            self._write(writer, parent)
            code = 0
        finally:
            os._exit(code)

    def _write(self, writer: Writer, parent: int) -> None:
        os.environ["NDJSON_MAX_BYTES"] = str(writer.rotate_bytes)
        stopping = []
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
        choose = random.Random(self._seed * 100 + writer.number)
        path = self.log_dir / f"{writer.session}.ndjson"
        log = ForeignLog(path, choose) if writer.foreign else Appender(path)
        journal = os.open(self._path(writer), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for count, line in enumerate(lines(writer.number, choose), 1):
            log.write(line)
            os.write(journal, line)
            struct.pack_into("=q", self._counts, 8 * writer.number, count)
            if stopping or os.getppid() != parent:
                return
            if choose.random() < 0.5:
                time.sleep(choose.uniform(0.0, 0.02))


def lines(number: int, choose: random.Random) -> Iterator[bytes]:
    """A writer's lines, numbered; most of them are short."""
    count = 0
    while True:
        size = choose.choices((100, 20_000, 300_000, 1_200_000), (1000, 10, 1, 0.2))[0]
        text = "é" * choose.randrange(size // 2)
        yield encode({"role": "user", "message": f"{number} {count} {text}"})
        count += 1


class ForeignLog:
    """A log whose one writer knows of no lock: a line is one write or two, rotation comes at any place in a line."""

    def __init__(self, path: Path, choose: random.Random) -> None:
        self._path = path
        self._choose = choose
        self._descriptor = self._open()

    def write(self, line: bytes) -> None:
        """Append a line, and rotate now and then."""
        cut = self._choose.choice((0, 0, self._choose.randrange(len(line))))
        self._write(line[:cut])
        rotation = self._choose.choices((None, self._rename, self._copy_and_truncate), (100, 1, 1))[0]
        if rotation == self._rename:  # the rest of the line goes to the file under its new name
            rotation()
        self._write(line[cut:])
        if rotation == self._rename:
            os.close(self._descriptor)
            self._descriptor = self._open()
        elif rotation is not None:
            rotation()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _rename(self) -> None:
        self._make_room()
        self._path.rename(self._numbered(1))

    def _copy_and_truncate(self) -> None:
        self._make_room()
        data = self._path.read_bytes()
        with self._numbered(1).open("wb", buffering=0) as copy:
            for start in range(0, len(data), 10_000):
                copy.write(data[start : start + 10_000])
        os.ftruncate(self._descriptor, 0)

    def _make_room(self) -> None:
        last = 1
        while self._numbered(last).exists():
            last += 1
        for number in range(last, 1, -1):
            self._numbered(number - 1).rename(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return Path(f"{self._path}.{number}")


def misplaced(found: Sequence[int], count: int) -> tuple[int, int]:
    """How many of a writer's `count` lines are lost, and how many others are there: doubled, or in a wrong order."""
    if list(found) == list(range(count)):
        return 0, 0
    lost = len(set(range(count)) - set(found))
    return lost, max(len(found) - (count - lost), int(lost == 0))
