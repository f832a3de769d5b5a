"""`codex-logs --db postgresql://…`: a shared record answers as the local database that it came from does."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from codex.logging.errors import CodexLoggingError, DatabaseError
from codex.logging.store.connection import open_reader
from codex.logging.store.search_index import Filler
from codex.logging.store.sqlite import Store
from codex.logs.cli import main
from codex.logs.query import parse
from codex.logs.read import stats
from codex.logs.read.arriving import Arriving
from codex.logs.read.engine import Connection
from codex.logs.read.postgres import Postgres, _placed
from codex.logs.read.search import search
from codex_ingestd.forward import sent
from codex_ingestd.forward.pace import Batches
from codex_ingestd.forward.postgres.sink import PostgresSink
from tests.commands import ROOT, python, shell
from tests.daemon import wait_for
from tests.forward.records import Outcome, Recorded
from tests.postgres import CITUS, Server, citus, rows, running, shared, user_with

SAMPLES = sorted((ROOT.parent / "shared" / "samples").glob("*/*.jsonl"))
TEXTS = (
    "Why is the connection refused? See lib/net/pool.py, main() and parse_line.",
    "The pool is full: \x1b[31m connection \x1b[0m 12 \u202egnp.exe; exit code 1",
    "=cmd|' /C calc'!A0 and %s %(name)s ? ?1 :name :: $1 \\ ' \" -- /* ; DROP TABLE events",
    "Ñandú, naïve Ångström, ΟΔΟΣ, İstanbul, straße, 日本語 テスト, 한국어, e9e9e9 007 1e5x2, 🙂 x",
    "café CAFE\u0301 cafe",
    "connection " * 40,
    "",
)


class Both(NamedTuple):
    """A local database, and the shared one that all of it was forwarded to, as one who may only read names it."""

    local: str
    shared: str


@pytest.fixture(scope="module", params=["postgresql", *(["citus"] if CITUS else [])])
def both(server: Server, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Both:
    """Sessions of each agent; one was rotated, one rewritten; some of what is said is nobody's friend."""
    record = Recorded(tmp_path_factory.mktemp("host"))
    fill(record)
    with closing(Store(str(record.database))) as store:
        filler = Filler(store.connection)
        while filler.look():
            while filler.step():
                pass
    url = citus() if request.param == "citus" else shared(server)
    with pytest.MonkeyPatch.context() as patch:  # in the order of their numbers: then they have the same ones there
        patch.setattr(sent, "_BEHIND", sent._BEHIND.partition("\nORDER BY")[0] + "\nORDER BY g.id")
        assert record.forward(url).returncode == 0
    return Both(str(record.database), reader(url))


def fill(record: Recorded) -> None:
    for path in SAMPLES:
        shutil.copy(path, record.logs)
    for session in ("odd", "other"):
        lines = (
            {"ts": 1_769_850_000 + 60 * place, "role": "user" if place % 2 else "assistant", "message": text}
            for place, text in enumerate(TEXTS)
        )
        (record.logs / f"{session}.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record.ingest()
    (record.logs / "odd.ndjson").rename(record.logs / "odd.ndjson.1")
    record.write("odd", 100, 5, "after the rotation")
    (record.logs / "other.ndjson").write_text('{"message": "written anew"}\n{"message": "connection reset"}\n')
    record.ingest()


def reader(url: str) -> str:
    """The URL for a user who has nothing but the role of those who read."""
    return url.replace("postgres@", f"{user_with(url, 'codex_reader')}@")


def logs(*arguments: str) -> Outcome:
    """`codex-logs` with these arguments, in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return Outcome(code, *(each.buffer.getvalue().decode() for each in (out, err)))  # type: ignore[attr-defined]


def alike(both: Both, *arguments: str) -> Outcome:
    """What the command prints, which must be the same for both; of a rank the first digits count."""
    local, there = logs("--db", both.local, *arguments), logs("--db", both.shared, *arguments)
    found, expected = (each._replace(stdout=re.sub(r"(\.\d{9})\d+", r"\1", each.stdout)) for each in (there, local))
    assert found == expected
    return there


COMMANDS = (
    "sessions",
    "sessions --json --limit 1000",
    "sessions --sort started --json --reverse",
    "sessions --sort tokens --json",
    "sessions --agent claude --top --model CLAUDE --json",
    "sessions --project repo --after 2026-01-01",
    "sessions --before 2026-01-01 --state waiting",
    "show",
    "show --json odd",
    "show other --tools full",
    "show od --from 3 --to 6",
    "show odd --at 3",
    "show last --role user --kind message --json",
    "show nobody",
    "search connection -refused",
    "search 'exit cod*'",
    "stats",
    "stats --json",
    *(f"stats --json --by {by}" for by in ("hour", "tool", "model", "project", "agent", "role", "kind", "session")),
    "stats --by tool --project repo --agent codex",
    "stats --after 2026-01-01 --by day",
    *(f"usage --json --by {by}" for by in ("day", "hour", "model", "project", "agent", "session")),
    "usage --by model --agent claude",
    "tail -n 60 --json",
    "tail odd -n 3",
    "export --all --format jsonl",
    "export odd --format csv",
)


def test_the_answers_are_the_same(both: Both, environment: pytest.MonkeyPatch) -> None:
    """Table or JSON, byte for byte, by a clock ahead of UTC, for one who may only read."""
    environment.setenv("TZ", "UTC-5:30")
    time.tzset()
    try:
        for command in COMMANDS:
            there = alike(both, *shlex.split(command))
            assert (there.returncode, bool(there.stdout)) == ((0, True) if "nobody" not in command else (2, False))
    finally:
        environment.delenv("TZ")
        time.tzset()


QUERIES = (
    "connection",
    "connection refused",
    '"connection refused"',
    '"refused connection"',
    "conn* OR excee*",
    "connection NOT refused",
    "-refused connection",
    '(pool OR "exit code") (full OR error)',
    '"exit cod"*',
    "lib/net/pool.py",
    "main() parse_line",
    "the",
    "the role:user",
    "the -role:user kind:message",
    "tool:b* -kind:tool_result",
    "test tool:Bash model:claude",
    "agent:codex the",
    "project:repo the",
    "session:odd connection",
    "session:o* connection",
    "connection since:2026-01-31 until:2026-02-28",
    "until:2025-12-31",
    "naive",
    "NAÏVE angstrom",
    "ñandu",
    "οδος",
    "istanbul",
    "straße",
    "日本語",
    "한국*",
    '"cafe cafe"',
    "e9e9e9",
    "e9e*",
    "1e5x2 007",
    "🙂",
    "x",
    "31m",
    "DROP TABLE",
    "name's %s ?1 :name $1",
    "\\ ' \" unclosed",
    "NOT",
    "a AND",
    "*",
    "zzz -zzz",
    "session:nobody x",
    "nowhere",
)


def test_the_hits_are_the_same(both: Both) -> None:
    """The same ones with the same ranks, marks and totals, in the same order; mistakes are told in the same words."""
    with closing(open_reader(both.local)) as local, closing(Postgres(both.shared)) as there:
        for text in QUERIES:
            for options in ({"limit": 200}, {"sort": "time", "context": 5, "offset": 1, "limit": 7}):
                found, ranks = answer(there, text, options)
                expected, known = answer(local, text, options)
                assert found == expected, text
                assert ranks == pytest.approx(known, rel=0.01), text


def answer(connection: Connection, text: str, options: dict[str, Any]) -> tuple[object, list[float]]:
    """What a search gives, and its hits' ranks."""
    try:
        found = search(connection, parse(text, time.time()), **options)
    except CodexLoggingError as error:
        return (str(error), error.hint), []
    ranks = [hit.rank for hit in found.hits]
    return found._replace(hits=[hit._replace(rank=0.0) for hit in found.hits]), ranks


def test_a_session_is_read_in_its_order(server: Server, tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """Also where what was rotated away is sent with what grew since; and no number of a generation is wasted."""
    record, url = Recorded(tmp_path), shared(server)
    environment.setattr(PostgresSink, "batches", Batches(bytes=1))  # a row in each batch
    record.write("s", 0, 20)
    (record.logs / "s.ndjson").rename(record.logs / "s.ndjson.1")
    record.write("s", 100, 2)
    for number in range(3):
        record.write("s", 200 + number, 1)
        assert record.forward(url).returncode == 0
    alike(Both(str(record.database), url), "show", "s", "--json")
    assert rows(url, "SELECT nextval('codex_sink.generations_id_seq')") == [(3,)]


def test_what_is_not_indexed_yet_is_found(server: Server, tmp_path: Path) -> None:
    """It is read, and asked the same."""
    record = Recorded(tmp_path)
    fill(record)
    url = shared(server)
    record.forward(url)
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE codex_sink.words, codex_sink.search_watermarks")
    found = json.loads(logs("search", "connection -refused", "--sort", "time", "--json", "--db", url).stdout)
    local = json.loads(
        logs("search", "connection -refused", "--sort", "time", "--json", "--db", str(record.database)).stdout
    )
    places = [[(hit["session_id"], hit["seq"]) for hit in each["hits"]] for each in (found, local)]
    assert places[0] == places[1]
    assert len(places[0]) > 2


def test_the_counts_of_one_session_read_its_events_alone(server: Server, tmp_path: Path) -> None:
    """However many others there are; and no query is compiled, which would take longer than to answer it."""
    record, url = Recorded(tmp_path), shared(server)
    for number in range(20):
        record.write(f"s{number}", 0, 300)
    assert record.forward(url).returncode == 0
    with closing(Postgres(url)) as connection:
        query = "EXPLAIN (ANALYZE, FORMAT JSON) " + stats._QUERIES["kind"]
        plan = connection.execute(query, stats.Selection(session="s7")._asdict()).fetchone()
        assert plan is not None
        assert sum(_rows_of_events(plan[0][0]["Plan"])) == 300
        assert connection.execute("SHOW jit").fetchone() == ("off",)


def _rows_of_events(node: dict[str, Any]) -> Iterator[float]:
    """How many each scan of a partition looked at."""
    if str(node.get("Relation Name", "")).startswith("events_"):
        yield (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    for below in node.get("Plans", ()):
        yield from _rows_of_events(below)


def test_hosts_are_told_apart(server: Server, tmp_path: Path) -> None:
    """Two hosts with one session: it is called HOST:SESSION, and each alone is as it is on its host."""
    url = shared(server)
    records = [Recorded(tmp_path / name) for name in ("one", "two")]
    for number, record in enumerate(records, 1):
        record.write("same", 0, number, f"needle of host {number},")
        assert record.forward(url).returncode == 0
    names = [str(name) for (name,) in rows(url, "SELECT host FROM codex.hosts ORDER BY first_seen")]
    assert len(set(names)) == 2
    listed = json.loads(logs("sessions", "--json", "--db", url).stdout)
    assert {(session["session_id"], session["events"]) for session in listed} == {
        (f"{names[0]}:same", 1),
        (f"{names[1]}:same", 2),
    }
    assert "needle of host 1, 0" in logs("show", f"{names[0]}:same", "--db", url).stdout
    assert "may be 2 sessions" in logs("show", "same", "--db", url).stderr
    hits = json.loads(logs("search", "needle", "--json", "--db", url).stdout)
    assert hits["total"] == 3
    both = Both(str(records[1].database), url)
    for command in ("show same", "search needle", "stats --by session --json", "sessions", "tail same"):
        there = logs(*command.split(), "--db", url, "--host", names[1])
        assert there.stdout == logs(*command.split(), "--db", both.local).stdout
        assert there.returncode == 0
    refused = logs("sessions", "--db", url, "--host", "nobody")
    assert (refused.returncode, names[0] in refused.stderr) == (2, True)
    assert logs("sessions", "--db", both.local, "--host", names[0]).returncode == 2


@pytest.mark.parametrize("command", ["show odd --raw", "raw odd 1", "pack odd"])
def test_what_only_a_host_has_is_refused(both: Both, command: str) -> None:
    """The exact bytes stay there."""
    refused = logs(*command.split(), "--db", both.shared)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "own database" in refused.stderr


def test_only_a_url_loads_the_driver(both: Both, tmp_path: Path) -> None:
    """And where it isn't installed it is said how to."""
    program = """
        import sys
        from codex.logs.cli import main
        assert main(["sessions", "--db", {!r}]) == 0
        assert not {{"psycopg", "tzlocal"}} & set(sys.modules)
        sys.modules["psycopg"] = None
        raise SystemExit(main(["sessions", "--db", {!r}]) != 2)
    """
    python(program.format(both.local, both.shared), tmp_path)


def test_a_server_that_is_down_or_silent_is_told(tmp_path: Path) -> None:
    """In bounded time, with exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        told = logs("sessions", "--db", f"postgresql://someone@{address}/record?connect_timeout=2")
        assert time.monotonic() - began < 30
        assert (told.returncode, told.stderr.count("error: postgresql://someone@")) == (1, 1)
    told = logs("sessions", "--db", f"postgresql://someone@{address}/record")
    assert told.returncode == 1
    assert "hint: Is the server up" in told.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:pass%40word@127.0.0.1:1/record",
        "postgresql://127.0.0.1:1/record?user=someone&password=pass%40word",
        "postgresql://someone:pass@word@127.0.0.1:1/record",
        "postgresql://someone:pass%40word@127.0.0.1:port/record",
    ],
)
def test_a_password_is_never_shown(url: str, environment: pytest.MonkeyPatch) -> None:
    """On a command line it is refused; from the environment it is taken, and told of nowhere."""
    refused = logs("sessions", "--db", url)
    assert refused.returncode == 2
    environment.setenv("CODEX_LOG_DB_PATH", url)
    taken = [logs(*command.split()) for command in ("sessions", "tail", "stats", "sql SELECT", "--tail 1")]
    assert all(each.returncode in {1, 2} and "error: " in each.stderr for each in taken)
    assert not re.search(
        r"pass[@%]|word\b(?! on the)", "".join(each.stdout + each.stderr for each in (refused, *taken))
    )


def test_what_needs_a_file_takes_no_url(tmp_path: Path) -> None:
    """Nothing is made that has such a name."""
    url = "postgresql://someone@127.0.0.1:1/record"
    commands = ("codex-import-ndjson --all", "codex-ingestd status", "codex-ingestd run", "codex-logs --tail 1")
    told = shell("; ".join(f"{command}; echo $?" for command in commands), tmp_path, {"CODEX_LOG_DB_PATH": url})
    assert told.stdout.split() == ["2"] * len(commands)
    assert told.stderr.count("takes a file") == len(commands)
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_the_record_is_told(server: Server) -> None:
    """With what makes it; and who has no right to read it learns whom to ask."""
    empty = server.create()
    told = logs("sessions", "--db", empty)
    assert (told.returncode, "codex-ingestd forward" in told.stderr) == (2, True)
    url = shared(server)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
    told = logs("sessions", "--db", url.replace("postgres@", "stranger@"))
    assert (told.returncode, "codex_reader" in told.stderr) == (1, True)


def test_what_arrives_is_followed_also_over_a_restart(tmp_path: Path) -> None:
    """Each event once, in the order of its session; what arrived while nobody looked, and in new sessions, too."""
    record = Recorded(tmp_path / "host")
    record.write("old", 0, 3)
    with running() as own, (tmp_path / "shown").open("wb") as shown:
        url = shared(own)
        assert record.forward(url).returncode == 0
        arguments = [sys.executable, "-m", "codex.logs.cli", "tail", "-f", "-n", "1", "--json", "--db", url]
        tail = subprocess.Popen(arguments, stdout=shown, stderr=subprocess.DEVNULL, cwd=ROOT)
        try:
            _wait_for_lines(tmp_path / "shown", 1)
            for turn in range(1, 4):
                record.write("old", turn * 10, 2)
                record.write(f"new-{turn}", 0, 2)
                own.kill()
                own.start()
                assert record.forward(url).returncode == 0
                _wait_for_lines(tmp_path / "shown", 1 + 4 * turn)
        finally:
            tail.terminate()
            tail.wait(20)
    seen = [
        (event["session_id"], event["message"])
        for event in map(json.loads, (tmp_path / "shown").read_text().splitlines())
    ]
    assert [text for session, text in seen if session == "old"] == [f"a word {n}" for n in (2, 10, 11, 20, 21, 30, 31)]
    assert sorted(seen)[:6] == [(f"new-{turn}", f"a word {number}") for turn in (1, 2, 3) for number in (0, 1)]


def _wait_for_lines(path: Path, count: int) -> None:
    wait_for(lambda: path.read_bytes().count(b"\n") >= count, 60, f"{count} events shown")


def test_a_file_that_is_written_anew_is_not_told_again(server: Server, tmp_path: Path) -> None:
    """Of what arrives instead, only what is new."""
    record, url = Recorded(tmp_path), shared(server)
    record.write("s", 0, 3)
    assert record.forward(url).returncode == 0
    with closing(Postgres(url)) as connection:
        arriving = Arriving(connection)
        path = record.logs / "s.ndjson"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:2]) + '{"message": "another one"}\n')
        record.ingest()
        assert record.forward(url).returncode == 0
        assert [event.message for event in arriving.look(connection)] == ["another one"]
        assert arriving.look(connection) == []


def test_a_session_cannot_be_written_through(both: Both) -> None:
    """A reader's connection is for reading, whoever it is of."""
    connection = Postgres(both.shared.replace("only_codex_reader@", "postgres@"))
    with pytest.raises(DatabaseError, match="read-only transaction"):
        connection.execute("DELETE FROM codex_sink.events")
    connection.close()


@pytest.mark.parametrize(
    ("query", "placed"),
    [
        ("SELECT ?, ?", "SELECT %(1)s, %(2)s"),
        ("SELECT ?1, ?2, ?1", "SELECT %(1)s, %(2)s, %(1)s"),
        ("a = :name AND b = :other_1", "a = %(name)s AND b = %(other_1)s"),
        ("a LIKE '%?:x''y' -- why? :no\n AND \"b?\" = c::text", "a LIKE '%%?:x''y' -- why? :no\n AND \"b?\" = c::text"),
    ],
)
def test_places_of_values(query: str, placed: str) -> None:
    """SQLite's become the driver's; texts, names, comments and casts stay as they are."""
    assert _placed(query) == placed
