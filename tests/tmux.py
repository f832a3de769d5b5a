"""A terminal of a chosen size, with what is to be seen on it: tmux, on a server of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import BIN
from tests.daemon import wait_for

_UNSET = ("-u", "NO_COLOR", "-u", "COLUMNS", "-u", "LINES", "-u", "PAGER", "-u", "LESS")
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")


class Terminal:
    """A terminal in which one command runs; its last screen stays when the command has ended."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", os.devnull]

    def start(self, command: str, folder: Path, columns: int, lines: int, env: Mapping[str, str]) -> None:
        """Run it in bash in this folder."""
        variables = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TZ": "UTC", **env}
        size = ["-x", str(columns), "-y", str(lines)]
        words = [*(f"{name}={value}" for name, value in variables.items()), "bash", "-c", f"{command}; exec cat"]
        self._run("new-session", "-d", *size, "-c", str(folder), shlex.join(["env", *_UNSET, *words]))

    def screen(self, *, colour: bool = False) -> str:
        """What is on the screen: as text, or with the escapes that make its colours."""
        return self._run("capture-pane", "-p", *(["-e"] if colour else []))

    def press(self, *keys: str) -> None:
        """Keys by tmux's names."""
        self._run("send-keys", *keys)

    def title(self) -> str:
        """What the terminal was told to be called."""
        return self._run("display-message", "-p", "#{pane_title}").strip()

    def wait_for(self, *texts: str) -> str:
        """The screen, once it has these texts."""
        wait_for(lambda: all(text in self.screen() for text in texts), what=f"{texts} on the screen")
        return self.screen()

    def end(self) -> None:
        """All that runs in it is gone."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=20)

    def _run(self, *words: str) -> str:
        result = subprocess.run([*self._tmux, *words], capture_output=True, timeout=20)
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode()


@contextmanager
def terminal(
    command: str, folder: Path, columns: int = 80, lines: int = 40, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """A terminal in which the command runs, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="tmux-") as place:  # a socket's path has to be short
        opened = Terminal(Path(place) / "s")
        try:
            opened.start(command, folder, columns, lines, env or {})
            yield opened
        finally:
            opened.end()
