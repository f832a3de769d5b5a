"""The allow-list: what may stay, although a rule finds it."""

from __future__ import annotations

import os
import re
import stat
from hashlib import blake2b
from importlib import resources
from typing import Any, NamedTuple

from codex.logging import config
from codex.logging.errors import ConfigError
from codex.logging.owners import others_may_write
from codex.logging.store.connection import translated

NAME = "secrets-allow"
_VERSION = b"6"  # of the scanner: raised where it finds other things by the same rules
_MOST_BYTES = 1 << 20
_HASH = re.compile(r"hash:([0-9a-f]{8})")


class Allowed(NamedTuple):
    """Hashes, texts and patterns; `mark` changes with them, and with the rules."""

    hashes: frozenset[str] = frozenset()
    texts: frozenset[bytes] = frozenset()
    patterns: tuple[Any, ...] = ()
    mark: str = ""

    def allows(self, value: bytes, hashed: str) -> bool:
        """Whether this secret may stay."""
        return hashed in self.hashes or value in self.texts or any(p.search(value) for p in self.patterns)


def allowed_of(database: str) -> Allowed:
    """What `secrets-allow` beside the database allows: a line each, `hash:HEX`, `regex:PATTERN` or the text itself.

    Raises ConfigError, DatabaseError.
    """
    path = os.path.join(os.path.dirname(database), NAME)
    lines = _lines(path)
    rules = (resources.files(__package__) / "rules.toml").read_bytes()
    mark = blake2b(b"\0".join([_VERSION, rules, *(line.encode() for line in lines)]), digest_size=8).hexdigest()
    hashes = frozenset(found[1] for line in lines if (found := _HASH.fullmatch(line)))
    patterns = tuple(_pattern(path, line[6:]) for line in lines if line.startswith("regex:"))
    texts = frozenset(line.encode() for line in lines if not line.startswith(("hash:", "regex:")))
    wrong = [line for line in lines if line.startswith("hash:") and not _HASH.fullmatch(line)]
    if wrong:
        raise ConfigError(f"{path}: {wrong[0]!r} is no hash", hint="`codex-logs secrets` shows them: 8 hex digits.")
    return Allowed(hashes, texts, patterns, mark)


def _lines(path: str) -> list[str]:
    with translated(path):
        try:
            # A named pipe or a device that came with somebody's project must not hang who looks for secrets there.
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(_MOST_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
        except FileNotFoundError:
            return []
        if not stat.S_ISREG(status.st_mode) or len(data) > _MOST_BYTES:
            raise ConfigError(f"{path} is no file of 1 MiB at most", hint="Write it anew.")
        if others_may_write(status) and not config.lets_others_write():
            raise ConfigError(f"{path}: others than its owner may write to it", hint=f"chmod go-w {path}")
        try:
            lines = [line.strip() for line in data.decode("utf-8").split("\n")]
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is no UTF-8 text", hint="Write it anew.") from error
    return [line for line in lines if line and not line.startswith("#")]


def _pattern(path: str, text: str) -> Any:
    import re2  # only where somebody gives a pattern

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text.encode(), options)
    except re2.error as error:
        raise ConfigError(f"{path}: {text!r} is no pattern: {error}", hint="Patterns are RE2's.") from error
