"""The rules: what a secret looks like, and what only looks like one."""

from __future__ import annotations

import math
import re
import tomllib
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

_EXAMPLES = re.compile(
    rb"example|sample|dummy|placeholder|change_?me|your(?:[_-]|api|key|token|secret|pass)|redacted|replace|insert|xxxx|\*\*\*|\.\.\.|<|\$\{|\{\{"
    rb"|123456789|abcdefgh|eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4g",  # the last is jwt.io's John Doe
    re.IGNORECASE,
)
# What stands in a URL, or beside `password`, in every tutorial.
_WORDS = frozenset(
    b"admin guest hidden pass passwd password password1 password123 postgres private pw pwd root secret test token user"
    b" username mysql mongo redis rabbitmq minio none null true false string".split()
)
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(rb"(?:sha(?:1|256|384|512)|md5|blake2b?)[-:_]", re.IGNORECASE)
_HASHED = re.compile(rb"(?:sha(?:1|256|384|512)|md5)[-:=]\Z", re.IGNORECASE)
_OTHER_NAMES = re.compile(
    rb"hash|digest|checksum|integrity|sha[0-9]|public|fingerprint|(?:next|page|cursor|continuation).?token|_id\Z|file|path"
    rb"|name\Z|type\Z|tokenizer",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(rb"[A-Za-z_]++(?:[.-][A-Za-z_]++)*+[0-9]{0,4}")
# Of an escape that is no letter or digit, or of a colour.
_ESCAPE_END = re.compile(rb"(?:\\(?:[bfnrt]|u(?!00[2-7])[0-9A-Fa-f]{4})|\[[0-9;]{0,16}m)\Z")
_NAME_END = re.compile(rb"[A-Za-z0-9_-]{1,40}\Z")
_NAME_BYTES = 40
_PLACEHOLDER = re.compile(rb"\[REDACTED:[a-z-]{0,29}\Z")
_BEFORE = 32  # bytes
_EXAMPLE_BYTES = 400  # in a longer one the words come by chance
_LEAST_CHANGES = 0.25


class Rule(NamedTuple):
    """One row of rules.toml, compiled; `anchors` are literals, `shape` and `tail` are RE2's."""

    id: str
    pattern: re.Pattern[bytes]
    anchors: tuple[bytes, ...] = ()
    shape: str = ""
    tail: str = ""
    before: re.Pattern[bytes] | None = None
    loose: bool = False
    entropy: float = 0.0
    random: bool = False
    holds: re.Pattern[bytes] | None = None

    def match(self, text: bytes, place: int) -> tuple[int, int] | None:
        """Where the secret is whose anchor, or shape, was found at a place; None where that is none."""
        start = place
        if self.before is not None:
            found = self.before.search(text, max(0, place - _BEFORE), place)
            if found is None:
                return None
            start = found.start()
        if not self.loose and not self.random and not _begins_word(text, start):
            return None
        match = self.pattern.match(text, place)
        if match is None:
            return None
        group = "secret" if "secret" in match.re.groupindex else 0
        first, end = match.span(group)
        if not group:
            first = start
        if _HASHED.search(text, max(0, first - _BEFORE), first) or _names_other(match):
            return None
        return (first, end) if self._is_secret(match, text[first:end]) else None

    def _is_secret(self, match: re.Match[bytes], value: bytes) -> bool:
        if (
            entropy(value) < self.entropy
            or value.lower() in _WORDS
            or (len(value) <= _EXAMPLE_BYTES and _EXAMPLES.search(value))
        ):
            return False
        if self.holds is not None and not self.holds.search(value):
            return False
        if self.random and not _is_random(value):
            return False
        names = match.groupdict()
        if "name" not in names:
            return True
        is_code = not names["quote"] and (names["after"] or _IDENTIFIER.fullmatch(value))
        is_other = _UUID.fullmatch(value) or _HASH.match(value) or b"://" in value
        return not (is_code or is_other or value.startswith((b"/", b"./", b"~/", b"../")))


def _names_other(match: re.Match[bytes]) -> bool:
    """Whether the name that something is assigned to says that it is no secret."""
    if "name" not in match.re.groupindex:
        return False
    before = (max(0, match.start() - _NAME_BYTES), match.start())
    if _PLACEHOLDER.search(match.string, *before):
        return True
    begin = _NAME_END.search(match.string, *before)
    name = (begin[0] if begin else b"") + match["name"]
    return _OTHER_NAMES.search(name) is not None


def entropy(value: bytes) -> float:
    """Shannon's, in bits a byte."""
    total = len(value)
    counts = map(value.count, set(value))
    return -sum(count / total * math.log2(count / total) for count in counts) if total else 0.0


def _begins_word(text: bytes, place: int) -> bool:
    """Whether no letter or digit stands before; those of an escape (`\\n`) or of a colour (`ESC[0m`) don't count."""
    if not place or not (text[place - 1 : place].isalnum() or text[place - 1] == 0x5F):
        return True
    return _ESCAPE_END.search(text, max(0, place - 20), place) is not None


def _is_random(value: bytes) -> bool:
    """Whether letters and digits alternate as they do by chance, and not as they do in words and names."""
    bare = value.translate(None, b"._/:-=")
    kinds = [0 if 0x61 <= c <= 0x7A else 1 if 0x41 <= c <= 0x5A else 2 if 0x30 <= c <= 0x39 else 3 for c in bare]
    if len(set(kinds)) < 2 or not {0, 1} & set(kinds):
        return False
    changes = sum(a != b for a, b in pairwise(kinds))
    return changes >= _LEAST_CHANGES * (len(kinds) - 1) and not (set(kinds) == {0, 1} and changes < 0.4 * len(kinds))


@cache
def rules() -> tuple[Rule, ...]:
    """Those of rules.toml, specific ones first."""
    text = (resources.files(__package__) / "rules.toml").read_text(encoding="utf-8")
    return tuple(_rule(row) for row in tomllib.loads(text)["rule"])


def _rule(row: dict[str, Any]) -> Rule:
    values = {**row, "anchors": tuple(str(anchor).encode() for anchor in row.get("anchors", ()))}
    for key in ("pattern", "holds", "before"):
        if key in row:
            end = r"\Z" if key == "before" else ""
            values[key] = re.compile(f"(?:{row[key]}){end}".encode())
    return Rule(**values)
