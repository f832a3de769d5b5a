"""Where the metrics listen."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from codex.logging.errors import ConfigError
from codex_ingestd.settings.keys import OFF

_LAST_PORT = 65535


class Address(NamedTuple):
    """Where the metrics are: a host's name or number, and a port, 0 for any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether no other host can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse(text: str) -> Address | None:
    """What `[HOST:]PORT` names, on this host alone where it names none. Raises ConfigError."""
    if text == OFF:
        return None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ConfigError(f"{text!r} is no address", hint="Write 127.0.0.1:9464, or a port alone; off for none.")
    return Address(host or "127.0.0.1", int(port))
