"""Where the shell helper lies: `codex-logs shell-helper`."""

from __future__ import annotations

import os

import click

import codex.logging


@click.command("shell-helper", epilog='\b\nExamples:\n  . "$(codex-logs shell-helper)"')
def command() -> int:
    """Print the path of the shell helper, for sourcing."""
    click.echo(os.path.join(os.path.dirname(os.path.abspath(codex.logging.__file__)), "session_logging.sh"))
    return 0
