"""What the soak's writers do to logs: `python -m tests.faults.traffic` is one of them, until its input ends.

Every line is noted in a journal, under the log's lock, in the order in which the lines lie in the log.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import zstandard

from codex.logging.writer import Appender

ROTATE_BYTES = 5_000
REST_EVERY, REST_SECONDS = 20.0, 3.0
_SESSION_SECONDS = 15.0
_SHARED_SECONDS = 30.0


class Line(NamedTuple):
    """One physical line, and what must come of it: messages, or the reason of a reject."""

    text: str
    messages: list[str]
    reason: str | None = None


class Journal:
    """What was written to each session's log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, session: str, line: Line) -> None:
        with (self.folder / session).open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def sessions(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def lines(self, session: str) -> list[Line]:
        return [Line(*json.loads(line)) for line in (self.folder / session).read_bytes().splitlines()]

    def idle_seconds(self, session: str) -> float:
        return time.time() - (self.folder / session).stat().st_mtime


class Log:
    """A session's file, as one of its writers has it."""

    def __init__(self, root: Path, journal: Journal, session: str) -> None:
        self.path = root / f"{session}.ndjson"
        self.session = session
        self._journal = journal

    def append(self, line: Line, choose: random.Random) -> None:
        """One line, whole or in two pieces; before it the file may be rotated."""
        with self._locked() as descriptor:
            self._maybe_rotate(descriptor, choose)
        with self._locked() as descriptor:
            data = line.text.encode() + b"\n"
            place = choose.randrange(len(data)) if choose.random() < 0.1 else len(data)
            os.write(descriptor, data[:place])
            if place < len(data):
                time.sleep(choose.uniform(0, 0.05))
                os.write(descriptor, data[place:])
            self._journal.note(self.session, line)

    def pack(self) -> None:
        """Compress it as an agent does: under another name, published, and only then is the plain one gone."""
        part = self.path.with_suffix(".part")
        part.write_bytes(zstandard.compress(self.path.read_bytes()))
        part.rename(f"{self.path}.zst")
        self.path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self.path.exists() and os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _maybe_rotate(self, descriptor: int, choose: random.Random) -> None:
        """By renaming or by copying and truncating, once it is large enough."""
        if os.fstat(descriptor).st_size < ROTATE_BYTES:
            return
        numbers = [number for number in range(1, 100) if Path(f"{self.path}.{number}").exists()]
        for number in reversed(numbers):
            os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        if choose.random() < 0.5:
            self.path.rename(f"{self.path}.1")
        else:
            shutil.copyfile(self.path, f"{self.path}.1")
            os.ftruncate(descriptor, 0)


class Writer:
    """One writer: sessions of its own, one after the other, and one that it shares with the others for some time."""

    def __init__(self, root: Path, journal: Journal, number: int, rate: float) -> None:
        self._root = root
        self._journal = journal
        self._number = number
        self._rate = rate
        self._choose = random.Random(number)
        self._lines = count(1)

    def run(self) -> None:
        """Until standard input ends."""
        for number in count(1):
            session = f"w{self._number}-{number}"
            if self._number % 2:
                self._write_by_the_product(session)
            else:
                self._write(Log(self._root, self._journal, session))
            if self._ends(0):
                return

    def _write(self, log: Log) -> None:
        """A session that ends, and may then be compressed."""
        end = time.monotonic() + _SESSION_SECONDS
        while time.monotonic() < end and not self._pause():
            log.append(self._line(), self._choose)
            self._share()
        log.append(Line('{"type":"session_end","message":"end"}', ["end"]), self._choose)
        if self._choose.random() < 0.5:
            log.pack()

    def _write_by_the_product(self, session: str) -> None:
        """The same by the product's own writer, which rotates."""
        end = time.monotonic() + _SESSION_SECONDS
        with closing(Appender(self._root / f"{session}.ndjson")) as log:
            while time.monotonic() < end and not self._pause():
                line = self._line()
                log.write(line.text.encode() + b"\n")
                self._journal.note(session, line)
                self._share()

    def _share(self) -> None:
        session = f"shared-{int(time.time() / _SHARED_SECONDS)}"
        if self._choose.random() < 0.3:
            Log(self._root, self._journal, session).append(self._line(), self._choose)

    def _pause(self) -> bool:
        """Wait until the next line is due: all writers rest together now and then. Whether this was the last line."""
        seconds = self._choose.expovariate(self._rate)
        rest = REST_SECONDS - (time.time() + seconds) % REST_EVERY
        return self._ends(seconds + max(0.0, rest))

    def _ends(self, seconds: float) -> bool:
        return bool(select.select([sys.stdin], [], [], seconds)[0])

    def _line(self) -> Line:
        name = f"w{self._number} {next(self._lines)} {'x' * int(2 ** self._choose.uniform(4, 9))}"
        text = json.dumps({"role": "assistant", "message": name}, separators=(",", ":"))
        odd = self._choose.random()
        if odd < 0.03:
            return Line(name, [], "json")
        if odd < 0.06:
            return Line("", [], "blank")
        return Line(text + text, [name, name]) if odd < 0.09 else Line(text, [name])


def main() -> None:
    """Arguments: the watched folder, the journals' folder, the writer's number, lines a second."""
    root, journals, number, rate = sys.argv[1:]
    Writer(Path(root), Journal(Path(journals)), int(number), float(rate)).run()


if __name__ == "__main__":
    main()
