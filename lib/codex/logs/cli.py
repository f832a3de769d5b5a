"""`codex-logs`: its commands, each imported when it is the one that is called."""

from __future__ import annotations

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from codex.logging import query_logs, terminal

# Command: its module, and what `--help` says of it, since help must not import them all.
_COMMANDS = {
    "completion": ("completion", "What makes a shell complete commands and sessions."),
    "erase": ("erase", "A session, a line or a text out of everything, for good."),
    "errors": ("errors", "What went wrong, to learn from."),
    "export": ("export.command", "Sessions as JSON lines, CSV, Markdown, a page, or Parquet."),
    "mcp": ("mcp.command", "Let an agent recall what was done: tools over the Model Context Protocol."),
    "pack": ("pack", "A session as a zip that can be checked anywhere."),
    "raw": ("raw", "One line's exact bytes."),
    "search": ("search", "What was said where: words, phrases, filters; the best hits first."),
    "secrets": ("secrets", "Where credentials are, without showing them."),
    "sessions": ("sessions", "The agents' sessions, that with the latest event first."),
    "shell-helper": ("shell_helper", "The path of the shell helper, for sourcing."),
    "show": ("show", "A session as a readable transcript."),
    "sql": ("sql", "Any question in SQL; nothing but reading is possible."),
    "stats": ("stats", "What happened, counted: by day, tool, model, project …"),
    "tail": ("tail", "The newest events; -f follows what the agents do."),
    "usage": ("usage", "The tokens that model calls took, and their cost."),
    "web": ("web.command", "A page for the browser: live sessions, search, usage, health."),
}


class _Lazy(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = _COMMANDS.get(name)
        if found is None:
            return None
        command: click.Command = import_module(f"codex.logs.{found[0]}").command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As ever, and a mistyped command is answered with those that are near."""
        try:
            return super().resolve_command(context, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=context) from None

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands by name and the options, without importing any of them."""
        named = [CompletionItem(name, help=about) for name, (_, about) in sorted(_COMMANDS.items())]
        chosen = [item for item in named if item.value.startswith(incomplete)]
        return chosen + click.Command.shell_complete(self, context, incomplete)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(context)])


def _root(context: click.Context, **values: object) -> object:
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"db": values["db"]}}
        return 0
    return context.invoke(query_logs.command, **values)


command = _Lazy(
    "codex-logs",
    invoke_without_command=True,
    params=[*query_logs.command.params],
    callback=click.pass_context(_root),
    context_settings=query_logs.command.context_settings,
    help=query_logs.command.help,
    epilog=query_logs.command.epilog,
)


def main(arguments: list[str] | None = None) -> int:
    """The command's process: its exit code."""
    return terminal.run(command, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
