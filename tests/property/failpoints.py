"""Importers in processes of their own that are killed, by SIGKILL, at a point with a name.

`python -m tests.property.failpoints` is the process that they are forked from: a line of JSON in, the exit code out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import apsw

from codex.logging.config import LINE_LIMIT
from codex.logging.ingest.reader import Limits
from codex.logging.store.sqlite import Store
from tests.importer import Importer

LIMITS = Limits(batch=300, line=LINE_LIMIT)
# Before a transaction, before its COMMIT, within a write to the database or its log, and once it was committed.
POINTS = ("read", "written", "page", "committed")


class Failpoints:
    """Kills this process when it comes to the point for the n-th time."""

    def __init__(self) -> None:
        self._point, self._left = "", 0

    def arm(self, point: str, times: int) -> None:
        self._point, self._left = point, times

    def is_due(self, point: str) -> bool:
        """Whether it is to be killed here; called once each time."""
        self._left -= point == self._point
        return point == self._point and self._left == 0

    def reach(self, point: str) -> bool:
        if self.is_due(point):
            die()
        return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Store):
    """A store with those points."""

    def __init__(self, path: str, points: Failpoints) -> None:
        super().__init__(path)
        self._points = points
        self.connection.set_commit_hook(lambda: points.reach("written"))

    def _through(self, write: Any, *arguments: Any, **named: Any) -> Any:
        self._points.reach("read")
        result = write(*arguments, **named)
        self._points.reach("committed")
        return result

    def commit(self, *arguments: Any, **named: Any) -> Any:
        return self._through(super().commit, *arguments, **named)

    def resume(self, *arguments: Any, **named: Any) -> Any:
        return self._through(super().resume, *arguments, **named)

    def end(self, *arguments: Any, **named: Any) -> Any:
        return self._through(super().end, *arguments, **named)


class Disk(apsw.VFS):
    """The system's files, of which a write may be the last, and half."""

    def __init__(self, points: Failpoints) -> None:
        self._points = points
        self._below = apsw.vfs_names()[0]
        super().__init__("deadly", self._below, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return File(self._below, name, flags, self._points)


class File(apsw.VFSFile):
    """One of them."""

    def __init__(self, below: str, name: Any, flags: list[int], points: Failpoints) -> None:
        self._points = points
        super().__init__(below, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        if self._points.is_due("page"):
            super().xWrite(data[: len(data) // 2], offset)
            die()
        super().xWrite(data, offset)


class Nursery:
    """Where they are forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def is_killed(self, root: Path, database: Path, keys: Sequence[str], point: str, times: int, grouped: bool) -> bool:
        """Let one look at these logs, in one transaction if `grouped`; whether it came to the point."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(root), str(database), keys, point, times, grouped]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def close(self) -> None:
        self._process.communicate()


def look(root: str, database: str, keys: Sequence[str], point: str, times: int, grouped: bool) -> None:
    """What such a process does."""
    points = Failpoints()
    disk = Disk(points)
    importer = Importer(Path(root), Path(database), limits=LIMITS, store=Deadly(database, points))
    points.arm(point, times)
    with importer.engine.group() if grouped else nullcontext():
        for key in keys:
            importer.look(key)
    importer.close()
    disk.unregister()


def main() -> None:
    """Fork one for each line of standard input."""
    for line in sys.stdin:
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            try:
                look(*json.loads(line))
                os._exit(0)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)


if __name__ == "__main__":
    main()
