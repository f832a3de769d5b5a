"""Find secrets in bytes: one pass for what they begin with, and a closer look only there.

The pass is RE2's, whose time is linear in the text whatever the text; the rules' own patterns are bounded.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from codex.logging.secrets.rules import Rule, rules

OVERLAP_BYTES = 32 << 10  # no match is longer
# A character of ASCII that needs no escape, and has one; however deep JSON lies in JSON.
_ESCAPED = re.compile(rb"\\+(?:u00([2-7][0-9A-Fa-f])|/)")


class Match(NamedTuple):
    """Where a secret is, in bytes [start, end), and by which rule."""

    start: int
    end: int
    rule: str


class Scanner:
    """Rules, made ready."""

    def __init__(self, chosen: Sequence[Rule] = ()) -> None:
        import re2  # with the first scan: a daemon's start needs none

        chosen = chosen or rules()
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = 64 << 20
        self._by_anchor: dict[bytes, list[tuple[int, Rule]]] = {}
        for rank, rule in enumerate(chosen):
            for anchor in rule.anchors:
                self._by_anchor.setdefault(anchor, []).append((rank, rule))
        literals = sorted(self._by_anchor, key=len, reverse=True)
        self._literals = re2.compile(b"|".join(map(re.escape, literals)), options)
        self._shapes = [
            (rank, rule, re2.compile(rule.shape.encode(), options)) for rank, rule in enumerate(chosen) if rule.shape
        ]

    def find(self, text: bytes) -> list[Match]:
        """The secrets in a text, in order, none overlapping another."""
        found = list(self._matches(text))
        if b"\\u00" in text or b"\\/" in text:
            flat, places = _flattened(text)
            found += [(rank, places(start), places(end), rule) for rank, start, end, rule in self._matches(flat)]
        return _merged(sorted(found, key=lambda match: (match[1], match[0])))

    def _matches(self, text: bytes) -> Iterator[tuple[int, int, int, str]]:
        done: dict[str, int] = {}
        for hit in self._literals.finditer(text):
            for rank, rule in self._by_anchor[hit.group()]:
                if hit.start() >= done.get(rule.id, 0) and (span := rule.match(text, hit.start())):
                    done[rule.id] = span[1]
                    yield rank, *span, rule.id
        for rank, rule, shape in self._shapes:
            for hit in shape.finditer(text):
                if span := rule.match(text, hit.start()):
                    yield rank, *span, rule.id


@cache
def scanner() -> Scanner:
    """That of all rules; it is made once."""
    return Scanner()


def _merged(found: list[tuple[int, int, int, str]]) -> list[Match]:
    """Where matches overlap, all that they cover, by the rule that comes first."""
    merged: list[tuple[int, int, int, str]] = []
    for match in found:
        if merged and match[1] < merged[-1][2]:
            rank, start, end, rule = merged[-1]
            rank, rule = min((rank, rule), (match[0], match[3]))
            merged[-1] = (rank, start, max(end, match[2]), rule)
        else:
            merged.append(match)
    return [Match(start, end, rule) for _, start, end, rule in merged]


def flattened(text: bytes) -> bytes:
    """The text with every escape undone that it could do without."""
    return _ESCAPED.sub(_character, text)


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 16)]) if escape[1] else b"/"


class _Places:
    """From a place in a flattened text to the same place in the text."""

    def __init__(self, flat: list[int], text: list[int]) -> None:
        self._flat, self._text = flat, text

    def __call__(self, place: int) -> int:
        nearest = bisect_right(self._flat, place) - 1
        return self._text[nearest] + place - self._flat[nearest]


def _flattened(text: bytes) -> tuple[bytes, _Places]:
    pieces, flat, place, places = [], 0, 0, ([0], [0])
    for escape in _ESCAPED.finditer(text):
        pieces += [text[place : escape.start()], _character(escape)]
        flat += escape.start() - place
        places[0].extend((flat, flat + 1))
        places[1].extend((escape.start(), escape.end()))
        flat, place = flat + 1, escape.end()
    pieces.append(text[place:])
    return b"".join(pieces), _Places(*places)
