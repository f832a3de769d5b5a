"""What makes a shell complete `codex-logs`: commands, options and the ids of sessions."""

from __future__ import annotations

import click

from codex.logging.completion import completion


def _root() -> click.Command:
    from codex.logs.cli import command as root

    return root


command = completion("codex-logs", _root)
