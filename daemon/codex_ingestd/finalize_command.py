"""`codex-ingestd finalize`."""

from __future__ import annotations

import json
import time

import click

from codex.logging import config
from codex.logging import finalize as library
from codex.logging.terminal import db_option, json_option


@click.command(epilog="\b\nExamples:\n  codex-ingestd finalize\n  ALLOW_AUTOLFS=1 codex-ingestd finalize --json")
@db_option
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False),
    help="Folder of the NDJSON files.  [env: CODEX_SESSION_LOG_DIR; default: .codex/sessions]",
)
@json_option
def finalize(db: str | None, log_dir: str | None, as_json: bool) -> int:
    """Import what is pending, copy the database to `codex_session_logs.db` beside it, and `git add` both.

    The copy also goes to GH_COPILOT_BACKUP_ROOT, where that is set. It may run beside a daemon.

    Exit codes: 0 done, also where there is no repository to stage in; 1 no copy, or something failed; 2 bad usage.
    """
    settings = config.load(log_dir, db)
    began = time.perf_counter()
    done = library.finalize(settings.database, settings.log_dir)
    seconds = time.perf_counter() - began
    if as_json:
        click.echo(json.dumps(done._asdict() | {"seconds": round(seconds, 3)}, ensure_ascii=False))
        return int(bool(done.failures))
    for message in (*done.notes, *done.failures):
        click.echo(message, err=True)
    if config.test_mode():
        click.echo("TEST_MODE: nothing was written", err=True)
        return 0
    click.echo(f"{done.copy}: copied in {seconds:.2f} s, {done.rows} new rows, {len(done.staged)} files staged")
    if done.backup is not None:
        click.echo(f"{done.backup}: copied as well")
    return int(bool(done.failures))
