"""The command `completion` of a program: what makes a shell complete the program's commands and options."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import get_completion_class


def completion(program: str, root: Callable[[], click.Command]) -> click.Command:
    """The command for a program; `root` gives the program's outermost command."""

    @click.command(
        "completion",
        short_help="What makes a shell complete commands and options.",
        epilog=f'\b\nExamples:\n  eval "$({program} completion bash)"'
        f"\n  {program} completion zsh > _{program}\n  {program} completion fish > {program}.fish",
    )
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def command(shell: str) -> int:
        """Print the script that makes a shell complete commands, options and what can be named.

        For bash (4.4 or newer) put the first example into ~/.bashrc; for zsh its file into a folder of $fpath; for
        fish into ~/.config/fish/completions.
        """
        made = get_completion_class(shell)
        assert made is not None
        variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
        click.echo(made(root(), {}, program, variable).source())
        return 0

    return command
