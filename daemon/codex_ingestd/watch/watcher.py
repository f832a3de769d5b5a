"""Marks paths dirty as the operating system tells of them, and watches its own pulse.

The only module that knows watchdog. Its threads can die in silence (7.1.0 does under mkdir, rename and rmtree
churn), drop events when the queue overflows, and stay on a folder that was renamed away. So a sentinel file is
written every few seconds: when its event doesn't come back, the observer is built anew and everything is looked
at again; when that happens time after time, polling takes over for a while.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
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

from codex.logging.owners import make_folders
from codex.logging.store.checkpoint import identity
from codex_ingestd.health.judge import Stall
from codex_ingestd.watch.marks import EVERYTHING, Marks

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
TOLD_SECONDS = 6.0
POLLING_SECONDS = 60.0
DEATHS_FOR_POLLING = 3

# ENOSPC: the limit of watches or instances; EMFILE: of instances or descriptors.
_LIMITS = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENOMEM})
_PULSE_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Without IN_OPEN and IN_CLOSE_NOWRITE: reading a file in reply to its event would feed itself.
_FILE_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
]
_FOLDER_EVENTS: list[type[FileSystemEvent]] = [DirCreatedEvent, DirMovedEvent, DirDeletedEvent]

log = logging.getLogger(__name__)


class Watcher:
    """Watches folders; `state` is "events", or "polling" with the reason in `reason`.

    Its methods are for one thread, which hands in the seconds of a monotonic clock; only marks come from others.
    """

    def __init__(self, roots: Sequence[str], marks: Marks) -> None:
        self._roots = list(roots)
        self._marks = marks
        self._watch: _Watch | None = None
        self._beaten = 0.0
        self._deaths: list[float] = []
        self._polling_until = 0.0
        self._without_pulse: set[str] = set()
        self._silent_since: float | None = None
        self.state = "polling"
        self.reason = "not started"
        self.rebuilds = 0

    def start(self, now: float) -> None:
        """Begin to watch; where that fails (watch limit, no notification here) polling goes on, and says so."""
        try:
            for root in self._roots:
                make_folders(root)
            self._watch = _Watch(self._roots, self._marks)
        except Exception as error:  # watchdog's emitters raise whatever their platform does
            self._poll(now, f"can't watch: {error}")
            return
        self.state, self.reason = "events", ""
        self._beat(now)

    def close(self) -> None:
        """Stop watching, and remove the sentinel files."""
        self._drop(wait=True)
        for root in self._roots:
            with suppress(OSError):
                os.unlink(os.path.join(root, PULSE_NAME))

    def stalls(self) -> Iterator[Stall]:
        """The silence of a watcher that has died, for long enough that who asks every few seconds learns of it.

        One that doesn't live by then has died once more.
        """
        if self._silent_since is not None:
            yield Stall("the watcher of changes went silent, and is built anew", self._silent_since, counts_after=0.0)

    def check(self, now: float) -> float:
        """Take the pulse; call again after the seconds that come back. A dead watcher is built anew."""
        if self._deaths and now >= self._deaths[-1] + TOLD_SECONDS:
            self._silent_since = None
        if self._watch is None:
            if now < self._polling_until:
                return min(PULSE_WAIT, self._polling_until - now)
            self._end_polling(now)
            return PULSE_WAIT
        waited = now - self._beaten
        silent = [root for root in self._roots if root not in self._watch.echoed]
        if self._watch.limit:
            self._poll(now, f"can't watch every folder: {self._watch.limit}")
        elif waited < PULSE_WAIT:
            return PULSE_WAIT - waited
        elif silent:
            self._silent_since = self._silent_since or self._beaten
            self._rebuild(now, silent[0])
        elif waited < PULSE_EVERY:
            return PULSE_EVERY - waited
        else:
            self._beat(now)
        return PULSE_WAIT

    def _beat(self, now: float) -> None:
        assert self._watch is not None
        self._beaten = now
        self._watch.echoed.clear()
        for root in self._roots:
            try:
                descriptor = os.open(os.path.join(root, PULSE_NAME), _PULSE_FLAGS, 0o600)
                try:
                    os.write(descriptor, b"\n")
                finally:
                    os.close(descriptor)
            except (FileNotFoundError, NotADirectoryError):
                pass  # the folder is gone: no echo will come, and the watcher is built anew
            except OSError as error:
                # else it is silent: another folder than is watched, or nobody reads
                if self._watch.places[root] == identity(root) and self._watch.is_alive():
                    self._watch.echoed.add(root)
                if root not in self._without_pulse:
                    self._without_pulse.add(root)
                    log.warning("no pulse can be taken in %s: %s", root, error.strerror)

    def _rebuild(self, now: float, root: str) -> None:
        self.rebuilds += 1
        self._deaths = [*(moment for moment in self._deaths if now - moment < POLLING_SECONDS), now]
        log.warning("the watcher of %s went silent: building it anew", root, extra={"rebuilds": self.rebuilds})
        self._drop(wait=False)
        if len(self._deaths) >= DEATHS_FOR_POLLING:
            self._poll(now, f"the watcher died {len(self._deaths)} times within {POLLING_SECONDS:.0f} s")
        else:
            self.start(now)
        self._marks.put(EVERYTHING)

    def _poll(self, now: float, reason: str) -> None:
        self._drop(wait=False)
        self._polling_until = now + POLLING_SECONDS
        if self.reason != reason:
            log.warning("polling for changes instead of being told: %s", reason)
        self.state, self.reason = "polling", reason
        self._marks.put(EVERYTHING)

    def _end_polling(self, now: float) -> None:
        self.start(now)
        if self._watch is not None:
            log.info("being told of changes again")
        self._marks.put(EVERYTHING)

    def _drop(self, *, wait: bool) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop(wait=wait)


def hindrance(roots: Sequence[str]) -> str:
    """Why these folders, which are there, can't all be watched; empty where they can. For a look, not for watching."""
    try:
        watch = _Watch(roots, Marks())
    except Exception as error:  # watchdog's emitters raise whatever their platform does
        return str(error)
    watch.stop(wait=True)
    return watch.limit


class _Watch:
    """One life of an observer over the roots. Raises OSError and whatever the platform's emitter does.

    `echoed` are the roots whose sentinel's event came since it was cleared; `places` says which folder each root
    was; `limit` is why some folder is not watched, or empty.
    """

    def __init__(self, roots: Sequence[str], marks: Marks) -> None:
        self.echoed: set[str] = set()
        self.places = {root: identity(root) for root in roots}
        self.limit = ""
        self._marks = marks
        self._named = {os.path.realpath(root): root for root in roots}
        self._observer: BaseObserver = Observer()
        self._observer._event_queue = _Direct(self._on_event)  # type: ignore[assignment]  # pinned: watchdog 7.1.0
        self._hear_of_losses()
        try:
            for root in self._named:
                self._observer.schedule(
                    FileSystemEventHandler(), root, recursive=True, event_filter=[*_FILE_EVENTS, *_FOLDER_EVENTS]
                )
            self._observer.start()
            if self.limit:
                raise OSError(self.limit)
        except BaseException:
            self.stop(wait=False)
            raise

    def is_alive(self) -> bool:
        """Whether the thread that reads the events lives, as far as the platform's observer tells."""
        reader = getattr(self._observer, "_inotify_fd", None)
        return reader is None or bool(reader.is_alive())

    def stop(self, *, wait: bool) -> None:
        """Stop it. Its threads are joined, which may hang: never on the loop's own time."""
        ender = threading.Thread(target=self._end, name="watcher-end", daemon=True)
        try:
            ender.start()
        except RuntimeError as error:  # no thread is to be had: what it tells by now is heard by nobody
            log.debug("the watcher wasn't ended: %s", error)
            return
        if wait:
            ender.join(2.0)

    def _end(self) -> None:
        inotify: Any = getattr(self._observer, "_inotify_fd", None)
        groups: list[Any] = [getattr(emitter, "_inotify", None) for emitter in self._observer.emitters]
        try:
            self._observer.stop()
        except Exception as error:  # its books are in disorder when its reader has died: end what it left
            log.debug("watchdog's own end failed: %r", error)
            for group in filter(None, groups):
                group._move_event_grouper.close()
            self._observer.event_queue.put_nowait(BaseObserver.stop_event)
            inotify.stop()

    def _hear_of_losses(self) -> None:
        """Have inotify's silent losses told: the queue's overflow, and folders that can't be watched."""
        inotify: Any = getattr(self._observer, "_inotify_fd", None)
        if inotify is None:
            return
        handle_event, add_callback = inotify.handle_event, inotify.add_callback

        def handle(event: Any) -> None:
            if event.is_modify and self._mark_at_once(event):
                return
            handle_event(event)
            if event.is_queue_overflow:
                self._marks.put(EVERYTHING)

        def add(path: bytes, *rest: Any) -> Any:
            try:
                watch = add_callback(path, *rest)
            except OSError as error:
                if error.errno in _LIMITS:
                    self.limit = error.strerror or str(error)
                raise
            if watch == -1:  # how watchdog passes over a folder that may not be read
                inotify.remove_callbacks([(watch, rest[-1])])
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
            return watch

        inotify.handle_event, inotify.add_callback = handle, add

    def _mark_at_once(self, event: Any) -> bool:
        """Mark a file that grew in the thread that read it, which saves a switch of threads on the live path.

        The sentinel goes the whole way: its echo tells that every thread lives.
        """
        name = os.fsdecode(event.name)
        if not name or name == PULSE_NAME:
            return False
        for emitter in self._observer.emitters:
            group: Any = getattr(emitter, "_inotify", None)
            folder = group._active_callbacks_by_watch.get(event.wd) if group is not None else None
            if folder is not None:
                self._marks.put(self._as_watched(os.path.join(os.fsdecode(folder), name)))
                return True
        return False

    def _on_event(self, event: FileSystemEvent) -> None:
        """Called in watchdog's threads: only marks, since an exception here would kill them."""
        for raw in (event.src_path, event.dest_path):
            path = os.fsdecode(raw)
            if not path:
                continue
            folder, name = os.path.split(path)
            if event.is_directory:
                self._marks.put(EVERYTHING)
            elif name != PULSE_NAME:
                self._marks.put(self._as_watched(path))
            elif folder in self._named:
                self.echoed.add(self._named[folder])

    def _as_watched(self, path: str) -> str:
        """The path under the root's own name, where that leads through a symbolic link."""
        for real, root in self._named.items():
            if real != root and path.startswith(real + os.sep):
                return root + path[len(real) :]
        return path


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
