"""What makes a shell complete `codex-logs`: commands, options and the ids of sessions."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_NAME, _VARIABLE = "codex-logs", "_CODEX_LOGS_COMPLETE"


@click.command(
    "completion",
    epilog='\b\nExamples:\n  eval "$(codex-logs completion bash)"'
    "\n  codex-logs completion zsh > _codex-logs\n  codex-logs completion fish > codex-logs.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that makes a shell complete commands, options and sessions.

    For bash (4.4 or newer) put the first example into ~/.bashrc; for zsh its file into a folder of $fpath; for fish
    into ~/.config/fish/completions.
    """
    from codex.logs.cli import command as root

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(root, {}, _NAME, _VARIABLE).source())
    return 0
