"""What the ledger must say after a look: the documented rules, in plain terms, over whole files in memory.

It knows nothing but the bytes that lie in a folder at the moment of each look. README.md of the library has the rules,
under "Streams and generations".
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

HEAD, MARKER = 1024, 64
_DECODER = json.JSONDecoder()


class File(NamedTuple):
    """A file as it lies in the folder; `number` is 0 for a live one."""

    key: str
    number: int
    inode: int
    data: bytes


class KilledError(Exception):
    """The importer was killed behind the last of its commits."""


@dataclass(eq=False)
class Life:
    """A generation. `there` tells whether its file is known to be the live one, `seq` the last number it gave."""

    inode: int
    base: int
    how: str | None = None
    there: bool = True
    superseded: bool = False
    data: bytes = b""
    rows: list[tuple[int, int, str]] = field(default_factory=list)
    rejects: list[tuple[int, str]] = field(default_factory=list)
    seq: int = 0
    line: int = 0
    parts: int = 0

    def goes_on(self, data: bytes) -> bool:
        """Whether a file of these bytes begins as this one did, and has the same before the watermark."""
        length = len(self.data)
        head = min(HEAD, length)
        before = slice(max(0, length - MARKER), length)
        return len(data) >= length and data[:head] == self.data[:head] and data[before] == self.data[before]

    def is_edited(self, data: bytes) -> bool:
        """Whether the bytes are these with changes: the first line is the same, or what was before the watermark."""
        head = self.data[:HEAD]
        first = head[: head.find(b"\n") + 1] or head
        length = len(self.data)
        before = slice(max(0, length - MARKER), length)
        same_end = len(data) >= length and data[before] == self.data[before]
        return same_end or data.startswith(first) or first.startswith(data)

    def holds(self, data: bytes) -> bool:
        """Whether the bytes are this one's first ones, and no more."""
        head, end = slice(0, min(HEAD, len(data))), slice(max(0, len(data) - HEAD), len(data))
        return len(data) <= len(self.data) and data[head] == self.data[head] and data[end] == self.data[end]


@dataclass(eq=False)
class Log:
    """A stream: the lives of its file, in the order in which they were found."""

    key: str
    session: str
    lives: list[Life] = field(default_factory=list)
    gone: bool = False

    @property
    def standing(self) -> list[Life]:
        return [life for life in self.lives if not life.superseded]

    @property
    def live(self) -> Life | None:
        """The one whose file is known to be the live one."""
        return next((life for life in reversed(self.standing) if life.there), None)

    @property
    def former(self) -> Life | None:
        """That one, or the last one where that one is gone."""
        last = self.standing[-1] if self.standing else None
        return self.live or (last if last is not None and last.how in {"deleted", "replaced"} else None)

    def at(self, inode: int) -> Life | None:
        """The one that this inode is known to be."""
        here = [life for life in self.standing if life.inode == inode and (life.there or life.how == "rotated")]
        return here[-1] if here else None


class Model:
    """All logs of a folder, as an importer that looks at them must record them."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self._files: list[File] = []
        self._sizes: list[int] | None = None

    def look(self, files: list[File], key: str, sizes: list[int] | None = None) -> None:
        """Look at one log. With `sizes` (bytes), the importer is killed behind its commits of as much, and no further.

        Raises KilledError then.
        """
        self._files, self._sizes = files, sizes
        mine = self._of(key)
        log = self._known(key, mine)
        if not mine and log.lives and not log.gone:
            log.gone = True
            self._end(log.live, "deleted")
        waiting = [file for file in reversed(mine) if not self._read(log, file)]
        for file in waiting:
            self._read(log, file, waited=True)

    def suspects(self, files: list[File]) -> list[tuple[str, int]]:
        """(key, place among its lives) of each life whose file was edited where no look compares it."""
        found = []
        for log in self.logs:
            for place, life in enumerate(log.lives):
                mine = [file for file in files if file.key == log.key and file.inode == life.inode]
                if mine and log.at(life.inode) is life and _takeable(mine[0].data):
                    found += [(log.key, place)] * (not mine[0].data.startswith(life.data))
        return found

    def _of(self, key: str) -> list[File]:
        return sorted(file for file in self._files if file.key == key)

    def _known(self, key: str, files: list[File]) -> Log:
        """The log of this name, one whose live file was renamed to it, or a new one."""
        for log in self.logs:
            if log.key == key:
                return log
        for file in files[:1] if files and files[0].number == 0 else []:
            for other, life in self._elsewhere(key, file):
                if life is other.former and life.goes_on(file.data):
                    other.key, other.gone = key, False
                    life.how, life.there = "moved", True
                    return other
        return Log(key, key.rpartition("/")[2].removesuffix(".ndjson"))

    def _read(self, log: Log, file: File, *, waited: bool = False) -> bool:
        """Take what the file has; False when it is to wait until the others were read."""
        mine = log.at(file.inode)
        if mine is not None and mine.goes_on(file.data):
            self._go_on(log, mine, file)
            return True
        if mine is not None and self._is_handed_over(log, mine):
            mine = None
        held = [life for life in log.standing if life.goes_on(file.data)]
        held.sort(key=lambda life: (len(life.data), log.lives.index(life)), reverse=True)
        if not file.data or (file.number and self._is_copy(log, held, file)):
            return True
        if not waited and mine is None and held and self._is_younger(held[0], file):
            return False
        for life in held:
            if self._home(life, file) is None:
                self._go_on(log, life, file)
                return True
        former = mine
        if former is None and file.number == 0 and log.former and self._home(log.former, file) is None:
            former = log.former
        if former is not None and former.is_edited(file.data):
            self._displace(log, file, besides=former)
            others = [life.seq for life in log.standing if life is not former]
            self._begin(log, file, max([former.base, *others]), former, "rewritten")
        elif not self._is_anothers(log, file):
            if mine is not None:
                self._displace(log, file, besides=mine)
            self._begin(log, file, log.lives[-1].seq if log.lives else 0, mine, "truncated")
        return True

    def _is_handed_over(self, log: Log, life: Life) -> bool:
        """Whether a rotated copy is from now on what the file was that doesn't go on with this life any more."""
        for file in self._of(log.key):
            if file.number and log.at(file.inode) is None and life.goes_on(file.data):
                life.inode, life.how, life.there = file.inode, "rotated", False
                return True
        return False

    def _is_copy(self, log: Log, held: list[Life], file: File) -> bool:
        """Whether all that a rotated file could give was recorded as the beginning of a younger one, or one gone."""
        if held and self._home(held[0], file) is None:
            return False
        data = file.data[: _takeable(file.data) or len(file.data)]
        lives = [life for life in log.lives if life.holds(data)]
        return any(self._is_younger(life, file) or self._home(life, file) is None for life in lives)

    def _is_younger(self, life: Life, file: File) -> bool:
        home = self._home(life, file)
        return home is not None and home < file.number

    def _home(self, life: Life, besides: File) -> int | None:
        """The number of another file that goes on with this life: its own one, or a younger one."""
        for file in self._of(besides.key):
            is_home = file.inode == life.inode or file.number < besides.number
            if file.number != besides.number and is_home and life.goes_on(file.data):
                return file.number
        return None

    def _go_on(self, log: Log, life: Life, file: File) -> None:
        """The file is this life; note where it is, and take what is new."""
        if file.number:
            life.how, life.there = "rotated", False
        else:
            if not life.there:
                self._displace(log, file, besides=life)
            life.how = "moved" if file.inode != life.inode else life.how if life.there else None
            life.there = True
        life.inode, log.gone = file.inode, False
        self._take(log, life, file.data)

    def _begin(self, log: Log, file: File, base: int, former: Life | None, how: str) -> None:
        """A life begins, once there is something to take, and another one ends."""
        if not _takeable(file.data):
            return
        life = Life(file.inode, base, "rotated" if file.number else None, not file.number, seq=base)
        if former is None:
            self._displace(log, file, besides=None)
        else:
            self._end(former, how)
            former.superseded = how == "rewritten"
        if not log.lives:
            self.logs.append(log)
        log.lives.append(life)
        log.gone = False
        self._take(log, life, file.data)

    def _displace(self, log: Log, file: File, besides: Life | None) -> None:
        """The live file is another one than before."""
        former = log.live
        if file.number or former is None or former is besides:
            return
        rotated = any(other.inode == former.inode for other in self._of(file.key))
        self._end(former, "truncated" if former.inode == file.inode else "rotated" if rotated else "deleted")

    def _end(self, life: Life | None, how: str) -> None:
        if life is not None:
            life.how, life.there = how, False

    def _is_anothers(self, log: Log, file: File) -> bool:
        """Whether the file is another log's life, which goes on in it; one that isn't was replaced."""
        for other, life in self._elsewhere(log.key, file):
            if life.goes_on(file.data):
                self._displace(log, file, besides=None)
                self._end(life, "rotated" if file.number else "moved")
                self._take(other, life, file.data)
                return True
            if life is other.at(file.inode):
                self._end(life, "replaced")
        return False

    def _elsewhere(self, key: str, file: File) -> list[tuple[Log, Life]]:
        """The lives of other logs that had this inode, unless it is there as well."""
        return [
            (other, life)
            for other in self.logs
            if other.key != key and all(there.inode != file.inode for there in self._of(other.key))
            for life in reversed(other.standing)
            if life.inode == file.inode
        ]

    def _take(self, log: Log, life: Life, data: bytes) -> None:
        """Take what is new, in as many commits as the importer made."""
        rest = data[len(life.data) :]
        left = _takeable(rest)
        while left:
            size = left if self._sizes is None else self._sizes.pop(0)
            assert size <= left
            _record(log, life, rest[:size])
            rest, left = rest[size:], left - size
            if self._sizes == []:
                raise KilledError


def _takeable(rest: bytes) -> int:
    """How many bytes can be taken: whole lines, and a tail that is whole objects."""
    end = rest.rfind(b"\n") + 1
    tail = rest[end:].decode()
    return len(rest) if tail and _objects(tail)[1] == "" else end


def _record(log: Log, life: Life, data: bytes) -> None:
    """Note the rows and rejects of these bytes; a line that begins takes the log's next number."""
    life.data += data
    life.seq = log.lives[-1].seq
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        body = line.rstrip(b"\n").decode()
        if not life.line:
            life.line = life.seq = log.lives[-1].seq = life.seq + 1
            if not body:
                life.rejects.append((life.line, "blank"))
        messages, left = _objects(body)
        for message in messages:
            life.rows.append((life.line, life.parts, message))
            life.parts += 1
        if left:
            life.rejects.append((life.line, "json"))
        if line.endswith(b"\n"):
            life.line = life.parts = 0


def _objects(text: str) -> tuple[list[str], str]:
    """The messages of the objects that a text begins with, and what is left of it."""
    messages = []
    with suppress(ValueError):
        while text.startswith("{"):
            value, end = _DECODER.raw_decode(text)
            messages.append(value.get("message", ""))
            text = text[end:]
    return messages, text
