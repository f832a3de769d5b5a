"""What every command does alike at its edge: exit codes, messages with a hint, UTF-8."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import click
import click.shell_completion

from codex.logging.errors import CodexLoggingError, OutputError
from codex.logging.plain import plain_json, visible

_LINE_END = re.compile(r"\n(?! )")

db_option = click.option(
    "--db",
    type=click.Path(),
    help="Database.  [env: CODEX_LOG_DB_PATH, CODEX_DB_PATH; default: .codex/session_logs.db]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For machines: JSON.")


@contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar over bytes on standard error, on a terminal only; the block calls what it gets with bytes done."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn(title), *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Say, where Ctrl-C ends the block, what is so now and what to do."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"interrupted: {what}", err=True)
        raise


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command and give its exit code; an error is a message and a hint, with --debug a traceback."""
    _fill_in()
    _mark_output()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = bool(os.environ.get("CODEX_DEBUG"))
    try:
        result = _invoke(command, arguments)
        sys.stdout.flush()
    except click.ClickException as error:
        with redirect_stderr(io.StringIO()) as shown:
            error.show()
        click.echo(visible(shown.getvalue()), err=True, nl=False)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _tell(error)
    return result if isinstance(result, int) else 0


def _fill_in() -> None:
    """Have each stream that the caller closed lead nowhere, and its number be no other file's."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it lasts as long as we do


class _Output(io.FileIO):
    """Standard output, whose troubles are no other file's. Raises OutputError, and BrokenPipeError as ever."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"standard output: {error.strerror}",
                hint="What was to be shown didn't get there: make room, or let it go elsewhere.",
            ) from error


def _mark_output() -> None:
    """Have what goes wrong with standard output be told as such, wherever it comes up."""
    former = sys.stdout
    if former is sys.__stdout__ and isinstance(former, io.TextIOWrapper):
        buffer = io.BufferedWriter(_Output(former.fileno(), "wb", closefd=False))
        sys.stdout = io.TextIOWrapper(
            buffer, line_buffering=former.line_buffering, write_through=former.write_through, encoding="utf-8"
        )


def _tell(error: Exception) -> int:
    """Say what went wrong and what to do next; the exit code."""
    message, hint, code = f"{type(error).__name__}: {error}", "this is a defect; CODEX_DEBUG=1 shows where.", 1
    if isinstance(error, OutputError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it would be tried once more
    if isinstance(error, CodexLoggingError):
        message, hint, code = str(error), error.hint, error.exit_code
    elif isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        message, hint = f"{place}{error.strerror or error}", "the system refused a call; its own log may tell why."
    tell(f"error: {message}", err=True)
    if hint:
        tell(f"hint: {hint}", err=True)
    return code


def tell(text: str, *, err: bool = False, start: str = "") -> None:
    """Print one line for a person; what others wrote in it, a name or a path, is shown and not obeyed.

    `start` stands before it as it is, for colour. A line end in a name begins no line; one before an indent does.
    """
    click.echo(start + _LINE_END.sub("⏎", visible(text)), err=err)


def tell_json(value: object) -> None:
    """Print one line of JSON, in which what a terminal would obey are escapes."""
    click.echo(plain_json(json.dumps(value, ensure_ascii=False)))


def _invoke(command: click.Command, arguments: list[str]) -> object:
    """As click's own `main`, which would turn a reader that closed the pipe into exit code 1."""
    name = os.path.basename(sys.argv[0])
    variable = f"_{name}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    if instruction := os.environ.get(variable):
        return click.shell_completion.shell_complete(command, {}, name, variable, instruction)
    try:
        with command.make_context(name, arguments) as context:
            return command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
