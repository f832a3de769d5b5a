"""Read the record in a browser: `codex-logs web`."""

from __future__ import annotations

import ipaddress
import os
from importlib.util import find_spec

import click

from codex.logging import config
from codex.logging.errors import CodexLoggingError, ConfigError, DatabaseMissingError
from codex.logging.terminal import db_option

DEFAULT_PORT = 8765


@click.command("web", epilog="\b\nExamples:\n  codex-logs web\n  codex-logs web --port 0 --no-open --db agents.db")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help=f"Port; 0 takes a free one.  [default: {DEFAULT_PORT}, or a free one where that is taken]",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="This machine's, of its own.")
@click.option("--expose", is_flag=True, help="Let --host name an address that other machines reach, unencrypted.")
@click.option("--open/--no-open", "browser", default=None, help="Open the browser.  [default: on a terminal]")
@click.option("--no-token", is_flag=True, help="Let every program of this machine read, without the token in the URL.")
@db_option
def command(port: int | None, host: str, expose: bool, browser: bool | None, no_token: bool, db: str | None) -> int:
    """Serve a page with the sessions as they go on, search, usage and health, for this machine alone.

    The page reads and never writes. Ctrl-C ends it.
    """
    if find_spec("datasette") is None or find_spec("uvicorn") is None:
        raise CodexLoggingError(
            "the page needs packages that aren't installed", hint="Run: pip install 'codex-ingestd[web]'"
        )
    if not _is_loopback(host) and not expose:
        raise ConfigError(
            f"--host {host} would show the record to other machines", hint="Add --expose if that is what you want."
        )
    if not _is_loopback(host) and no_token:
        raise ConfigError("--no-token is for this machine alone", hint="Leave out --no-token, or --host.")
    database = config.resolve_database(db)
    if not os.path.exists(database):
        raise DatabaseMissingError(
            f"there is no database at {database}",
            hint="Start `codex-ingestd run`, or run `codex-import-ndjson --all`, or name another one with --db.",
        )
    from codex.logs.web.server import serve

    ports = (DEFAULT_PORT, 0) if port is None else (port,)
    return serve(database, host, ports, with_token=not no_token, open_browser=browser)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
