"""What stands in a secret's place: the same for the same secret, and of no use to who has not the key."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from hashlib import blake2b

from codex.logging import config
from codex.logging.errors import ConfigError
from codex.logging.owners import others_may_write
from codex.logging.secrets.scan import flattened
from codex.logging.store.connection import translated

_KEY_BYTES = 32
_DIGEST_BYTES = 4
_LAID_OUT = re.compile(rb'\\+[nrt"]|\s')


def key_of(database: str) -> bytes:
    """The key of a database's placeholders, which lies beside it (`DB.key`, mode 0600) and is made when it is missing.

    It is in no table, since the database itself is staged. Raises ConfigError, DatabaseError.
    """
    path = f"{database}.key"
    with translated(path):
        if not os.path.lexists(path):
            _make(path)
        key = _read(path)
    if len(key) != _KEY_BYTES:
        raise ConfigError(
            f"{path} is no key of {_KEY_BYTES} bytes",
            hint="Move it away: a new one is made; hashes differ from then on.",
        )
    return key


def known_key(database: str) -> bytes | None:
    """The key, where there is one that we may read. Raises ConfigError for one that others may write."""
    try:
        key = _read(f"{database}.key")
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        is_open = others_may_write(os.fstat(descriptor))
        key = os.read(descriptor, _KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if is_open and not config.lets_others_write():
        raise ConfigError(
            f"{path}: others than this user may write to it",
            hint=f"Move it away: a new one is made; hashes differ from then on. Or set {config.WRITABLE_BY_OTHERS}=1.",
        )
    return key


def _make(path: str) -> None:
    """Make it whole, or leave another process's."""
    part = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.close(descriptor)
        os.unlink(part)


def digest(key: bytes, value: bytes) -> str:
    """8 hex digits for a secret, however it is escaped, and wherever its lines end."""
    return blake2b(_LAID_OUT.sub(b"", flattened(value)), digest_size=_DIGEST_BYTES, key=key).hexdigest()


def keyed(chain: bytes, key: bytes) -> bytes:
    """What proves later which chain a generation had; nobody can guess by it what its bytes were."""
    return blake2b(chain, key=key, digest_size=len(chain)).digest()


def placeholder(rule: str, hashed: str) -> str:
    """What is written in the secret's place."""
    return f"[REDACTED:{rule}:{hashed}]"
