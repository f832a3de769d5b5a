"""`codex-ingestd config` and `validate`; and the options by which every command gets its settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from codex.logging import config as library
from codex.logging import config_file
from codex.logging.terminal import json_option, tell, tell_json
from codex_ingestd.settings.keys import KEYS, OFF, Key
from codex_ingestd.settings.values import Loaded, examine

Command = TypeVar("Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help=f"Read this {config_file.NAME} in the place of the user's and the working folder's."
    f"  [env: {config_file.VARIABLE}]",
)


def setting_options(*names: str) -> Callable[[Command], Command]:
    """`--config`, and a flag for each of these keys: None, or empty, where it isn't given. See settings.load."""

    def decorate(command: Command) -> Command:
        command = config_option(command)
        for name in reversed(names):
            command = _option(KEYS[name])(command)
        return command

    return decorate


def _option(key: Key) -> Callable[[Command], Command]:
    default = key.default if not key.several else ", ".join(key.default) or "none"
    if isinstance(default, bool | float):
        default = json.dumps(default)
    return click.option(
        f"--{key.name}/--no-{key.name}" if key.kind is click.BOOL else f"--{key.name}",
        type=key.kind,
        default=None,
        multiple=key.several,
        metavar=key.metavar or ("NUMBER" if isinstance(key.default, float) else None),
        help=f"{key.help}  [env: {', '.join(key.variables)}{f'; default: {default}' if default else ''}]",
    )


@click.command(
    epilog="\b\nExamples:\n  codex-ingestd config\n  codex-ingestd config --config other.toml --json | jq '.db.from'"
)
@setting_options(*KEYS)
@json_option
def config(file: str | None, as_json: bool, **flags: Any) -> int:
    """Show each setting that `run` would have with the same flags, and where it came from.

    Exit codes: 0 shown, 2 something can't be used: see `validate`.
    """
    loaded, problems = examine(flags, file)
    rows = _rows(loaded)
    if as_json:
        tell_json({name: {"value": value, "from": origin} for name, value, origin in rows})
    else:
        _show(rows)
    for problem in problems:
        tell(f"error: {problem}", err=True)
        tell(f"hint: {problem.hint}", err=True)
    return 2 if problems else 0


def _rows(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """Key, value as it would stand in a file, and origin."""
    settings = loaded.settings
    rows = []
    for name, origin in loaded.origins.items():
        value: Any = getattr(settings, name.replace("-", "_"))
        if name == "watch":
            value = [f"{root.format}={root.folder}" if root.format else root.folder for root in settings.watch]
        if name == "redact":
            value = settings.redact or OFF
        if name == "metrics":
            value = OFF if settings.metrics is None else str(settings.metrics)
        if name == "forward-to":
            value = [str(address) for address in settings.forward_to]
        rows.append((name, value, origin))
    return rows


def _show(rows: list[tuple[str, Any, str]]) -> None:
    texts = [(name, json.dumps(value, ensure_ascii=False), origin) for name, value, origin in rows]
    width = max(len(f"{name} = {text}") for name, text, _ in texts)
    for name, text, origin in texts:
        tell(f"{f'{name} = {text}':{min(width, 80)}}  # {origin}")


@click.command(epilog="\b\nExamples:\n  codex-ingestd validate\n  codex-ingestd validate ~/other.toml --json")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@json_option
def validate(file: str | None, as_json: bool) -> int:
    """Check the configuration: FILE, or the files that count in this folder; and the environment.

    Exit codes: 0 it can be used, 2 it can't: each problem is told with its place.
    """
    _, problems = examine({}, file)
    if as_json:
        tell_json([problem._asdict() for problem in problems])
        return 2 if problems else 0
    for problem in problems:
        tell(f"error: {problem}", err=True)
        tell(f"hint: {problem.hint}", err=True)
    if not problems:
        read = [source.path for source in config_file.sources(library.absolute(os.curdir), file)]
        tell(f"fine: {', '.join(read) if read else 'no file, the defaults count'}")
    return 2 if problems else 0
