"""Where a server is: its URL, with which nothing secret gets out."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

from codex.logging.errors import ConfigError

_SECRET = ("password", "sslpassword", "access_token")
_VARIABLES = ("PGPASSWORD", "CLICKHOUSE_PASSWORD")
_SHORT = 4  # letters: what is shorter stands in any text by chance
_HIDDEN = "***"


class Address(NamedTuple):
    """A server's URL. Nothing but `url` may hold a password; `place` is host, port and path, as they are written."""

    url: str
    scheme: str
    user: str
    place: str
    secrets: tuple[str, ...]

    @property
    def name(self) -> str:
        """The same whoever comes: for people, logs, metrics and tables."""
        return f"{self.scheme}://{self.place}"

    @property
    def name_with_user(self) -> str:
        """For who may have come as the wrong one."""
        return f"{self.scheme}://{self.user}@{self.place}" if self.user else self.name

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

    def refuse_secrets(self, hint: str) -> None:
        """For a command line, which everybody can read. Raises ConfigError, with the hint, where it has a password."""
        if self.secrets:
            raise ConfigError("a password on the command line can be read by everybody on this machine", hint=hint)


def parse(text: str, scheme: str, *, is_file: bool = False) -> Address:
    """The address that a URL gives, by this name of its scheme. Raises ConfigError, which tells nothing of the URL."""
    try:
        parts = urlsplit(text)
        # Where a driver and this see an end of it in different places, a part of a password would pass for a name.
        if not is_file and ("#" in text or text.count("@") > ("@" in parts.netloc)):
            raise ValueError
    except ValueError:
        raise ConfigError(
            "the server's URL can't be read",
            hint="Percent-encode what is special in it: @ within a name or a secret is written as %40, / as %2F.",
        ) from None
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    written = [password, *(value for key, _, value in pairs if key in _SECRET)]
    options = {key: unquote(value) for key, _, value in pairs}
    host = host or options.get("host", "") or options.get("hostaddr", "")
    path = parts.path or (f"/{options['dbname']}" if "dbname" in options else "")
    secrets = {form for one in written if one for form in (one, unquote(one), unquote_plus(one))}
    user = unquote(user) or options.get("user", "")
    return Address(text, scheme, user, f"{host}{path}", tuple(sorted(secrets, key=len, reverse=True)))
