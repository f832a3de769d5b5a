"""Marks paths dirty as the operating system tells of them, and watches its own pulse.

The only module that knows watchdog. Its threads can die in silence (7.1.0 does under mkdir, rename and rmtree
churn), drop events when the queue overflows, and stay on a folder that was renamed away. So a sentinel file is
written every few seconds: when its event doesn't come back, the observer is built anew and everything is looked
at again; when that happens time after time, polling takes over for a while.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

try:
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
except (ImportError, AttributeError, OSError):  # no inotify on this platform
    pass
else:
    # A file that is moved out of the tree would hold back every later event for half a second.
    InotifyMoveEventGrouper.delay = 0.005

PULSE_NAME = ".codex-ingestd.pulse"
PULSE_EVERY = 3.0
PULSE_WAIT = 2.0
POLLING_SECONDS = 60.0
DEATHS_FOR_POLLING = 3

# Without IN_OPEN and IN_CLOSE_NOWRITE: reading a file in reply to its event would feed itself.
_FILE_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
]
_FOLDER_EVENTS: list[type[FileSystemEvent]] = [DirCreatedEvent, DirMovedEvent, DirDeletedEvent]

log = logging.getLogger(__name__)


class Marks:
    """Paths that something happened to, from the watcher's threads to the one loop; each is held once."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def put(self, path: str) -> None:
        """From any thread; an empty path only wakes the loop."""
        with self._lock:
            if path in self._held:
                return
            self._held.add(path)
        self._queue.put(path)

    def wake(self) -> None:
        """Make a waiting `take` return; without the lock, for a signal handler that may have interrupted it."""
        self._queue.put("")

    def take(self, timeout: float) -> list[str]:
        """All marked paths, waiting for the first at most `timeout` seconds."""
        try:
            taken = [self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()]
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
        except Empty:
            return []
        with self._lock:
            self._held.difference_update(taken)
        return [path for path in taken if path]


class Watcher:
    """Watches folders; `state` is "events", or "polling" with the reason in `reason`."""

    def __init__(self, roots: Sequence[str], marks: Marks, doubt: Callable[[], None]) -> None:
        self._roots = list(roots)
        self._marks = marks
        self._doubt = doubt
        self._observer: BaseObserver | None = None
        self._sent: dict[str, float] = {}
        self._echoed: dict[str, float] = {}
        self._deaths: list[float] = []
        self._polling_until = 0.0
        self.state = "polling"
        self.reason = "not started"
        self.rebuilds = 0

    def start(self, now: float) -> None:
        """Begin to watch; where that fails (watch limit, no notification here) polling goes on, and says so."""
        self._sent.clear()
        try:
            for root in self._roots:
                os.makedirs(root, mode=0o700, exist_ok=True)
            self._observer = _observe(self._roots, self._on_event)
        except Exception as error:  # watchdog's emitters raise whatever their platform does
            self._poll(now, f"can't watch: {error}")
            return
        self.state, self.reason = "events", ""
        self._beat(now)

    def stop(self) -> None:
        """Stop watching, and remove the sentinel files."""
        self._drop_observer(wait=True)
        for root in self._roots:
            _remove(os.path.join(root, PULSE_NAME))

    def check(self, now: float) -> float:
        """Take the pulse; call again after the seconds that come back. A dead watcher is built anew."""
        if self.state == "polling":
            if now >= self._polling_until:
                self.start(now)
                self._doubt()
            return PULSE_EVERY
        late = [root for root, sent in self._sent.items() if self._echoed.get(root, -1.0) < sent]
        if late and now - self._sent[late[0]] >= PULSE_WAIT:
            self._rebuild(now, late[0])
        elif not late:
            self._beat(now)
        return PULSE_EVERY if not late else PULSE_WAIT

    def _beat(self, now: float) -> None:
        for root in self._roots:
            self._sent[root] = now
            try:
                with open(os.path.join(root, PULSE_NAME), "wb", buffering=0) as pulse:
                    pulse.write(b"\n")
            except FileNotFoundError:
                pass  # the folder is gone: no echo will come, and the watcher is built anew
            except OSError as error:
                self._echoed[root] = now  # a folder we may only read has no pulse to take
                log.debug("no pulse in %s: %s", root, error)

    def _rebuild(self, now: float, root: str) -> None:
        self.rebuilds += 1
        self._deaths = [*(moment for moment in self._deaths if now - moment < POLLING_SECONDS), now]
        log.warning("the watcher of %s went silent: building it anew", root, extra={"rebuilds": self.rebuilds})
        self._drop_observer(wait=False)
        if len(self._deaths) >= DEATHS_FOR_POLLING:
            self._poll(now, f"the watcher died {len(self._deaths)} times within {POLLING_SECONDS:.0f} s")
        else:
            self.start(now)
        self._doubt()

    def _poll(self, now: float, reason: str) -> None:
        self._drop_observer(wait=False)
        self._polling_until = now + POLLING_SECONDS
        if self.reason != reason:
            log.warning("polling for changes instead of being told: %s", reason)
        self.state, self.reason = "polling", reason

    def _drop_observer(self, *, wait: bool) -> None:
        observer, self._observer = self._observer, None
        if observer is None:
            return
        # stop() joins threads that may hang: never on the loop's own time
        ender = threading.Thread(target=observer.stop, name="watcher-end", daemon=True)
        ender.start()
        if wait:
            ender.join(2.0)

    def _on_event(self, event: FileSystemEvent) -> None:
        """Called in watchdog's threads: only marks, since an exception here would kill them."""
        for raw in (event.src_path, event.dest_path):
            path = os.fsdecode(raw)
            if not path:
                continue
            if event.is_directory:
                self._doubt()
            elif os.path.basename(path) == PULSE_NAME:
                root = os.path.dirname(path)
                self._echoed[root] = self._sent.get(root, 0.0)
            else:
                self._marks.put(path)


class _Direct:
    """Stands where watchdog keeps its event queue, and hands each event on in the thread that read it.

    This saves one thread switch of the four between the kernel and the loop.
    """

    def __init__(self, on_event: Callable[[FileSystemEvent], None]) -> None:
        self._on_event = on_event
        self._end: SimpleQueue[object] = SimpleQueue()

    def put(self, item: Any) -> None:
        self._on_event(item[0])

    def put_nowait(self, item: object) -> None:
        self._end.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        return self._end.get(block, timeout)

    def task_done(self) -> None:
        pass


def _observe(roots: Sequence[str], on_event: Callable[[FileSystemEvent], None]) -> BaseObserver:
    """A started observer of the folders. Raises OSError and whatever the platform's emitter does."""
    observer: BaseObserver = Observer()
    observer._event_queue = _Direct(on_event)  # type: ignore[assignment]  # pinned: watchdog 7.1.0
    try:
        for root in roots:
            observer.schedule(
                FileSystemEventHandler(), root, recursive=True, event_filter=[*_FILE_EVENTS, *_FOLDER_EVENTS]
            )
        observer.start()
    except BaseException:
        threading.Thread(target=observer.stop, name="watcher-end", daemon=True).start()
        raise
    return observer


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
