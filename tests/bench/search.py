"""A hundred mixed queries over many events of a varied vocabulary; the index's size, and its share of a backfill."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import apsw

from codex.logging.store.connection import open_reader, scalar
from codex.logs.query import parse
from codex.logs.read.search import search
from tests.bench.corpus import encode
from tests.bench.figures import Report, load, spread

_SYLLABLES = """
er an re con ti on ex ple mo del par se fi le up da te in dex ro lo gin ser ver ma nu pro ject qu ery st al or"""
_MOST_FREQUENT = "the to a of and in is for error file def return self import test not value line path data"
_VOCABULARY = 60_000
_POOL_WORDS = 2_000_000
_SESSION_EVENTS = 2000
_BEGAN = 1_760_000_000
_MEAN, _DEVIATION = 3.6, 1.1  # of the logarithm of a message's words
_MOST_WORDS = 4000


def measure(folder: Path, *, events: int, rounds: int, processes: int) -> Iterator[Report]:
    """Make logs, import them, index them, search them."""
    before = load()
    logs, database = folder / "sessions", folder / "logs.db"
    logs.mkdir()
    words = _Words(random.Random("search"))
    size = words.write(logs, events)
    environment = {**os.environ, "CODEX_SESSION_LOG_DIR": str(logs), "CODEX_LOG_DB_PATH": str(database)}
    importing = _run("codex.logging.import_ndjson", ["--all", "--json", "--no-index"], environment)
    pages = database.stat().st_size
    indexing = _run("codex.logging.import_ndjson", ["--all", "--json"], environment)
    queries = words.queries()
    with closing(open_reader(str(database))) as connection:
        took, found = _ask(connection, queries, rounds)
        text = int(scalar(connection, "SELECT sum(octet_length(message)) FROM events"))
    yield _queries_report(events, took, found, _ask_by_processes(queries, processes, environment), before)
    row = {
        "events": events,
        "MiB of logs": size / (1 << 20),
        "import, seconds": importing,
        "indexing, seconds": indexing,
        "text indexed, MB/s": text / indexing / 1e6,
        "index / text": (database.stat().st_size - pages) / text,
        "database / logs": database.stat().st_size / size,
    }
    yield Report("the index", [row], ["indexing: a second import that finds nothing new to import", load()])


def _queries_report(
    events: int, took: Mapping[str, list[float]], found: Mapping[str, int], whole: list[float], before: str
) -> Report:
    everything = [seconds for kind in took.values() for seconds in kind]
    count = sum(len(kind) for kind in took.values()) * 100 // len(everything)
    rows = [_row(kind, len(seconds), found[kind], seconds) for kind, seconds in took.items()]
    rounds = len(everything) // 100
    rows = [row | {"queries": int(str(row["queries"])) // rounds} for row in rows]
    rows.append(_row("all of them", count, sum(found.values()), everything))
    rows.append(_row("codex-logs search, a whole process", len(whole), len(whole), whole))
    return Report(f"search: {events} events, 20 hits with snippets each", rows, [f"before: {before}; after: {load()}"])


def _row(what: str, queries: int, found: int, seconds: list[float]) -> dict[str, object]:
    figures = spread(seconds)
    return {
        "what": what,
        "queries": queries,
        "found": found,
        "p50 ms": figures.p50 * 1e3,
        "p95 ms": sorted(seconds)[min(len(seconds) - 1, len(seconds) * 95 // 100)] * 1e3,
        "worst ms": figures.most * 1e3,
    }


def _ask(
    connection: apsw.Connection, queries: list[tuple[str, str]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each query by kind, and how many of them found something."""
    took: dict[str, list[float]] = {}
    found: dict[str, int] = {}
    for turn in range(rounds):
        for kind, text in queries:
            began = time.perf_counter()
            hits = search(connection, parse(text, time.time())).hits
            took.setdefault(kind, []).append(time.perf_counter() - began)
            found[kind] = found.get(kind, 0) + (turn == 0 and bool(hits))
    return took, found


def _ask_by_processes(queries: list[tuple[str, str]], processes: int, environment: Mapping[str, str]) -> list[float]:
    """Seconds of `codex-logs search` from its start to its end, which looks for pending lines first."""
    some = [text for kind, text in queries if "nobody" not in kind][:: max(1, 90 // processes)][:processes]
    return [_run("codex.logs.cli", ["search", "--json", *text.split()], environment) for text in some]


def _run(module: str, arguments: list[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


class _Words:
    """A vocabulary with the frequencies of a language, texts of it, and queries for them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._frequent = _MOST_FREQUENT.split()
        self._syllables = _SYLLABLES.split()
        made = set(self._frequent)
        while len(made) < _VOCABULARY:
            made.add(self._word())
        self._vocabulary = self._frequent + sorted(made - set(self._frequent), key=lambda word: (len(word), word))
        weights = list(itertools.accumulate(1 / rank for rank in range(1, len(self._vocabulary) + 1)))
        self._pool = rng.choices(self._vocabulary, cum_weights=weights, k=_POOL_WORDS)

    def write(self, folder: Path, events: int) -> int:
        """Session files with so many events; their bytes."""
        size = 0
        for first in range(0, events, _SESSION_EVENTS):
            path = folder / f"session-{first // _SESSION_EVENTS:05}.ndjson"
            with open(path, "wb") as log:
                for number in range(first, min(events, first + _SESSION_EVENTS)):
                    role = ("user", "assistant", "tool")[number % 3]
                    log.write(encode({"ts": _BEGAN + number * 10, "role": role, "message": self._message()}))
                size += log.tell()
        return size

    def queries(self) -> list[tuple[str, str]]:
        """A hundred of them: (kind, text)."""
        kinds = {
            "a frequent word": self._frequent[:10],
            "a word": [self._vocabulary[50 * step**2 + 30] for step in range(1, 26)],
            "two words": [f"{self._common()} {self._rare()}" for _ in range(15)],
            "a phrase": [f'"{self._said(2)}"' for _ in range(10)],
            "one OR another": [f"{self._rare()} OR {self._common()}" for _ in range(8)],
            "one NOT another": [f"{self._rare()} -{self._common()}" for _ in range(7)],
            "the beginning of a word": [f"{self._rare()[:4]}*" for _ in range(8)],
            "with filters": [
                f"{self._common()} {wish}"
                for wish in ("role:user", "role:tool", "session:session-00000", "-role:user", f"until:{_day(2)}")
            ]
            + [f"{self._rare()} role:{role}" for role in ("user", "assistant", "tool")]
            + ["role:assistant session:last", f"{self._common()} since:{_day(1)}"],
            "words that nobody said": [f"{self._rare()}{number}xyzzy" for number in range(7)],
        }
        return [(kind, text) for kind, texts in kinds.items() for text in texts]

    def _message(self) -> str:
        rng = self._rng
        count = max(3, min(_MOST_WORDS, int(rng.lognormvariate(_MEAN, _DEVIATION))))
        start = rng.randrange(len(self._pool) - count)
        text = " ".join(self._pool[start : start + count])
        if rng.random() < 0.3:
            text += f" {rng.getrandbits(32):08x} src/{rng.choice(self._vocabulary)}.py:{rng.randrange(900)}"
        return text

    def _word(self) -> str:
        rng = self._rng
        word = "".join(rng.choices(self._syllables, k=rng.randint(1, 4)))
        return f"{word}_{''.join(rng.choices(self._syllables, k=2))}" if rng.random() < 0.1 else word

    def _common(self) -> str:
        return self._rng.choice(self._frequent)

    def _rare(self) -> str:
        """A plain word that is not common, and that was said."""
        while len(word := self._rng.choice(self._pool)) < 4 or "_" in word or word in self._frequent:
            pass
        return word

    def _said(self, count: int) -> str:
        start = self._rng.randrange(len(self._pool) - count)
        return " ".join(self._pool[start : start + count])


def _day(after: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(_BEGAN + after * 86400))
