"""What forwarding takes from whoever sets it up, and what it tells where that can't be used."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest

from codex_ingestd.forward.address import parse
from tests.commands import BIN, shell
from tests.forward.records import Recorded
from tests.postgres import Server, rows

_PASSWORD = "s3cret%2Fword"


@pytest.mark.parametrize("command", ["forward --once --to", "run --forward-to"])
@pytest.mark.parametrize("url", [f"postgresql://u:{_PASSWORD}@h/d", f"postgresql://h/d?user=u&password={_PASSWORD}"])
def test_a_password_on_the_command_line_is_refused(tmp_path: Path, command: str, url: str) -> None:
    """Everybody could read it; the refusal says what to do, and doesn't repeat it."""
    result = shell(f"codex-ingestd {command} '{url}'", tmp_path)
    assert result.returncode == 2
    assert "CODEX_FORWARD_TO" in result.stderr
    assert "s3cret" not in result.stdout + result.stderr


def test_config_shows_where_and_no_password(tmp_path: Path) -> None:
    """Nor whose it is."""
    env = {"CODEX_FORWARD_TO": f"postgresql://me:{_PASSWORD}@h:5/d?sslmode=verify-full&sslpassword=other"}
    shown = shell("codex-ingestd config", tmp_path, env).stdout
    assert 'forward-to = ["postgresql://h:5/d"]' in shown
    assert "s3cret" not in shown


def test_a_place_that_says_the_key_says_it_alone(tmp_path: Path) -> None:
    """A flag or a variable has the setting's name; a file's line hasn't."""
    for name, told in (
        ("--to", shell("codex-ingestd forward --once --to x://y", tmp_path)),
        ("--forward-to", shell("codex-ingestd run --forward-to x://y", tmp_path)),
        ("CODEX_FORWARD_TO", shell("codex-ingestd forward --once", tmp_path, {"CODEX_FORWARD_TO": "x://y"})),
    ):
        assert told.returncode == 2
        assert told.stderr.startswith(f"error: {name}: a sink's URL begins with")
    (tmp_path / "own.toml").write_text('forward-to = "x://y"\n')
    told = shell("codex-ingestd forward --once --config own.toml", tmp_path)
    assert "own.toml:1: forward-to: a sink's URL" in told.stderr


@pytest.mark.parametrize("written", ["a+b", "a%2Bb", "a%20b"])
def test_a_password_is_hidden_however_it_is_written(written: str) -> None:
    """In what somebody else says of the URL."""
    address = parse(f"postgresql://h/d?user=u&password={written}")
    for form in (written, unquote(written)):
        assert "a" not in address.without_secrets(form).replace("***", "")


def test_a_folders_file_sends_no_record_away(tmp_path: Path) -> None:
    """It may have come with somebody else's project."""
    (tmp_path / "codex-ingestd.toml").write_text('forward-to = "postgresql://elsewhere/x"\n')
    result = shell("codex-ingestd validate", tmp_path)
    assert result.returncode == 2
    assert "somebody else's project" in result.stderr


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:p%40@h:5432/d?sslmode=require", "postgresql://h:5432/d"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql:///d?host=/run/pg&password=x", "postgresql:///run/pg/d"),
        ("postgresql://u@a:1,b:2/d", "postgresql://a:1,b:2/d"),
        ("postgresql://[::1]:5/d", "postgresql://[::1]:5/d"),
    ],
)
def test_a_sink_is_named_by_its_place(url: str, name: str) -> None:
    """Whoever writes to it."""
    assert parse(url).name == name
    assert str(parse(url)) == name
    assert "p%40" not in repr(parse(url))


def test_a_wrong_password_is_told_without_it(record: Recorded, server: Server, one_node: str) -> None:
    """At once, with what to look at."""
    with psycopg.connect(one_node, autocommit=True) as connection:
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    with server.asking_passwords("guarded"):
        record.write("s", 0, 1)
        result = record.forward(one_node.replace("postgres@", f"guarded:{_PASSWORD}@"))
    assert result.returncode == 1
    assert "password authentication failed" in result.stderr
    assert "s3cret" not in result.stdout + result.stderr


def test_a_password_of_libpqs_own_serves(
    record: Recorded, server: Server, one_node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may only add, with its password in a file."""
    with psycopg.connect(one_node, autocommit=True) as connection:
        connection.execute("CREATE ROLE adding LOGIN PASSWORD 'right' IN ROLE codex_writer")
    passwords = tmp_path / "pgpass"
    passwords.write_text("*:*:*:adding:right\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    record.write("s", 0, 10)
    with server.asking_passwords("adding"):
        result = record.forward(one_node.replace("postgres@", "adding@"))
    assert result.returncode == 0, result.stderr
    assert record.shared_rows(one_node) == record.rows()


def test_a_role_without_rights_is_told_of(record: Recorded, one_node: str) -> None:
    """With what an administrator does for it."""
    with psycopg.connect(one_node, autocommit=True) as connection:
        connection.execute("CREATE ROLE nobody_special LOGIN")
    record.write("s", 0, 1)
    result = record.forward(one_node.replace("postgres@", "nobody_special@"), "--check")
    assert result.returncode == 1
    assert "GRANT codex_writer" in result.stderr
    assert rows(one_node, "SELECT count(*) FROM codex_sink.events") == [(0,)]


def test_without_the_extra_it_says_which(tmp_path: Path) -> None:
    """All else works without it."""
    (tmp_path / "psycopg.py").write_text("raise ImportError('no psycopg here')\n")
    env = {"PYTHONPATH": str(tmp_path), "CODEX_FORWARD_TO": "postgresql:///x"}
    result = shell(f"{BIN / Path(sys.executable).name} -m codex_ingestd.cli forward --db x.db --once", tmp_path, env)
    assert result.returncode == 2
    assert "codex-ingestd[postgres]" in result.stderr


def test_a_service_gets_the_sink_but_no_password(tmp_path: Path) -> None:
    """Its file, which everybody can read, names where to; it may speak with the network then."""
    command = "codex-ingestd install --system --as root --print --watch logs"
    (tmp_path / "logs").mkdir()
    told = shell(command, tmp_path, {"CODEX_FORWARD_TO": "postgresql://me@h/d?sslmode=require"})
    assert "--forward-to postgresql://me@h/d?sslmode=require" in told.stdout.replace('"', "")
    assert "PrivateNetwork" not in told.stdout
    refused = shell(command, tmp_path, {"CODEX_FORWARD_TO": f"postgresql://me:{_PASSWORD}@h/d"})
    assert refused.returncode == 2
    assert "s3cret" not in refused.stdout + refused.stderr


def test_the_sink_that_is_meant_is_one(tmp_path: Path) -> None:
    """None, several, and what is no URL: the message names what the person has typed, and what to do."""
    none = shell("codex-ingestd forward --once", tmp_path)
    assert (none.returncode, none.stderr.splitlines()[0]) == (2, "error: no sink is set")
    assert "--to postgresql://" in none.stderr
    wrong = shell("codex-ingestd forward --to mysql://h/d", tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --to: a sink's URL begins with postgresql://")
    wrong = shell("codex-ingestd run --forward-to mysql://h/d", tmp_path)
    assert wrong.stderr.startswith("error: --forward-to: a sink's URL begins with postgresql://")
