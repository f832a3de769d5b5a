"""`codex-logs web` as a process of its own, and raw requests to it."""

from __future__ import annotations

import json
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.commands import BIN
from tests.daemon import wait_for


class Answer(NamedTuple):
    """What came back; the names of the headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> object:
        return json.loads(self.body)


class Page:
    """The page's process. `address` is what it printed, with the token; `log` is all that it says."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.log = database.with_suffix(".page")
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self.port = 0
        self._cookie: dict[str, str] = {}

    def start(self, *arguments: str) -> str:
        """Start it on a free port, and wait until it answers; the address that it printed."""
        command = [BIN / "codex-logs", "web", "--port", "0", "--no-open", "--db", self.database, *arguments]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        wait_for(lambda: b"\n" in self.log.read_bytes() or self.process.poll() is not None, what="the page's address")  # type: ignore[union-attr]
        assert self.process.poll() is None, self.log.read_text("utf-8")
        self.address = self.log.read_text("utf-8").partition("\n")[0]
        self.port = int(urlsplit(self.address).port or 0)
        return self.address

    @property
    def token(self) -> str:
        """The token of its address."""
        return urlsplit(self.address).query.partition("=")[2]

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request as a program would send it, with just these headers (`_` for `-`) beside the Host."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", headers.pop("host", f"127.0.0.1:{self.port}"))
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, given, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """The same as one who has been let in."""
        if not self._cookie and self.token:
            entered = self.ask(f"/?token={self.token}")
            self._cookie = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
        return self.ask(path, **self._cookie)

    def stop(self, number: int, seconds: float = 20) -> int:
        """Send it a signal; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
