"""The loop of one sink: look, read a batch, send it, move on; and try again for as long as an outage lasts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from codex.logging.errors import CodexLoggingError, DatabaseError
from codex.logging.store.checkpoint import identity
from codex.logging.store.disk import sync_data
from codex_ingestd.forward.errors import DivergedError, SinkError
from codex_ingestd.forward.notes import Notes
from codex_ingestd.forward.pace import BackOff, BatchSize, Rate
from codex_ingestd.forward.progress import Progress, State
from codex_ingestd.forward.sink import Batch, Sink
from codex_ingestd.forward.spool import Lag, Spool

_LOOK_SECONDS = 0.2
_LOOK_REST = 10.0  # it rests for so many times what a look took
_TEND_SECONDS = 5.0
_TRIES = 5  # of `once`, without a batch that went well

log = logging.getLogger(__name__)


class Forwarder:
    """Forwards one database to one sink. `tell` hears of each change, within the loop."""

    def __init__(
        self,
        database: str,
        spool: Spool,
        sink: Sink,
        notes: Notes,
        rate: Rate,
        tell: Callable[[Progress], None] = lambda progress: None,
        clock: Callable[[], float] = time.monotonic,
        *,
        syncs: bool = True,
    ) -> None:
        """`syncs` where no daemon does, which has the write-ahead log on the disk within a tenth of a second."""
        self._database = database
        self._file = identity(database)
        self._spool = spool
        self._sink = sink
        self._notes = notes
        self._rate = rate
        self._tell = tell
        self._clock = clock
        self._syncs = syncs
        self._sender = ThreadPoolExecutor(1, "send")
        self._under_way: tuple[Batch, Future[float]] | None = None
        self._fails = False
        self._back_off = BackOff()
        self._size = BatchSize(sink.batches)
        self._stop = Event()
        self._lag = Lag()
        self._seen = -1
        self._look_at = 0.0
        self._tend_at = 0.0
        self._current_at = clock()  # when nothing was lacking
        self.events = 0

    @property
    def is_replaced(self) -> bool:
        """Whether the path names another file by now, or none."""
        return identity(self._database) != self._file

    def stop(self) -> None:
        """End after the batch that is under way; from a signal's handler, or another thread."""
        self._stop.set()

    def run(self) -> None:
        """Forward until it is stopped, or until the database's file is another one. Raises DivergedError."""
        while not (self._stop.is_set() or self.is_replaced):
            try:
                self._begin()
                while not (self._stop.is_set() or self.is_replaced):
                    if self._step():
                        self._gather()
                    else:
                        self._rest()
            except (SinkError, DatabaseError) as error:
                self._failed(error)
                self._stop.wait(self._back_off.next())
        self._end()

    def once(self) -> Lag:
        """Send all that is there; what is left where it was stopped. Raises SinkError, DatabaseError, DivergedError."""
        tries, sent = 0, 0
        while not self._stop.is_set():
            try:
                self._begin()
                while self._step() and not self._stop.is_set():
                    pass
                while not self._stop.is_set() and self._sink.tend():
                    pass
            except SinkError as error:
                tries = 1 if self.events > sent else tries + 1
                sent = self.events
                self._failed(error)
                if tries >= _TRIES or not error.passes:
                    raise
                self._stop.wait(self._back_off.next())
            else:
                break
        self._end()
        return self._spool.look() if self._stop.is_set() else Lag()

    def _begin(self) -> None:
        self._say("connecting")
        self._under_way = None
        self._sink.open()
        try:
            self._spool.begin(self._sink.watermarks())
            unfinished = self._spool.again(self._sink.unfinished())
        except DivergedError as error:
            self._refused(error)
            raise
        self._seen = -1
        if unfinished is not None:
            self._submit(unfinished)
            self._settle()

    def _step(self) -> bool:
        """Look where somebody has committed, and send one batch; False where there is nothing to send."""
        now = self._clock()
        changed = self._spool.changed()
        if changed != self._seen and now >= self._look_at:
            self._seen = changed
            self._lag = self._spool.look()
            took = self._clock() - now
            self._look_at = now + took + max(_LOOK_SECONDS, took * _LOOK_REST)
            if not self._lag.generations:
                self._current_at = now
        try:
            batch = self._spool.next(self._size.events, self._sink.batches.bytes)
        except DivergedError as error:
            self._refused(error)
            raise
        if batch is None:
            self._settle()
            if self._lag.generations and changed == self._seen:
                self._lag, self._current_at = Lag(), self._clock()
            return False
        if self._stop.wait(self._rate.wait(self._clock())):
            return True
        if self._syncs:
            with suppress(OSError):  # what a power failure takes back must not be elsewhere already
                sync_data(f"{self._database}-wal")
        self._settle()
        self._submit(batch)
        return True

    def _submit(self, batch: Batch) -> None:
        """Have it sent; the spool goes on as if it were: where it fails all begins anew from the sink's watermarks."""
        self._spool.sent(batch)
        self._under_way = batch, self._sender.submit(self._send, batch)

    def _send(self, batch: Batch) -> float:
        """In the other thread: the next batch is read meanwhile. The seconds until the sink had committed it."""
        began = self._clock()
        self._sink.send(batch)
        return self._clock() - began

    def _settle(self) -> None:
        """Wait until what is under way is committed there. Raises SinkError."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return
        batch, sent = under_way
        try:
            took = sent.result()
        except SinkError:
            self._spool.lost(batch)
            raise
        now = self._clock()
        self.events += batch.events
        self._size.took(batch.events, took)
        self._rate.sent(batch.size, now)
        self._back_off.reset()
        self._notes.sent(batch, now)
        self._recovered()
        self._say("catching up")

    def _gather(self) -> None:
        """Let rows come together, for a sink that wants them so: there is nothing behind what is under way."""
        if self._sink.batches.gather and not self._spool.is_behind:
            self._settle()
            self._stop.wait(self._sink.batches.gather)

    def _rest(self) -> None:
        """Nothing is to be sent: do what can wait."""
        now = self._clock()
        self._recovered()
        self._say("live")
        self._notes.write(now)
        if now >= self._tend_at and not self._sink.tend():
            self._tend_at = self._clock() + _TEND_SECONDS
        self._stop.wait(_LOOK_SECONDS)

    def close(self) -> None:
        """Let go of the other thread."""
        self._sender.shutdown()

    def _failed(self, error: CodexLoggingError) -> None:
        with suppress(SinkError):
            self._settle()
        self._fails = True
        log.warning("not forwarded: %s", error, extra={"hint": error.hint})
        with suppress(DatabaseError):
            self._lag = self._spool.look()
        self._say("waiting", str(error))
        with suppress(DatabaseError):
            self._notes.failed(str(error))

    def _recovered(self) -> None:
        if self._fails:
            self._fails = False
            log.info("forwarding again to %s", self._sink.name)

    def _refused(self, error: DivergedError) -> None:
        self._say("refused", str(error))
        with suppress(DatabaseError):
            self._notes.failed(str(error))

    def _end(self) -> None:
        with suppress(SinkError):
            self._settle()
        with suppress(DatabaseError):
            self._notes.write(self._clock())

    def _say(self, state: State, error: str = "") -> None:
        seconds = 0.0 if state == "live" else self._clock() - self._current_at
        self._tell(Progress(self._sink.name, state, self.events, *self._lag, seconds, error))
