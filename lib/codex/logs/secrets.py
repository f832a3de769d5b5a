"""Where a database holds credentials, without showing any: `codex-logs secrets`."""

from __future__ import annotations

from contextlib import closing

import click

from codex.logging import config
from codex.logging.findings import Found, survey
from codex.logging.listing import print_json
from codex.logging.secrets.search import Search
from codex.logging.store.connection import open_reader, open_writer, translated
from codex.logging.terminal import db_option, json_option, tell
from codex.logs.chosen import SESSION
from codex.logs.read.sessions import find
from codex.logs.shown.tables import print_table


@click.command("secrets", epilog="\b\nExamples:\n  codex-logs secrets\n  codex-logs secrets my-session --json")
@click.argument("session", required=False, type=SESSION)
@db_option
@json_option
def command(session: str | None, db: str | None, as_json: bool) -> int:
    """List what looks like a credential, by session and line; the credential itself is not shown.

    What is new since the last look is scanned. Equal ones have equal hashes. A line `hash:HEX` in the file
    `secrets-allow` beside the database lets one be; `regex:PATTERN`, or the text itself, too.

    Exit codes: 0 none, 1 some, 2 bad usage.
    """
    database = config.resolve_database(db)
    with closing(open_reader(database)) as reader, translated(database):
        session = None if session is None else find(reader, session)
    found = [one for one in _scan(database) if session in (None, one.session_id)]
    if as_json:
        print_json(one._asdict() for one in found)
    elif found:
        columns = ("session", "line", "rule", "hash", "generation", "offset", "length")
        print_table(columns, ((f.session_id, f.seq, f.rule, f.hash, f.generation, f.offset, f.length) for f in found))
    tell(f"{len(found)} found", err=True)
    return int(bool(found))


def _scan(database: str) -> list[Found]:
    search = Search.of(database)
    with closing(open_writer(database)) as connection, translated(database):
        return survey(connection, search)
