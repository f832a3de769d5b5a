"""The rules: what a secret looks like, and where it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from codex.logging.secrets.values import (
    UUID,
    entropy,
    is_basic,
    is_code,
    is_example,
    is_passphrase,
    is_password,
    is_phrase,
    is_random,
    is_reference,
)

_MADE: dict[str, Callable[[bytes], bool]] = {
    "": bool,
    "random": is_random,
    "password": is_password,
    "basic": is_basic,
    "words": is_phrase,
}
_HASHED = re.compile(rb"(?:sha(?:1|256|384|512)|md5)[-:=]\Z", re.IGNORECASE)
_WITHIN_ARN = re.compile(rb"(?:arn:aws|urn:)[A-Za-z0-9:/_-]{0,100}\Z")
_OTHER_NAMES = re.compile(
    rb"hash|digest|checksum|integrity|sha[0-9]|public|fingerprint|thumbprint|publishable|csrf|xsrf|accessor|encrypted"
    rb"|(?:next|page|cursor|continuation|sync|resume|cancel(?:lation)?|shard|pad|eos|bos|unk|cls|sep|mask).?token"
    rb"|(?:primary|foreign|partition|sort|cache|idempotency|dedup[a-z]*|group|object|routing|row|range|index|unique|translation|i18n"
    rb"|websocket|site|pub|host|known|kms|map|message|publickey).?key|keys?.?(?:name|vault)"
    rb"|_id\Z|file|path|name\Z|type\Z|kind\Z|tokenizer|endpoint|(?:_|-)(?:ur[il]|arn|len|ttl|count|version|size|ref)\Z",
    re.IGNORECASE,
)
_OTHER_ENDS = re.compile(rb"(?:Id|Arn|Ur[il]|Ref|Version|Header|Name)\Z")
# Names whose values may be UUIDs, as some services' keys are.
_UUID_NAMES = re.compile(rb"passw|pwd|(?:api|access|secret|licen[sc]e).?key|secret\Z", re.IGNORECASE)
_NEXT = re.compile(rb"&[A-Za-z_.-]{1,40}=")
_REST = re.compile(rb"[(\[{<][^\s\"'`\\]{0,200}")
_ELEMENT = re.compile(rb"<\\{0,8}/")
# A value that is the name of the next one, which is looked at by itself.
_ANOTHER = re.compile(
    rb"[A-Za-z_.-]{0,30}?(?:key|token|secret|passw(?:or)?d|pwd)[A-Za-z_]{0,10}[=:](?!=)", re.IGNORECASE
)
_ASSIGNED = re.compile(rb"[\w.-]+[=:](?!=|\Z)")
# Of an escape that is no letter or digit, or of a colour.
_ESCAPE_END = re.compile(rb"(?:\\(?:[bfnrt]|u(?!00[2-7])[0-9A-Fa-f]{4})|\[[0-9;]{0,16}m)\Z")
_NAME_END = re.compile(rb"[A-Za-z0-9_.-]{1,40}\Z")
_NAME_BYTES = 40
_SETTINGS = frozenset({b"requirepass", b"masterauth"})  # of redis.conf: what follows is no expression
_PLACEHOLDER = re.compile(rb"\[REDACTED:[a-z-]{0,29}\Z")
_PART = re.compile("@([a-z0-9]+)@")
_BEFORE = 96  # bytes
_SPACED_BYTES = 20  # in a token that only spaces part from its name


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
    least: int = 8
    made: str = ""
    holds: re.Pattern[bytes] | None = None

    def match(self, text: bytes, place: int) -> tuple[int, int] | None:
        """Where the secret is whose anchor, or shape, was found at a place; None where that is none."""
        start = place
        if self.before is not None:
            found = self.before.search(text, max(0, place - _BEFORE), place)
            if found is None:
                return None
            start = found.start()
        if not self.loose and not _begins_word(text, start):
            return None
        match = self.pattern.match(text, place)
        if match is None:
            return None
        if "name" in match.re.groupindex:
            return self._named(match)
        group = "secret" if "secret" in match.re.groupindex else 0
        first, end = match.span(group)
        if not group:
            first = start
        if _HASHED.search(text, max(0, first - _BEFORE), first):
            return None
        body = match["body"] if "body" in match.re.groupindex else text[first:end]
        return (first, end) if self._is_secret(text[first:end], body) else None

    def _named(self, match: re.Match[bytes]) -> tuple[int, int] | None:
        """Where the secret is that a name tells of; None where it is none, or the name another thing's."""
        text, quoted = match.string, match["quoted"] is not None
        first, end = match.span("quoted" if quoted else "plain")
        before = (max(0, match.start() - _NAME_BYTES), match.start())
        begin = _NAME_END.search(text, *before)
        name = (begin[0] if begin else b"") + match["name"]
        is_other = _PLACEHOLDER.search(text, *before) or _OTHER_NAMES.search(name) or _OTHER_ENDS.search(match["name"])
        if is_other or _WITHIN_ARN.search(text, max(0, match.start() - 2 * _BEFORE), match.start()):
            return None
        if not quoted and (next_one := _NEXT.search(text, first, end)):
            end = next_one.start()
        value = text[first:end]
        if _ANOTHER.match(value):
            return None
        is_variable = (name.isupper() and match["told"] == b"=") or name.lower() in _SETTINGS or is_passphrase(value)
        is_variable = is_variable and self.made == "password" and not match["after"]
        is_literal = quoted or is_variable or _ELEMENT.match(text, end)
        if not is_literal and is_code(value, called=bool(match["after"])):
            return None
        if match["after"] and match["after"] != b"<":
            rest = _REST.match(text, end)
            end = rest.end() if rest else end
            value = text[first:end]
        if match["spaced"] and (
            name.lower() == b"pass"
            or (not quoted and _ASSIGNED.match(value))
            or (self.made == "random" and len(value) < _SPACED_BYTES)
        ):
            return None
        if match["told"] is None and not any(0x30 <= c <= 0x39 for c in value):
            return None
        if is_reference(value) or (UUID.fullmatch(value) and not _UUID_NAMES.search(name)):
            return None
        return (first, end) if self._is_secret(value, value) else None

    def _is_secret(self, value: bytes, body: bytes) -> bool:
        if len(value) < self.least or entropy(value) < self.entropy or is_example(value):
            return False
        return not (self.holds is not None and not self.holds.search(value)) and _MADE[self.made](body)


def _begins_word(text: bytes, place: int) -> bool:
    """Whether no letter or digit stands before; those of an escape (`\\n`) or of a colour (`ESC[0m`) don't count."""
    if not place or not (text[place - 1 : place].isalnum() or text[place - 1] == 0x5F):
        return True
    return _ESCAPE_END.search(text, max(0, place - 20), place) is not None


@cache
def rules() -> tuple[Rule, ...]:
    """Those of rules.toml, specific ones first."""
    table = tomllib.loads((resources.files(__package__) / "rules.toml").read_text(encoding="utf-8"))
    return tuple(_rule(row, table["parts"]) for row in table["rule"])


def _rule(row: dict[str, Any], parts: dict[str, str]) -> Rule:
    values = {**row, "anchors": tuple(str(anchor).encode() for anchor in row.get("anchors", ()))}
    for key in ("pattern", "shape", "tail"):
        while key in values and _PART.search(values[key]):
            values[key] = _PART.sub(lambda part: parts[part[1]], values[key])
        if key in values and key != "pattern":
            values[key] = values[key].replace("{0,63}", "*").replace("{1,63}", "+")
    for key in ("pattern", "holds", "before"):
        if key in row:
            end = r"\Z" if key == "before" else ""
            values[key] = re.compile(f"(?:{values[key]}){end}".encode())
    return Rule(**values)
