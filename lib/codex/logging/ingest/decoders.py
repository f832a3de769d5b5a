"""Decoding in processes of its own, for a backfill: rows are made on some cores while others are committed on one.

A decoder is `python -m codex.logging.ingest.decoders`. Tasks come on its standard input, results go to its standard
output: each a length (8 bytes, big endian) and marshalled builtins. It has no state.
"""

from __future__ import annotations

import gc
import marshal
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import IO, Any

from codex.logging.events import Cursor, Reject, Summary
from codex.logging.ingest.batches import make_rows
from codex.logging.ingest.formats import Format, named
from codex.logging.ingest.reader import Chunk
from codex.logging.store.rows import Row, Rows
from codex.logging.store.segments import compress

MOST = 4
_HERE_BYTES = 8 << 20
_LENGTH = struct.Struct(">Q")
_PIPE_BYTES = 1 << 20


class Decoders(AbstractContextManager["Decoders"]):
    """Processes that make rows of whole lines, each of one batch at a time.

    The first bytes, so many, are done in this one: a short import is over before another has started.
    """

    def __init__(self, *, here: int = _HERE_BYTES) -> None:
        self.count = min(MOST, os.cpu_count() or 1)
        self._here = here
        self._idle: deque[_Decoder] = deque()
        self._all: list[_Decoder] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for decoder in self._all:
            decoder.close()

    @property
    def processes(self) -> list[int]:
        """The ids of those that were started."""
        return [decoder.process_id for decoder in self._all]

    def begin(self, form: Format, data: bytes, cursor: Cursor, known: Summary, key: int) -> Callable[[], Rows]:
        """Begin to make the rows of whole lines behind a cursor: the function that waits for them comes back.

        They are made in this process, once they are waited for, where no decoder is idle, or the decoder was killed.
        """
        decoder = self._given((form.name, data, tuple(cursor), tuple(known), key))

        def rows() -> Rows:
            if decoder is not None:
                try:
                    result = decoder.result()
                    self._idle.append(decoder)
                    return _unpacked(result, data, cursor, key)
                except OSError:
                    self._here = sys.maxsize
            made = make_rows(form, Chunk(data), cursor, known, key)
            assert made is not None
            return made._replace(frame=compress(data))

        return rows

    def _given(self, task: tuple[Any, ...]) -> _Decoder | None:
        """The decoder that was given the task."""
        if self._here > 0:
            self._here -= len(task[1])
            return None
        try:
            if not self._idle and len(self._all) < self.count:
                self._all.append(_Decoder())
                self._idle.append(self._all[-1])
            decoder = self._idle.popleft() if self._idle else None
            if decoder is not None:
                decoder.begin(task)
        except OSError:
            self._here = sys.maxsize
            return None
        return decoder


class _Decoder:
    """One process. Raises OSError when it has ended."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.process_id = self._process.pid
        self._input, self._output = self._process.stdin, self._process.stdout
        _widen(self._input)
        _widen(self._output)

    def begin(self, task: tuple[Any, ...]) -> None:
        _send(self._input, task)

    def result(self) -> Any:
        return _receive(self._output)

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        self._process.wait()


def _make(form: str, data: bytes, cursor: tuple[Any, ...], known: tuple[Any, ...], key: int) -> tuple[Any, ...]:
    """In the decoder: the rows of whole lines, and the lines compressed, as builtins."""
    made = make_rows(named(form), Chunk(data), Cursor(*cursor), Summary(*known), key)
    assert made is not None
    rejects = [tuple(reject) for reject in made.rejects]
    return tuple(made.after), [*map(_as_stored, made.events)], made.usage, rejects, tuple(made.summary), compress(data)


def _as_stored(row: Row) -> Row:
    """The row with its message as UTF-8, so that the process that commits it needn't convert it twice."""
    message = row[4]
    return row if message.isascii() or isinstance(message, bytes) else (*row[:4], message.encode(), *row[5:])


def _unpacked(result: tuple[Any, ...], data: bytes, before: Cursor, key: int) -> Rows:
    after, events, usage, rejects, summary, frame = result
    made = [Reject(*reject) for reject in rejects]
    return Rows(key, [data], before, Cursor(*after), events, usage, made, Summary(*summary), frame=frame)


def _send(pipe: IO[bytes], message: tuple[Any, ...]) -> None:
    body = marshal.dumps(message)
    for piece in (_LENGTH.pack(len(body)), body):
        view = memoryview(piece)
        while view:
            view = view[pipe.write(view) :]


def _receive(pipe: IO[bytes]) -> Any:
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    return marshal.loads(_read(pipe, length))  # noqa: S302 - from a process of our own


def _read(pipe: IO[bytes], length: int) -> bytearray:
    body = bytearray(length)
    view = memoryview(body)
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise BrokenPipeError
        view = view[count:]
    return body


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold a whole batch, where that can be set: else each side waits for the other in between."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _serve() -> None:
    """Do tasks until there are no more."""
    gc.set_threshold(100_000)  # rows are no garbage: they go as soon as they are sent
    tasks, results = os.fdopen(0, "rb", buffering=0), os.fdopen(1, "wb", buffering=0)
    with suppress(BrokenPipeError, KeyboardInterrupt):
        while True:
            _send(results, _make(*_receive(tasks)))


if __name__ == "__main__":
    _serve()
