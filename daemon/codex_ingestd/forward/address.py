"""Where a sink is: its URL, with which nothing secret gets out."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from codex.logging.errors import ConfigError

_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "clickhouse": "clickhouse",
    "clickhouses": "clickhouse",
    "chdb": "chdb",
}
_SECRET = ("password", "sslpassword", "access_token")
_VARIABLES = ("PGPASSWORD", "CLICKHOUSE_PASSWORD")
_SHORT = 4  # letters: what is shorter stands in any text by chance
_HIDDEN = "***"


class Address(NamedTuple):
    """A sink's URL. Nothing but `url` may hold a password; `name` is for people, logs, metrics and tables."""

    url: str
    name: str
    secrets: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Address({self.name!r})"

    def without_secrets(self, text: str) -> str:
        """A text that somebody else made of the URL, or who was given the password from elsewhere."""
        given = (os.environ.get(name, "") for name in _VARIABLES)
        for secret in (*self.secrets, *(secret for secret in given if len(secret) >= _SHORT)):
            text = text.replace(secret, _HIDDEN)
        return text


def parse(text: str) -> Address:
    """The address that a URL gives. Raises ConfigError, which tells nothing of the URL's inside."""
    scheme, colon, _ = text.partition("://")
    if not colon or scheme not in _SCHEMES:
        raise ConfigError(
            "a sink's URL begins with postgresql://, or with clickhouse:// or clickhouses://",
            hint="Write postgresql://USER@HOST:PORT/DATABASE; the password comes from ~/.pgpass, PGPASSWORD,"
            " CLICKHOUSE_PASSWORD, or the URL in the environment or a file.",
        )
    try:
        parts = urlsplit(text)
        # Where a driver and this see an end of it in different places, a part of a password would pass for a name.
        if scheme != "chdb" and ("#" in text or text.count("@") > ("@" in parts.netloc)):
            raise ValueError
        user, _, place = parts.netloc.rpartition("@")
        words = [unquote(value) for key, value in parse_qsl(parts.query) if key in _SECRET]
        values = dict(parse_qsl(parts.query))
    except ValueError:
        raise ConfigError("the sink's URL can't be read", hint="Percent-encode what is special in it.") from None
    password = user.partition(":")[2]
    secrets = {secret for secret in (password, unquote(password), *words) if secret}
    place = place or values.get("host", "")
    path = parts.path or (f"/{values['dbname']}" if "dbname" in values else "")
    return Address(text, f"{_SCHEMES[scheme]}://{place}{path}", tuple(sorted(secrets, key=len, reverse=True)))


def refuse_secrets(address: Address) -> None:
    """Raises ConfigError where it has a password: anybody can read a command line."""
    if address.secrets:
        raise ConfigError(
            "a password on the command line can be read by everybody on this machine",
            hint="Give the URL by CODEX_FORWARD_TO or by forward-to in codex-ingestd.toml, or leave the password to"
            " ~/.pgpass, PGPASSWORD or CLICKHOUSE_PASSWORD.",
        )
