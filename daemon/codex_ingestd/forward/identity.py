"""Which spool this is: one local database on one machine."""

from __future__ import annotations

import getpass
import re
import secrets
import socket
import subprocess
import sys
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from typing import NamedTuple
from uuid import UUID

import apsw

from codex.logging.store.connection import immediate, scalar

DATABASE_ID = "database_id"
_MACHINE_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_SELECT = "SELECT value FROM meta WHERE key = ?"
_INSERT = "INSERT OR IGNORE INTO meta VALUES (?, ?)"


class Host(NamedTuple):
    """What a sink is told of who forwards; `machine` is a hash, empty where the machine has no id."""

    id: UUID
    machine: str
    name: str
    user: str
    database: str
    version: str


def host(connection: apsw.Connection, database: str, configured: str | None = None) -> Host:
    """Who forwards this database. Its own random id, of which the host's is made, is written at the first time.

    A `configured` text is what the host's id is made of instead.
    """
    machine = _machine()
    made_of = f"configured {configured}" if configured else f"{machine} {database_id(connection)}"
    number = UUID(bytes=blake2b(made_of.encode(), digest_size=16, person=b"codex-host").digest())
    user = ""
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return Host(number, machine, socket.gethostname(), user, database, version("codex-ingestd"))


def database_id(connection: apsw.Connection) -> str:
    """The random id that a database keeps for life, also when it is rebuilt."""
    if scalar(connection, _SELECT, (DATABASE_ID,)) is None:
        with immediate(connection):
            connection.execute(_INSERT, (DATABASE_ID, secrets.token_hex(16)))
    return str(scalar(connection, _SELECT, (DATABASE_ID,)))


def _machine() -> str:
    """A hash of the machine's id, which itself is nobody else's business."""
    number = _machine_id()
    return blake2b(number.encode(), digest_size=16, person=b"codex-machine").hexdigest() if number else ""


def _machine_id() -> str:
    for path in _MACHINE_FILES:
        with suppress(OSError), open(path, encoding="ascii") as file:
            if number := file.read().strip():
                return number
    if sys.platform == "darwin":
        command = ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(command, capture_output=True, timeout=5, check=True, text=True).stdout  # noqa: S603
            found = re.search(r'"IOPlatformUUID" = "([^"]+)"', told)
            return found[1] if found else ""
    return ""
