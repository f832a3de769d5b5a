"""Who asks a server, or names one: nothing of its password is told, whatever the server says."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import shell

PASSWORD = "s3cret"
COMMANDS = ("codex-ingestd forward --once --to", "codex-logs sessions --db")
_NO_ENCRYPTION = (80877103, 80877104)  # libpq asks for TLS, or for GSSAPI
_IN_CLEAR = b"R" + struct.pack("!II", 8, 3)


class Echo(socketserver.StreamRequestHandler):
    """A server that asks for the password in clear, and quotes it as it refuses it."""

    def handle(self) -> None:
        """One connection."""
        while self._word(struct.unpack("!I", self.rfile.read(4))[0]) in _NO_ENCRYPTION:
            self.wfile.write(b"N")
        self.wfile.write(_IN_CLEAR)
        _, length = struct.unpack("!cI", self.rfile.read(5))
        said = self.rfile.read(length - 4).rstrip(b"\0")
        fields = b"SFATAL\0C28P01\0M\x1b[31mno role has %b\0D%b\0\0" % (said, said)
        self.wfile.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    def _word(self, length: int) -> int:
        body = self.rfile.read(length - 4)
        return int.from_bytes(body[:4])


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of such a server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"postgresql://u@127.0.0.1:{server.server_address[1]}/d?gssencmode=disable&sslmode=disable"
        finally:
            server.shutdown()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("middle", ["/", "#", "?", "@", "@x/"])
def test_no_letter_makes_a_name_of_a_password(command: str, middle: str, tmp_path: Path) -> None:
    """One that wasn't percent-encoded ends at other places for the driver: refused, and no part of it is told."""
    result = shell(f"{command} 'postgresql://u:{PASSWORD}{middle}{PASSWORD}@127.0.0.1:1/d'", tmp_path)
    assert (result.returncode, PASSWORD in result.stdout + result.stderr) == (2, False), result


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_quotes_the_password_is_not_quoted(command: str, echo: str, tmp_path: Path) -> None:
    """It had it from the environment; its words are told without it, and order no terminal about."""
    (tmp_path / ".codex" / "sessions").mkdir(parents=True)
    (tmp_path / ".codex" / "sessions" / "s.ndjson").write_text('{"message":"one"}\n')
    shell("codex-import-ndjson --all", tmp_path)
    result = shell(f"timeout 20 {command} '{echo}'", tmp_path, {"PGPASSWORD": PASSWORD})
    assert "no role has ***" in result.stderr
    assert PASSWORD not in result.stdout + result.stderr
    assert "\x1b" not in result.stderr
