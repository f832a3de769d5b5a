"""The session that a command line names: its id, the beginning of it, or `last`; the shell completes it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import click
from click.shell_completion import CompletionItem

from codex.logging import config
from codex.logging.errors import CodexLoggingError
from codex.logging.store.connection import open_reader, translated
from codex.logs.database import Opened, reading, shared
from codex.logs.read.engine import Connection
from codex.logs.read.sessions import find, names

# Names of files are others' to choose: what a shell would expand or run is never offered to it.
_PLAIN = re.compile(r"[\w.][\w./:@+-]*")


class SessionName(click.types.StringParamType):
    """A session as a person types it; its shell completion knows those in the database."""

    name = "session"

    def shell_complete(self, context: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The ids that begin like this and mean nothing to a shell; none where the database can't be read."""
        given = context.params.get("db") or (context.parent.params.get("db") if context.parent is not None else None)
        try:
            with _opened(given, context.params.get("host")) as connection:
                known = names(connection)
        except CodexLoggingError:
            return []
        chosen = (name for name in ["last", *known] if name.startswith(incomplete) and _PLAIN.fullmatch(name))
        return [CompletionItem(name) for name in chosen]


SESSION = SessionName()


def _opened(db: str | None, host: str | None) -> AbstractContextManager[Connection]:
    """What the shell completes from: a database as it is."""
    url = config.database_url(db)
    if url is not None:
        return closing(shared(url, on_command_line=bool(db), host=host))
    return closing(open_reader(config.resolve_database(db)))


@contextmanager
def session_opened(db: str | None, text: str, host: str | None = None) -> Iterator[tuple[Opened, str]]:
    """The database with what is pending, and the id of the session that is meant.

    Raises NoSuchSessionError, naming near ones or those that it may be.
    """
    with reading(db, text if _has_log(text) else None, host=host) as opened, translated(opened.path):
        yield opened, find(opened.connection, text)


def _has_log(text: str) -> bool:
    """Whether this is the whole id of a session whose log lies in the log folder: then no other file is looked at."""
    return bool(text) and os.sep not in text and os.path.exists(_log_of(text))


def _log_of(text: str) -> str:
    return os.path.join(config.resolve_log_dir(), f"{text}.ndjson")
