"""Who may ask, and what never is answered: raw requests to the page's real process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from codex.logging import log_event
from codex.logging.import_ndjson import import_all
from tests.commands import BIN
from tests.daemon import wait_for
from tests.web.server import Page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@pytest.fixture
def filled(log_dir: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page over one session of three messages, not started yet."""
    monkeypatch.setenv("CODEX_SESSION_LOG_DIR", str(log_dir))
    for number in range(3):
        log_event("demo", "user", f"message {number}")
    import_all(log_dir, page.database)
    return page


def test_the_token_becomes_a_cookie_and_leaves_the_address(filled: Page) -> None:
    """Without it nothing is shown, not even a file; with it the same page without it; the log never holds it."""
    filled.start()
    assert [filled.ask(path).status for path in ("/", "/static/page.js", "/record", "/sessions.json")] == [403] * 4
    assert filled.ask("/?token=wrong").status == 403
    entered = filled.ask(f"/session?token={filled.token}&id=demo")
    assert (entered.status, entered.headers["location"]) == (303, "/session?id=demo")
    kept, *limits = entered.headers["set-cookie"].split("; ")
    assert set(limits) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert filled.token not in kept
    assert filled.ask("/", cookie=kept).status == 200
    assert filled.ask("/", cookie=f"{kept}x").status == 403
    assert filled.ask("/sessions.json", authorization=f"Bearer {filled.token}").status == 200
    filled.stop(signal.SIGINT)
    assert filled.log.read_text("utf-8").count(filled.token) == 1


def test_a_redirect_stays_here(filled: Page) -> None:
    """However the path begins, the address that the token's holder is sent to is on this host."""
    filled.start()
    for path in ("//evil.example/", "/\\evil.example/", "/%0d%0aset-cookie:a=b"):
        location = filled.ask(f"{path}?token={filled.token}").headers["location"]
        assert location[:1] == "/"
        assert location[1:2] not in {"/", "\\"}


@pytest.mark.parametrize(
    "host", ["evil.example:{}", "127.0.0.1:1", "127.0.0.1", "127.0.0.1.evil.example:{}", "", "0:{}"]
)
def test_another_name_for_this_host_is_refused(filled: Page, host: str) -> None:
    """A name that somebody's name server says is 127.0.0.1 gets nothing, whatever else is right."""
    filled.start("--no-token")
    assert filled.ask("/", host=host.format(filled.port)).status in {400, 421}
    assert filled.ask("/", host=f"localhost:{filled.port}").status == 200
    assert filled.ask("/", host=f"[::1]:{filled.port}").status == 200


def test_another_sites_page_gets_nothing(filled: Page) -> None:
    """Neither its scripts, nor its frames, nor its links; the browser says where a request comes from."""
    filled.start("--no-token")
    own = f"http://127.0.0.1:{filled.port}"
    assert filled.ask("/", origin="http://evil.example").status == 403
    assert filled.ask("/", origin="null").status == 403
    assert filled.ask("/", origin=f"http://127.0.0.1:{filled.port + 1}").status == 403
    assert filled.ask("/", origin=own, sec_fetch_site="same-origin").status == 200
    assert filled.ask("/", sec_fetch_site="none").status == 200
    for site in ("cross-site", "same-site"):
        assert filled.ask("/", sec_fetch_site=site).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_a_method(filled: Page, method: str) -> None:
    """On no page of ours, and on none of datasette's."""
    filled.start("--no-token")
    for path in ("/", "/record", "/record/session_events", "/record/-/create", "/-/messages"):
        answer = filled.ask(path, method, content_length="0")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_every_answer_has_the_policy(filled: Page) -> None:
    """Pages, files, errors and refusals, ours and datasette's: no inline script, no other host, no frame."""
    filled.start("--no-token")
    paths = [
        "/",
        "/session?id=demo",
        "/usage",
        "/health",
        "/search?q=x",
        "/static/page.js",
        "/nothing",
        "/sessions.json",
    ]
    for path in [*paths, "/record", "/record/session_events", "/record?sql=select+1", "/record/session_events.json"]:
        headers = filled.ask(path).headers
        rest = headers["content-security-policy"].removeprefix(POLICY)
        assert rest == (
            "" if path.startswith("/record") else "; require-trusted-types-for 'script'; trusted-types 'none'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
    assert filled.ask("/", host="evil.example").headers["content-security-policy"].startswith(POLICY)


@pytest.mark.parametrize(
    "path", ["/record", "/record/session_events", "/record?sql=select+1", "/record/streams/1", "/record/nothing"]
)
def test_datasettes_pages_need_no_inline_script(filled: Page, path: str) -> None:
    """What its templates have of it, ours leave out: the policy would stop it."""
    filled.start("--no-token")
    body = filled.ask(path).body
    assert body.count("<script") == body.count("<script src=")
    assert "onclick=" not in body


def test_what_it_tells_of_itself_is_shown_to_nobody(filled: Page) -> None:
    """Neither paths, plugins and threads, nor the database's file, nor datasette's own database."""
    filled.start("--no-token")
    for path in (
        "/-/plugins.json",
        "/-/threads",
        "/-/databases",
        "/-/messages",
        "/-/auth-token",
        "/_internal",
        "/.json",
    ):
        assert filled.ask(path).status == 404
    assert filled.ask("/record.db").status == 403


def test_sql_reads_and_nothing_else(filled: Page) -> None:
    """No statement that would write, attach or change a setting is run; the database is as it was."""
    filled.start("--no-token")
    before = filled.database.read_bytes()
    attempts = (
        "DELETE FROM events", "INSERT INTO meta VALUES ('a', 1)", "DROP TABLE events", "ATTACH 'x.db' AS x",
        "PRAGMA journal_mode = delete", "PRAGMA query_only = 0", "VACUUM INTO 'x.db'", "CREATE TEMP TABLE t (a)",
        "WITH a AS (SELECT 1) DELETE FROM events", "SELECT 1; DELETE FROM events",
        "SELECT load_extension('x')", "SELECT writefile('x', 'y')",
    )  # fmt: skip
    for attempt in attempts:
        assert filled.ask(f"/record.json?sql={quote(attempt)}").status == 400, attempt
    found = filled.ask("/record.json?_shape=arrays&sql=" + quote("SELECT count(*) FROM session_events")).json()
    assert found["rows"] == [[3]]  # type: ignore[index]
    assert filled.database.read_bytes() == before


def test_slow_sql_is_cut_off(filled: Page) -> None:
    """A query without an end gets its two seconds, and the page answers others meanwhile."""
    filled.start("--no-token")
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    connection = socket.create_connection(("127.0.0.1", filled.port), timeout=30)
    with closing(connection):
        request = f"GET /record.json?sql={quote(endless)} HTTP/1.1\r\nHost: 127.0.0.1:{filled.port}\r\n\r\n"
        connection.sendall(request.encode())
        assert filled.ask("/sessions.json").status == 200
        assert b" 400 " in connection.recv(64)


def test_data_as_json_and_csv(filled: Page) -> None:
    """What datasette gives for free, with the token as a bearer's."""
    filled.start()
    bearer = f"Bearer {filled.token}"
    rows = filled.ask("/record/session_events.json?_shape=array&_col=message&_sort=seq", authorization=bearer).json()
    assert [row["message"] for row in rows] == ["message 0", "message 1", "message 2"]  # type: ignore[attr-defined]
    assert filled.ask("/record/session_events.csv?_col=message", authorization=bearer).body.split() == [
        "message", "message", "0", "message", "1", "message", "2",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_stream_open(filled: Page, number: int) -> None:
    """At once, with exit code 0 and no trace of an error, though a page still listens."""
    filled.start("--no-token")
    with closing(socket.create_connection(("127.0.0.1", filled.port), timeout=20)) as connection:
        connection.sendall(f"GET /sessions/stream HTTP/1.1\r\nHost: 127.0.0.1:{filled.port}\r\n\r\n".encode())
        said = b""
        while b"event: sessions" not in said:
            said += connection.recv(4096)
        assert filled.stop(number) == 0
    assert "Traceback" not in filled.log.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--host", "0.0.0.0"], "--expose"),
        (["--host", "192.0.2.1", "--no-token"], "--expose"),
        (["--host", "0.0.0.0", "--expose", "--no-token"], "--no-token"),
        (["--db", "nowhere.db"], "codex-ingestd run"),
    ],
)
def test_what_is_refused_at_the_start(tmp_path: Path, arguments: list[str], word: str) -> None:
    """Other addresses than this machine's own, a page for all without a token, no database: with what to do."""
    command = [BIN / "codex-logs", "web", "--port", "0", "--no-open", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert word in result.stderr


def test_a_taken_port_is_told(filled: Page) -> None:
    """With the flag that helps."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        command = [
            BIN / "codex-logs",
            "web",
            "--port",
            str(other.getsockname()[1]),
            "--no-open",
            "--db",
            filled.database,
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "--port" in result.stderr


def test_without_the_packages_it_says_which(tmp_path: Path) -> None:
    """One line to run, and no traceback."""
    main = "import sys; sys.modules['datasette'] = None; from codex.logs.cli import main; sys.exit(main(['web']))"
    result = subprocess.run([sys.executable, "-c", main], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert "pip install 'codex-ingestd[web]'" in result.stderr


def test_a_database_that_is_put_in_its_place_is_read(filled: Page, tmp_path: Path) -> None:
    """As a rebuild does, while a page listens: the list is the new one's, on the stream too."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "anew.ndjson").write_text('{"role": "user", "message": "built anew"}\n')
    import_all(other, tmp_path / "other.db")
    filled.start("--no-token")
    with closing(socket.create_connection(("127.0.0.1", filled.port), timeout=20)) as connection:
        connection.sendall(f"GET /sessions/stream HTTP/1.1\r\nHost: 127.0.0.1:{filled.port}\r\n\r\n".encode())
        said = b""
        while b'"id":"demo"' not in said:
            said += connection.recv(4096)
        os.replace(tmp_path / "other.db", filled.database)
        while b'"id":"anew"' not in said:
            said += connection.recv(4096)
    for path in ("/sessions.json", "/record/sessions.json"):
        answer = filled.ask(path).body
        assert ("anew" in answer, "demo" in answer) == (True, False)


def test_health_is_what_status_says(filled: Page) -> None:
    """Without a daemon the page says so, and what to do."""
    filled.start("--no-token")
    told = filled.ask("/health.json").json()
    assert told["health"]["healthy"] is False  # type: ignore[index]
    assert "codex-ingestd run" in told["health"]["reasons"][0]  # type: ignore[index]
    assert [stream["session_id"] for stream in told["streams"]] == ["demo"]  # type: ignore[index]


def test_hostile_names_are_escaped(filled: Page) -> None:
    """What stands in an address is shown as text, and a session that isn't there is no error."""
    filled.start("--no-token")
    hostile = quote('"><script>alert(1)</script>')
    for path in (
        f"/session?id={hostile}",
        f"/session?id=demo&view={hostile}&mark={hostile}",
        f"/?project={hostile}",
        f"/search?q={hostile}",
    ):
        answer = filled.ask(path)
        assert answer.status in {200, 400, 404}
        assert "<script>alert" not in answer.body
    wait_for(lambda: filled.ask("/session/events.json?id=nobody&after=9999999999999999999999").status == 200)
