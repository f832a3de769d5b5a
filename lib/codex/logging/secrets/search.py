"""The secrets that count: found by the rules, and not on the allow-list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from codex.logging.secrets.allow import Allowed, allowed_of
from codex.logging.secrets.placeholder import digest, key_of
from codex.logging.secrets.scan import Match, scanner


class Search(NamedTuple):
    """What a secret is, and what its hash is made with."""

    key: bytes
    allowed: Allowed

    @classmethod
    def of(cls, database: str) -> Search:
        """That of a database. Raises ConfigError, DatabaseError."""
        return cls(key_of(database), allowed_of(database))

    def find(self, text: bytes) -> Iterator[tuple[Match, str]]:
        """The secrets of a text that aren't allowed, with their hashes."""
        for match in scanner().find(text):
            value = text[match.start : match.end]
            hashed = digest(self.key, value)
            if not self.allowed.allows(value, hashed):
                yield match, hashed
