"""What happens, as it happens: server-sent events, each told within some 50 ms of the daemon's commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, NamedTuple

from codex.logs.web.guard import Receive, Send
from codex.logs.web.record import Current

_LOOK_SECONDS = 0.02
_LEAST_SECONDS = 0.04  # between two looks of one stream, so that a busy database leaves time for other things
_ALIVE_SECONDS = 15.0
_MOST = 64
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
]


class Words(NamedTuple):
    """One server-sent event: what of, what, and where it stands, so that one who lost the line goes on from there."""

    kind: str
    said: object
    place: str = ""


Look = Callable[[], Awaitable[list[Words]]]


class Pulse:
    """Tells those who listen of each commit of another process; asks only as long as somebody listens.

    It asks by `data_version`, which sees every commit, where the files' times and sizes don't change with each.
    """

    def __init__(self, database: str) -> None:
        self._current = Current(database)
        self._listeners: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self.ended = False

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set at each commit, and at the end; whoever listens clears it."""
        told = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listeners.add(told)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
            self._thread.start()
        self._wanted.set()
        try:
            yield told
        finally:
            self._listeners.discard(told)
            if not self._listeners and not self.ended:
                self._wanted.clear()

    @property
    def is_full(self) -> bool:
        """Whether nobody more can listen."""
        return len(self._listeners) >= _MOST

    def end(self) -> None:
        """Let every stream come to its end; may be called by a signal handler."""
        self.ended = True
        self._wanted.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._ring)

    def close(self) -> None:
        """End, and wait for the thread."""
        self.end()
        if self._thread is not None:
            self._thread.join()

    def _ring(self) -> None:
        for told in self._listeners:
            told.set()

    def _watch(self) -> None:
        known: tuple[object, int] | None = None
        with closing(self._current):
            while not self.ended:
                self._wanted.wait()
                with suppress(sqlite3.Error):  # busy, or being replaced: the next look comes soon
                    connection = self._current.connection()
                    state = self._current.identity, connection.execute("PRAGMA data_version").fetchone()[0]
                    if state != known and self._loop is not None:
                        known = state
                        with suppress(RuntimeError):
                            self._loop.call_soon_threadsafe(self._ring)
                time.sleep(_LOOK_SECONDS)


async def send_stream(pulse: Pulse, receive: Receive, send: Send, look: Look, least: float = _LEAST_SECONDS) -> None:
    """Answer a request with what `look` finds, now and after each commit, until the page goes or the server ends.

    Between two looks are at least so many seconds.
    """
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await _write(send, "retry: 1000\n\n")
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        async with pulse.listening() as told:
            while not pulse.ended and not gone.done():
                told.clear()
                began = time.monotonic()
                with suppress(
                    sqlite3.OperationalError
                ):  # busy, or out of time: what is missed comes with the next look
                    for words in await look():
                        await _write(send, message(words))
                took = time.monotonic() - began
                await asyncio.sleep(max(least, 2 * took))
                if not await _first(told, gone, _ALIVE_SECONDS):
                    await _write(send, ": still here\n\n")
    finally:
        gone.cancel()
    await send({"type": "http.response.body", "body": b""})


def message(words: Words) -> str:
    """As it is sent; its data is JSON, which holds no line end."""
    place = f"id: {words.place}\n" if words.place else ""
    return f"event: {words.kind}\n{place}data: {json.dumps(words.said, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode("utf-8", "replace"), "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(told: asyncio.Event, gone: asyncio.Future[Any], seconds: float) -> bool:
    """Whether either happened within that time."""
    waiting = asyncio.ensure_future(told.wait())
    done, _ = await asyncio.wait({waiting, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return bool(done)
