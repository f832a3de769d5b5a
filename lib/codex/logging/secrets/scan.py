"""Find secrets in bytes: one pass for what any of them begins with, and a closer look only there.

The pass is RE2's, whose time is linear in the text whatever the text, and which lets other threads go on; the rules'
own patterns are bounded.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

from codex.logging.secrets.rules import Rule, rules

OVERLAP_BYTES = 32 << 10  # no match is longer
_BEGIN_BYTES = 2 << 10  # hold all that any match begins with
ROUNDS = 4  # what a text hides behind more secrets than that is for the last look at a copy, which refuses it
# A character of ASCII that needs no escape, and has one; however deep JSON lies in JSON.
_ESCAPED = re.compile(rb"\\+(?:u00([2-7][0-9A-Fa-f])|/)")


class Match(NamedTuple):
    """Where a secret is, in bytes [start, end), and by which rule."""

    start: int
    end: int
    rule: str


_Ranked = tuple[int, int, int, str]  # how early its rule comes, and the match


class Scanner:
    """Rules, made ready."""

    def __init__(self, chosen: Sequence[Rule] = ()) -> None:
        import re2  # with the first scan: a daemon's start needs none

        chosen = chosen or rules()
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = 64 << 20
        self._rules = tuple(chosen)
        self._options = options
        self._probe = re2.compile(b"|".join(map(_begin, chosen)), options)
        self._needless = re2.compile(rb"\\(?:u00[2-7]|/)", options)

    def find(self, text: bytes) -> list[Match]:
        """The secrets in a text, in order, none overlapping another: also what shows only once others are replaced."""
        found = self._once(text)
        for _ in range(ROUNDS):
            more = found and _merged([*found, *_back(self._once, *_replaced(text, found))])
            if more == found:
                break
            found = more
        return [Match(start, end, rule) for _, start, end, rule in found]

    @cached_property
    def _begins(self) -> Any:
        """Which rules may begin at a place: made at the first such place, for most texts have none."""
        import re2

        begins = re2.Set.MatchSet(self._options)
        for rule in self._rules:
            begins.Add(_begin(rule))
        begins.Compile()
        return begins

    def _once(self, text: bytes) -> list[_Ranked]:
        found = _merged(self._matches(text))
        if self._needless.search(text) is not None and self._probe.search(flattened(text)) is not None:
            found = _merged([*found, *_back(self._matches, *_flattened(text))])
        return found

    def _matches(self, text: bytes) -> Iterator[_Ranked]:
        done: dict[str, int] = {}
        hit = self._probe.search(text)
        while hit is not None:
            place = hit.start()
            for rank in sorted(self._begins.Match(text[place : place + _BEGIN_BYTES])):
                rule = self._rules[rank]
                if place >= done.get(rule.id, 0) and (span := rule.match(text, place)):
                    done[rule.id] = span[1]
                    yield rank, *span, rule.id
            hit = self._probe.search(text, place + 1)


def _begin(rule: Rule) -> bytes:
    """The pattern (RE2 syntax) of what any match of a rule begins with."""
    anchors = b"|".join(map(re.escape, rule.anchors))
    return b"(?:%b)" % (rule.shape.encode() or b"(?:%b)%b" % (anchors, rule.tail.encode()))


@cache
def scanner() -> Scanner:
    """That of all rules; it is made once."""
    return Scanner()


def _merged(found: Iterable[_Ranked]) -> list[_Ranked]:
    """In order; where matches overlap, all that they cover, by the rule that comes first."""
    merged: list[_Ranked] = []
    for match in sorted(found, key=lambda match: (match[1], match[0])):
        if merged and match[1] < merged[-1][2]:
            rank, start, end, rule = merged[-1]
            rank, rule = min((rank, rule), (match[0], match[3]))
            merged[-1] = (rank, start, max(end, match[2]), rule)
        else:
            merged.append(match)
    return merged


def _back(matches: Callable[[bytes], Iterable[_Ranked]], other: bytes, places: _Places) -> Iterator[_Ranked]:
    """What is found in another form of a text, at its places in the text."""
    return ((rank, places(start), places(end), rule) for rank, start, end, rule in matches(other))


def flattened(text: bytes) -> bytes:
    """The text with every escape undone that it could do without."""
    return _ESCAPED.sub(_character, text)


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 16)]) if escape[1] else b"/"


class _Places:
    """From a place in a text that was edited to the same place in the text as it was."""

    def __init__(self, edited: list[int], text: list[int]) -> None:
        self._edited, self._text = edited, text

    def __call__(self, place: int) -> int:
        nearest = bisect_right(self._edited, place) - 1
        return min([self._text[nearest] + place - self._edited[nearest], *self._text[nearest + 1 : nearest + 2]])


def _flattened(text: bytes) -> tuple[bytes, _Places]:
    return _edited(text, ((escape.start(), escape.end(), _character(escape)) for escape in _ESCAPED.finditer(text)))


def _replaced(text: bytes, found: Iterable[_Ranked]) -> tuple[bytes, _Places]:
    return _edited(text, ((start, end, b"[REDACTED:%b:00000000]" % rule.encode()) for _, start, end, rule in found))


def _edited(text: bytes, edits: Iterable[tuple[int, int, bytes]]) -> tuple[bytes, _Places]:
    """The text with other bytes in these places."""
    pieces, length, place, places = [], 0, 0, ([0], [0])
    for start, end, instead in edits:
        pieces += [text[place:start], instead]
        length += start - place
        places[0].extend((length, length + len(instead)))
        places[1].extend((start, end))
        length, place = length + len(instead), end
    pieces.append(text[place:])
    return b"".join(pieces), _Places(*places)
