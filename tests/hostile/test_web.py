"""Hostile requests to the page; who may ask at all is in web/test_guard.py, agents in acceptance/test_mcp.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from codex.logging.import_ndjson import import_all
from tests.web.server import Page

EVIL = "evil.example"


@pytest.fixture
def page(log_dir: Path, database: Path) -> Iterator[Page]:
    """A page over one session."""
    (log_dir / "s.ndjson").write_bytes(b'{"role":"user","message":"one"}\n')
    import_all(log_dir, database)
    served = Page(database)
    yield served
    served.kill()


def test_a_redirect_leads_nowhere_else(page: Page) -> None:
    """Not by what a browser strips from an address or takes for a slash, nor by a header of its own."""
    page.start()
    odd = ("%09", "%0a", "%0d%0a", "%5c", "%2f", "%09%5c", "%00", "%c2%a0", ";/", "@", "%ff")
    for start in ("//", "/\\", *(f"/{piece}/" for piece in odd), "/%5c", "/@"):
        answer = page.ask(f"{start}{EVIL}/%0d%0aset-cookie:a=b?token={page.token}")
        location = answer.headers["location"].translate(dict.fromkeys(range(33))).replace("\\", "/")
        assert urlsplit(location).netloc == "", location
        assert "a=b" not in answer.headers["set-cookie"]
        assert answer.headers["location"].isprintable()


def test_no_value_of_any_size_is_made(page: Page) -> None:
    """A query that asks for a value of 900 MB, or makes one piece by piece, is refused."""
    page.start("--no-token")
    pieces = (
        "with n(i) as (select 1 union all select i+1 from n limit 900) select group_concat(zeroblob(1000000)) from n"
    )
    for query in ("select zeroblob(900000000)", pieces):
        answer = page.ask(f"/record?sql={quote(query)}")
        assert (answer.status, "string or blob too big" in answer.body) == (400, True), answer.status


def test_odd_requests_end_nothing(page: Page) -> None:
    """Very long or broken addresses, numbers and searches: an answer of some kind, no trace, and it goes on."""
    page.start("--no-token")
    for path in (
        f"/search?q={'a%20OR%20' * 6000}a",
        f"/search?q={'(' * 5000}",
        "/search?q=%00%22%27%3b--",
        "/session?id=..%2f..%2fetc%2fpasswd",
        "/session?id=%00&after=-1",
        "/session/events.json?id=s&after=nan&limit=1e400",
        "/static/..%2f..%2f..%2fetc/passwd",
        "/static/%2e%2e/%2e%2e/guard.py",
        "/?" + "&".join(f"a{number}=1" for number in range(5000)),
        "/%ff%fe?%ff=%fe",
    ):
        answer = page.ask(path)
        assert answer.status in {200, 302, 303, 400, 404, 413, 414, 431}, (path[:60], answer.status)
        assert "root:" not in answer.body
        assert "Traceback" not in answer.body
    # It may hang up before all of it is sent.
    with closing(socket.create_connection(("127.0.0.1", page.port), 10)) as raw, suppress(OSError):
        raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: " + b"a" * (1 << 20))
        assert b"200 OK" not in raw.recv(1 << 16)
    assert page.ask("/").status == 200
    assert "Traceback" not in page.log.read_text("utf-8")
