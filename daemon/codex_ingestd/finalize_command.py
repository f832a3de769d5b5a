"""`codex-ingestd finalize`."""

from __future__ import annotations

import time

import click

from codex.logging import config
from codex.logging import finalize as library
from codex.logging.plain import counted
from codex.logging.terminal import db_option, json_option, tell, tell_json


@click.command(epilog="\b\nExamples:\n  codex-ingestd finalize\n  ALLOW_AUTOLFS=1 codex-ingestd finalize --json")
@db_option
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False),
    help="Folder of the NDJSON files.  [env: CODEX_SESSION_LOG_DIR; default: .codex/sessions]",
)
@click.option(
    "--allow-secrets",
    is_flag=True,
    envvar="CODEX_ALLOW_SECRETS",
    help="Stage what looks like a secret, too.  [env: CODEX_ALLOW_SECRETS]",
)
@json_option
def finalize(db: str | None, log_dir: str | None, allow_secrets: bool, as_json: bool) -> int:
    """Import what is pending, copy the database to `codex_session_logs.db` beside it, and `git add` both.

    The copy also goes to GH_COPILOT_BACKUP_ROOT, where that is set. It may run beside a daemon. Where there are secrets
    the copy is made without them, and the database is not staged.

    Exit codes: 0 done, also where there is no repository to stage in; 1 no copy, or something failed; 2 bad usage; 4
    done, but for secrets.
    """
    settings = config.load(log_dir, db)
    began = time.perf_counter()
    done = library.finalize(settings.database, settings.log_dir, allow_secrets=allow_secrets or None)
    seconds = time.perf_counter() - began
    if as_json:
        more = {"secrets": [one._asdict() for one in done.secrets], "seconds": round(seconds, 3)}
        tell_json(done._asdict() | more)
        return _code(done)
    for message in (*done.notes, *done.failures):
        tell(message, err=True)
    if config.test_mode():
        tell("TEST_MODE: nothing was written", err=True)
        return 0
    came = f"{counted(done.rows, 'new row')}, {counted(len(done.staged), 'file')} staged"
    tell(f"{done.copy}: copied in {seconds:.2f} s, {came}")
    if done.backup is not None:
        tell(f"{done.backup}: copied as well")
    return _code(done)


def _code(done: library.Finalized) -> int:
    return 1 if done.failures else 4 if done.secrets else 0
