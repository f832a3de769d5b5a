"""Let an agent recall what was done before: `codex-logs mcp`."""

from __future__ import annotations

import os

import click

from codex.logging import config
from codex.logging.errors import CodexLoggingError, ConfigError
from codex.logging.terminal import db_option
from codex.logs.mcp.pages import Limits


@click.command(
    "mcp",
    epilog="\b\nExamples:\n  codex-logs mcp < /dev/null\n  codex-logs mcp --max-rows 20 --max-bytes 10000 < /dev/null",
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="At most N rows in a result.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=2000),
    default=40_000,
    show_default=True,
    metavar="N",
    help="At most N bytes in a result.",
)
@db_option
def command(max_rows: int, max_bytes: int, db: str | None) -> int:
    """Serve the tools search, sessions, show and usage over standard input and output, for a client that starts this.

    They only read: no tool writes, and what is not in the database yet is the daemon's to bring in. It ends with its
    standard input. A client is told of it by: claude mcp add codex-logs -- codex-logs mcp
    """
    if config.single_log(db) is not None:
        raise ConfigError("the tools read a database, not a log", hint="Name a database with --db.")
    try:
        from codex.logs.mcp.server import serve
    except ImportError as error:
        raise CodexLoggingError(
            f"the tools need a package that isn't installed ({error})", hint="pip install 'codex-ingestd[mcp]'"
        ) from error
    serve(os.path.abspath(config.resolve_database(db)), Limits(max_rows, max_bytes))
    return 0
