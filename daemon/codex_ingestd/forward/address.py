"""Where a sink is: its URL."""

from __future__ import annotations

from codex.logging import address
from codex.logging.address import Address
from codex.logging.errors import ConfigError

_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "clickhouse": "clickhouse",
    "clickhouses": "clickhouse",
    "chdb": "chdb",
}


def parse(text: str) -> Address:
    """The address that a URL gives. Raises ConfigError, which tells nothing of the URL's inside."""
    scheme, colon, _ = text.partition("://")
    if not colon or scheme not in _SCHEMES:
        raise ConfigError(
            "a sink's URL begins with postgresql://, or with clickhouse:// or clickhouses://",
            hint="Write postgresql://USER@HOST:PORT/DATABASE; the password comes from ~/.pgpass, PGPASSWORD,"
            " CLICKHOUSE_PASSWORD, or the URL in the environment or a file.",
        )
    return address.parse(text, _SCHEMES[scheme], is_file=scheme == "chdb")


def refuse_secrets(sink: Address) -> None:
    """Raises ConfigError where it has a password: anybody can read a command line."""
    sink.refuse_secrets(
        "Give the URL by CODEX_FORWARD_TO or by forward-to in codex-ingestd.toml, or leave the password to"
        " ~/.pgpass, PGPASSWORD or CLICKHOUSE_PASSWORD."
    )
