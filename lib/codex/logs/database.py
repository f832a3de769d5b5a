"""The database that a command reads: a file with what is pending for it, or a shared one that a URL names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from codex.logging import config
from codex.logging import reading as files
from codex.logging.errors import ConfigError
from codex.logs.read.engine import Connection

if TYPE_CHECKING:  # the driver is loaded where a URL is named
    from codex.logs.read.postgres import Postgres

host_option = click.option(
    "--host", metavar="NAME", help="Of a shared database: only this host's; else a session is HOST:SESSION."
)


class Opened(NamedTuple):
    """What is read, and the name to call it by. `local` is there where it is a file: only that has the exact bytes."""

    connection: Connection
    path: str
    local: files.Opened | None = None

    def file(self) -> files.Opened:
        """It as the file that it must be. Raises ConfigError where it is a server's."""
        if self.local is None:
            raise ConfigError(
                "this takes a host's own database: a shared one has no exact bytes, and can't be followed",
                hint="Ask on that host, without --db URL; or leave out --raw, or -f.",
            )
        return self.local


@contextmanager
def reading(db: str | None, session_id: str | None = None, *, host: str | None = None) -> Iterator[Opened]:
    """Open what `db`, else the environment, names: see codex.logging.reading for a file.

    Raises DatabaseError where a server can't be reached, and what the rooms of `read` raise.
    """
    url = config.database_url(db)
    if url is None:
        if host is not None:
            raise ConfigError("a file holds one host alone", hint="--host chooses in a shared database.")
        with files.reading(db, session_id) as opened:
            yield Opened(opened.connection, opened.path, opened)
        return
    with closing(shared(url, on_command_line=bool(db), host=host)) as connection:
        yield Opened(connection, connection.path)


def shared(url: str, *, on_command_line: bool, host: str | None = None) -> Postgres:
    """A connection to a shared database."""
    try:
        from codex.logs.read import postgres
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"to read a shared database, {error.name} is needed", hint="pip install 'codex-ingestd[postgres]'"
        ) from error
    if on_command_line:
        postgres.refuse_password(url)
    return postgres.Postgres(url, host)
