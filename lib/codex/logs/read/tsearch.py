"""PostgreSQL's full-text index: the hits of a query, ranked by bm25 as SQLite ranks its own.

The server finds them, and tells where the words stand in them; what they weigh is counted here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from codex.logs.query import Choice, Query
from codex.logs.read import index
from codex.logs.read.engine import Connection, scalar
from codex.logs.read.filters import Life, asks_events
from codex.logs.read.index import Candidate, Pending

_CHOSEN = """
  AND (CAST(:generations AS bigint[]) IS NULL OR {id} >> 40 = ANY(CAST(:generations AS bigint[])))"""
_WISHES = """
  AND (:{name} IS NULL OR {suits}(e.{name}, CAST(:{name} AS text[])))
  AND (:no_{name} IS NULL OR NOT {suits}(e.{name}, CAST(:no_{name} AS text[])))"""
_SUITS = {"role": "is_like_any", "kind": "is_like_any", "tool": "is_like_any", "model": "holds_any"}
_TIMES = " AND (:since IS NULL OR e.ts >= :since) AND (:until IS NULL OR e.ts < :until)"
_ASKED = _TIMES + "".join(_WISHES.format(name=name, suits=suits) for name, suits in _SUITS.items())
_PLACES = "places(w.words, CAST(:whole AS text[]), CAST(:begun AS text[]))"
_HITS = f"""
SELECT w.id, NULL, w.length, {_PLACES} FROM words AS w
WHERE w.words @@ CAST(:match AS tsquery){_CHOSEN.format(id="w.id")}
ORDER BY w.id DESC LIMIT :most"""  # noqa: S608
_FILTERED = f"""
SELECT w.id, e.ts, w.length, {_PLACES} FROM words AS w JOIN events AS e ON e.id = w.id AND e.home = w.home
WHERE w.words @@ CAST(:match AS tsquery){_CHOSEN.format(id="w.id")}{_ASKED}
ORDER BY w.id DESC LIMIT :most"""  # noqa: S608
_WITHOUT_WORDS = f"""
SELECT e.id, e.ts FROM events AS e
WHERE NOT EXISTS (SELECT 1 FROM generations AS g WHERE g.id = e.generation AND g.superseded_by IS NOT NULL)
{_CHOSEN.format(id="e.id")}{_ASKED}
ORDER BY e.id DESC LIMIT :most"""  # noqa: S608
_PHRASES = """
SELECT CAST(phrase(p.text, p.is_prefix) AS text)
FROM unnest(CAST(:texts AS text[]), CAST(:prefixes AS boolean[])) WITH ORDINALITY AS p (text, is_prefix, number)
ORDER BY p.number"""
_FREQUENCY = """
SELECT count(*) FROM (SELECT w.id FROM words AS w WHERE w.words @@ CAST(:phrase AS tsquery) LIMIT :most) AS found"""
_TOTALS = "SELECT CAST(coalesce(sum(events), 0) AS bigint), CAST(coalesce(sum(words), 0) AS bigint) FROM indexed"
_PENDING = "SELECT generation, after, last, length FROM unindexed ORDER BY generation"
_ALL = 0x7FFFFFFFFFFFFFFF
_COUNTED = 100_000  # what is more frequent weighs next to nothing
# FTS5's own: https://www.sqlite.org/fts5.html#the_bm25_function
_K1, _B, _LEAST_WEIGHT = 1.2, 0.75, 1e-6
_PART = re.compile(r'"([^"]*)"( \*)?|AND|OR|NOT|[()]')
_LEXEME = re.compile(r"'((?:[^']|'')+)'(:\*)?")
_OPERATORS = {"AND": "&", "OR": "|", "NOT": "& !"}


class _Phrase(NamedTuple):
    """Words one behind the other, as the server writes them; with `is_prefix` the last one is the begin of some."""

    text: str
    words: tuple[str, ...]
    is_prefix: bool


class _Totals(NamedTuple):
    """How many messages are indexed, how many words they have on average, and in how many each phrase stands."""

    messages: int
    length: float
    frequencies: list[int]


class TextSearch:
    """The index of a shared database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def candidates(self, query: Query, lives: list[Life] | None, *, exhaustive: bool) -> tuple[list[Candidate], bool]:
        """The newest hits that the filters let through."""
        if lives == []:
            return [], False
        most = _ALL if exhaustive else index.RANKED
        values = _values(query, lives) | {"most": most}
        if query.match is None:
            found = [Candidate(event, 0.0, ts) for event, ts in self._connection.execute(_WITHOUT_WORDS, values)]
            return found, len(found) == most
        match, phrases = self._compiled(query.match)
        if match is None:
            return [], False
        whole = {word for phrase in phrases for word in phrase.words[: len(phrase.words) - phrase.is_prefix]}
        begun = {phrase.words[-1] for phrase in phrases if phrase.is_prefix}
        values |= {"match": match, "whole": list(whole), "begun": list(begun)}
        rows = self._connection.execute(_FILTERED if asks_events(query) else _HITS, values).fetchall()
        totals = self._totals(phrases)
        found = [
            Candidate(event, _rank(phrases, totals, length, places or {}), ts) for event, ts, length, places in rows
        ]
        return found, len(found) == most

    def pending(self) -> list[Pending]:
        """What was sent, and is not indexed yet."""
        return [Pending(*row) for row in self._connection.execute(_PENDING)]

    def _compiled(self, match: str) -> tuple[str | None, list[_Phrase]]:
        """An FTS5 expression in the server's words, and its phrases; None where one of them has no word for it."""
        parts = list(_PART.finditer(match))
        asked = [part for part in parts if part[1] is not None]
        values = {"texts": [part[1] for part in asked], "prefixes": [part[2] is not None for part in asked]}
        texts = [str(text) for (text,) in self._connection.execute(_PHRASES, values)]
        if not all(map(_LEXEME.search, texts)):
            return None, []
        phrases = [
            _Phrase(text, tuple(word[1].replace("''", "'") for word in _LEXEME.finditer(text)), part[2] is not None)
            for part, text in zip(asked, texts, strict=True)
        ]
        left = iter(texts)
        written = (f"({next(left)})" if part[1] is not None else _OPERATORS.get(part[0], part[0]) for part in parts)
        return " ".join(written), phrases

    def _totals(self, phrases: list[_Phrase]) -> _Totals:
        messages, words = self._connection.execute(_TOTALS).fetchone() or (0, 0)
        frequencies = [
            int(scalar(self._connection, _FREQUENCY, {"phrase": phrase.text, "most": _COUNTED})) for phrase in phrases
        ]
        return _Totals(messages, words / max(messages, 1), frequencies)


def _values(query: Query, lives: list[Life] | None) -> dict[str, Any]:
    """For the filters: what isn't asked for is None."""
    choices: Iterable[tuple[str, Choice]] = ((name, getattr(query, name)) for name in _SUITS)
    values: dict[str, Any] = {"since": query.since, "until": query.until}
    for name, choice in choices:
        values |= {name: list(choice.wanted) or None, f"no_{name}": list(choice.unwanted) or None}
    return values | {"generations": None if lives is None else [life.generation for life in lives]}


def _rank(phrases: list[_Phrase], totals: _Totals, length: int, places: Mapping[str, list[int]]) -> float:
    """bm25 of a message of so many words, by where in it those of the phrases stand; lower is better."""
    score = 0.0
    for phrase, frequency in zip(phrases, totals.frequencies, strict=True):
        weight = math.log((totals.messages - frequency + 0.5) / (frequency + 0.5)) if frequency else 0.0
        count = float(_count(phrase, places))
        score += (
            (weight if weight > 0 else _LEAST_WEIGHT)
            * (count * (_K1 + 1.0))
            / (count + _K1 * (1 - _B + _B * length / (totals.length or 1.0)))
        )
    return -score


def _count(phrase: _Phrase, places: Mapping[str, list[int]]) -> int:
    """How often the phrase stands in a message: its words, or begins, one behind the other."""
    *before, last = phrase.words
    ends = (
        [place for word, found in places.items() if word.startswith(last) for place in found]
        if phrase.is_prefix
        else places.get(last, [])
    )
    if not before:
        return len(ends)
    known = [set(places.get(word, ())) for word in before]
    return sum(all(end - back in found for back, found in enumerate(reversed(known), 1)) for end in ends)
