"""What a chunk comes to: its rows, its bytes compressed, and the chain behind them; of a large one on two cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from codex.logging.events import Generation, Summary
from codex.logging.ingest.batches import make_rows
from codex.logging.ingest.formats import Format
from codex.logging.ingest.ledger import Life
from codex.logging.ingest.lines import PIECE_BYTES
from codex.logging.ingest.reader import Chunk
from codex.logging.ingest.redactor import Redactor
from codex.logging.store.rows import Rows
from codex.logging.store.segments import Chain, compress, link
from codex.logging.store.spans import Span
from codex.logging.store.sqlite import Store

_MOST_GENERATIONS = 512  # each of a KiB or two; one that isn't remembered costs a read of the database
_PARALLEL_BYTES = 128 << 10

T = TypeVar("T")


class Encoded(NamedTuple):
    """What is to be committed; the first and the last bytes as they stand in the file; and the chain behind it."""

    rows: Rows
    edges: bytes
    chain: Chain


class Encoder:
    """Makes what is committed of chunks. With a `redactor` nothing that it finds is in it.

    It remembers each generation's chain and summary at its watermark, for some of them; all of it can be lost.
    """

    def __init__(self, store: Store, redactor: Redactor | None) -> None:
        self._store = store
        self._redactor = redactor
        self._beside = ThreadPoolExecutor(1 if redactor is None else 2, "beside")
        self._ends: dict[int, tuple[Chain, Summary]] = {}

    def encode(self, life: Life, form: Format, chunk: Chunk) -> Encoded | None:
        """What is to be committed of a chunk; None where that is nothing yet."""
        if self._redactor is None:
            return self._encode(life, form, chunk)
        # A large chunk is made beside the scan, and once more where that finds anything.
        scan = self._begin(self._redactor.find, chunk.data) if _is_large(chunk) else None
        made = self._encode(life, form, chunk) if scan is not None else None
        found = scan.result() if scan is not None else None
        hidden = self._redactor.hide(chunk, life.cursor, life.generation.id, found)
        if hidden is None:
            return made or self._encode(life, form, chunk)
        return self._encode(life, form, *hidden)

    def keep(self, generation: int, made: Encoded) -> None:
        """Remember what was committed of a generation."""
        if len(self._ends) >= _MOST_GENERATIONS:
            self._ends.clear()
        self._ends[generation] = (made.chain, made.rows.summary)

    def forget(self) -> None:
        """Ask the store from now on."""
        self._ends.clear()

    def _encode(
        self, life: Life, form: Format, chunk: Chunk, spans: Sequence[Span] = (), edges: bytes = b""
    ) -> Encoded | None:
        """As encode, of a chunk that has filler in the spans.

        `edges` are the first and the last bytes as they stand in the file, where they differ from the chunk's.
        """
        known, key = self._summary(life.generation), life.generation.id << 40
        large = _is_large(chunk)
        frame = self._begin(compress, chunk.data) if large else None
        # Hashing leaves the GIL to the compressor, which needs it to begin; decoding doesn't for a while.
        linked = link([chunk.data], self._chain(life.generation)) if large else None
        rows = make_rows(form, chunk, life.cursor, known, key, spans)
        if rows is None:
            return None
        linked = linked or link(rows.pieces, self._chain(life.generation))
        packed = frame.result() if frame is not None else compress(rows.pieces[0]) if len(rows.pieces) == 1 else None
        return Encoded(rows._replace(chains=linked.chains, frame=packed), edges or rows.edges, linked.chain)

    def _begin(self, work: Callable[[bytes], T], data: bytes) -> Future[T] | None:
        """On another core; None where no thread is to be had."""
        try:
            return self._beside.submit(work, data)
        except RuntimeError:
            return None

    def _remembered(self, generation: Generation) -> tuple[Chain, Summary] | None:
        """The generation's chain and summary at its watermark, where they are of the bytes that the ledger's is of."""
        known = self._ends.get(generation.id)
        at = (generation.cursor.offset, generation.chain)
        return known if known is not None and (known[0].offset, known[0].digest()) == at else None

    def _summary(self, generation: Generation) -> Summary:
        """What the generation's events come to at its watermark."""
        if not generation.id:
            return Summary()
        known = self._remembered(generation)
        return self._store.summary(generation.id) if known is None else known[1]

    def _chain(self, generation: Generation) -> Chain:
        """A copy of the generation's chain at its watermark."""
        known = self._remembered(generation)
        return self._store.chain(generation) if known is None else known[0].copy()


def _is_large(chunk: Chunk) -> bool:
    """Whether it is worth a second core, and one piece."""
    return _PARALLEL_BYTES <= len(chunk.data) <= PIECE_BYTES
