"""`codex-ingestd finalize`, and the options by which `run` gets its hooks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from codex.logging import config
from codex.logging import finalize as library
from codex.logging.terminal import db_option, json_option
from codex_ingestd.hooks import COMMAND_SECONDS, CopyAndStage, Hook, chosen

Command = TypeVar("Command", bound=Callable[..., Any])


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


def hook_options(command: Command) -> Command:
    """The parameters `finalize`, `hook` and `hook_seconds` of a command that runs hooks: see chosen_hooks."""
    for option in (
        click.option(
            "--hook-seconds",
            type=click.FloatRange(min=0, min_open=True),
            default=COMMAND_SECONDS,
            show_default=True,
            help="Time limit of a COMMAND.",
        ),
        click.option(
            "--hook",
            multiple=True,
            metavar="finalize|archive|COMMAND",
            help="Run this when a session has ended; may be given again. A COMMAND gets details as JSON.",
        ),
        click.option(
            "--finalize",
            is_flag=True,
            envvar="CODEX_FINALIZE",
            show_envvar=True,
            help="The same as --hook finalize.",
        ),
    ):
        command = option(command)
    return command


def chosen_hooks(finalize: bool, hook: tuple[str, ...], hook_seconds: float) -> list[Hook]:
    """The hooks that these options ask for. Raises ConfigError."""
    return chosen([*([CopyAndStage.name] if finalize else []), *hook], hook_seconds)
