"""Who brings files into a database, and how its lines are counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from codex.logging.store.connection import open_reader, scalar
from tests.bench.corpus import session_files
from tests.bench.peers import PeerError, python_with

_SCRIPT = """\
import json, pathlib, sqlite3, sys
folder = pathlib.Path(sys.argv[1])
database = sqlite3.connect(sys.argv[2])
database.execute("CREATE TABLE session_events (session TEXT, seq INTEGER, ts TEXT, role TEXT, message TEXT,"
                 " meta TEXT, PRIMARY KEY (session, seq))")
for path in sorted(path for path in folder.rglob("*") if path.suffix in (".ndjson", ".jsonl")):
    session = str(path.relative_to(folder))
    with open(path, encoding="utf-8") as file:
        for seq, line in enumerate(filter(str.strip, file), 1):
            record = json.loads(line)
            ts = record.pop("ts", None) or record.pop("timestamp", None)
            role = record.pop("role", None) or record.get("type")
            message = record.pop("message", None)
            if not isinstance(message, str):
                message = json.dumps(message)
            database.execute("INSERT OR IGNORE INTO session_events VALUES (?, ?, ?, ?, ?, ?)",
                             (session, seq, ts, role, message, json.dumps(record)))
    database.commit()
"""
_DUCKDB = """\
import duckdb, sys
database, *files = sys.argv[1:]
duckdb.connect(database).execute(f"CREATE TABLE lines AS SELECT json FROM read_ndjson_objects({files!r})")
"""
_DUCKDB_COUNT = (
    'import duckdb, sys; print(duckdb.connect(sys.argv[1]).sql("SELECT count(*) FROM lines").fetchall()[0][0])'
)


class Contender(NamedTuple):
    """One way to do it: its command, how many lines its database holds, and where its code is, if not here.

    `ours` is this project's, of whatever checkout.
    """

    name: str
    command: Callable[[Path, Path], Sequence[str]]
    count: Callable[[Path], int]
    checkout: str | None = None
    ours: bool = False


def contenders_of(against: str | None, peers: bool, redact: bool = False) -> tuple[list[Contender], list[str]]:
    """Who takes part, and a word on each that can't."""
    found, notes = [*_ALWAYS], []
    if redact:
        found.insert(1, Contender("the same with CODEX_REDACT=ingest", _redacting_importer, _count(_EVENTS), ours=True))
    if against is not None:
        other = _importer if _leaves_index_out(against) else _indexing_importer
        found.insert(1, Contender(f"the same of {against}", other, _count(_EVENTS), against, ours=True))
    for make in (_sqlite_utils, _duckdb) if peers else ():
        try:
            found.append(make())
        except PeerError as error:
            notes.append(f"left out: {error}")
    return found, notes


def _count(query: str) -> Callable[[Path], int]:
    """How to count in a SQLite database."""

    def count(database: Path) -> int:
        with closing(open_reader(str(database))) as connection:
            return int(scalar(connection, query))

    return count


def _importer(folder: Path, database: Path) -> Sequence[str]:
    return [*_indexing_importer(folder, database), "--no-index"]


def _indexing_importer(folder: Path, database: Path) -> Sequence[str]:
    module = "codex.logging.import_ndjson"
    return [sys.executable, "-m", module, "--all", "--json", "--log-dir", str(folder), "--db", str(database)]


def _redacting_importer(folder: Path, database: Path) -> Sequence[str]:
    return ["env", "CODEX_REDACT=ingest", *_importer(folder, database)]


def _leaves_index_out(checkout: str) -> bool:
    """Whether that code makes an index at all, and takes the option that leaves it out."""
    source = Path(checkout, "lib", "codex", "logging", "import_ndjson.py")
    return "--no-index" in source.read_text("utf-8")


def _sqlite_import(folder: Path, database: Path) -> Sequence[str]:
    imports = [f'.import "{path}" lines' for path in session_files(folder)]
    mode = [".mode ascii", '.separator "\\t" "\\n"']
    return ["sqlite3", str(database), "CREATE TABLE lines (line TEXT)", *mode, *imports]


def _script(folder: Path, database: Path) -> Sequence[str]:
    return [sys.executable, "-c", _SCRIPT, str(folder), str(database)]


def _sqlite_utils() -> Contender:
    """Its command for lines of JSON. Raises PeerError."""
    python = python_with("sqlite-utils", "sqlite_utils")
    piped = 'database=$1; shift; cat "$@" 2> /dev/null | "$0" -m sqlite_utils insert "$database" lines - --nl --alter'

    def command(folder: Path, database: Path) -> Sequence[str]:
        return ["sh", "-c", piped, python, str(database), *map(str, session_files(folder))]

    return Contender("sqlite-utils insert --nl", command, _count("SELECT count(*) FROM lines"))


def _duckdb() -> Contender:
    """Whole lines as its JSON type, by as many threads as there are cores. Raises PeerError."""
    python = python_with("duckdb", "duckdb")

    def command(folder: Path, database: Path) -> Sequence[str]:
        return [python, "-c", _DUCKDB, str(database), *map(str, session_files(folder))]

    def count(database: Path) -> int:
        return int(subprocess.check_output([python, "-c", _DUCKDB_COUNT, str(database)]))

    return Contender("DuckDB read_ndjson_objects", command, count)


# An event's id is generation, sequence number and part: a line may be several events.
_EVENTS = """
SELECT count(*) FROM (
    SELECT id >> 8 FROM events UNION SELECT generation << 32 | seq FROM ingest_rejects WHERE reason <> 'blank')"""
_ALWAYS = (
    Contender("codex-import-ndjson --all --no-index", _importer, _count(_EVENTS), ours=True),
    Contender("codex-import-ndjson --all", _indexing_importer, _count(_EVENTS), ours=True),
    Contender(
        "sqlite3 .import, raw lines", _sqlite_import, _count("SELECT count(*) FROM lines WHERE trim(line) <> ''")
    ),
    Contender("json.loads + INSERT OR IGNORE", _script, _count("SELECT count(*) FROM session_events")),
)
REFERENCE = _ALWAYS[2]
