"""The measurements run, and lose no line. How long anything takes is never asserted."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codex.logging.ingest.formats import claude
from tests.bench.__main__ import command as bench
from tests.bench.corpus import make_corpus, session_files
from tests.bench.figures import spread

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_the_readme_has_only_commands_that_there_are(tmp_path: Path) -> None:
    """Each line's command and options are understood; what they do is for the tests below."""
    readme = Path(__file__).with_name("README.md").read_text("utf-8")
    lines = [line for line in readme.splitlines() if line.startswith(".venv/bin/python -m tests.bench")]
    assert len(lines) > 10
    for line in lines:
        name, *options = shlex.split(line, comments=True)[3:]
        if name != "--help":
            own = [str(tmp_path) if option.startswith("~") else option for option in options]
            bench.commands[name].make_context(name, own)


def measure(tmp_path: Path, line: str) -> list[dict[str, Any]]:
    """Run one measurement as a user does; its rows."""
    rows: list[dict[str, Any]] = run(tmp_path, line)["rows"]
    return rows


def run(tmp_path: Path, line: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a command as a user does; what it writes as JSON, all of whose tables it must have printed."""
    output = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.bench", *line.split(), "--dir", str(tmp_path), "--json", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(output.read_text())
    for report in answer.get("reports", [answer]):
        for name in report["rows"][0]:
            assert name in done.stdout
    return answer


def test_live_sees_every_line_of_every_side(tmp_path: Path) -> None:
    """Each line that the writers append becomes visible, at the daemon's side and at the floor's."""
    rows = measure(tmp_path, "live --writers 2 --rate 20 --seconds 1 --files 3")
    assert rows[0]["side"] == "daemon, 3 other files"
    assert [(row["lines"], row["not seen"]) for row in rows] == [(40, 0)] * len(rows)


def test_append_times_each_call(tmp_path: Path) -> None:
    """The product's two ways to append stand beside raw system calls."""
    rows = measure(tmp_path, "append --count 10 --rate 1000")
    assert [row["call"] for row in rows][1:] == ["append_ndjson", "Appender.append"]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
@pytest.mark.parametrize("shape", ["native", "transcript"])
def test_backfill_compares_whole_imports(tmp_path: Path, shape: str) -> None:
    """Each contender's database holds every line, or the measurement fails."""
    rows = measure(tmp_path, f"backfill --size 0.2 --size 0.4 --sessions 2 --rounds 1 --shape {shape} --redact")
    assert len(rows) == 5 * 2


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
def test_backfill_takes_real_files_of_both_names_from_any_folder_but_no_begun_line(tmp_path: Path) -> None:
    """What is in folders below counts, blank lines and a torn tail don't, and the files stay as they are."""
    real = tmp_path / "real"
    (real / "project").mkdir(parents=True)
    native, claude = real / "a.ndjson", real / "project" / "b.jsonl"
    native.write_bytes(b'{"message":"one"}\n\n{"message":"two"}\n')
    claude.write_bytes(b'{"type":"summary","summary":"three","sessionId":"s"}\n{"type":"us')
    before = native.read_bytes(), claude.read_bytes()
    assert len(measure(tmp_path, f"backfill --rounds 1 --corpus {real}")) == 4
    assert "3 lines in 2 files" in (tmp_path / "report.json").read_text()
    assert (native.read_bytes(), claude.read_bytes()) == before


def test_transcripts_are_as_long_and_of_the_kinds_that_real_ones_are(tmp_path: Path) -> None:
    """The product decodes them as Claude Code's; half their lines are over 1 KB, one in a hundred over 51 KB."""
    make_corpus(tmp_path, "transcript", 20 << 20, 1)
    (path,) = session_files(tmp_path)
    lines = path.read_bytes().splitlines()
    assert claude.claims(lines[0], str(path))
    lengths = spread(list(map(len, lines)))
    assert 900 < lengths.p50 < 1200
    assert 35_000 < lengths.p99 < 70_000
    assert lengths.most < 1_100_000
    events = [event for line in lines for event in claude.decode(line)]
    kinds = {event.kind for event in events}
    assert kinds == {"message", "reasoning", "tool_call", "tool_result", "other"}
    assert any(event.note is not None and event.note.usage is not None for event in events)


def test_search_finds_what_it_searches(tmp_path: Path) -> None:
    """Each kind of query has its figures, as a call and as a whole process, and the index its size and pace."""
    answer = run(tmp_path, "search --events 600 --rounds 1 --processes 2")
    queries, index = answer["reports"]
    assert [row["queries"] for row in queries["rows"]][-2:] == [100, 2]
    assert all(row["found"] for row in queries["rows"] if row["what"] not in ("words that nobody said",))
    assert index["rows"][0]["events"] == 600


def test_forward_stands_beside_copy(tmp_path: Path) -> None:
    """Each way brings every row; and live rows have their figures with a forwarder and without."""
    line = "forward --events 3000 --sessions 3 --rounds 1 --seconds 1 --block 0.5"
    rate, live = run(tmp_path, line)["reports"]
    assert [row["by"] for row in rate["rows"]] == ["COPY, no key", "COPY", "forward"]
    assert [row["lines"] > 50 for row in live["rows"]] == [True, True]


def test_clickhouse_stands_beside_inserts(tmp_path: Path) -> None:
    """Both bring every row."""
    pytest.importorskip("chdb", reason="takes the extra clickhouse-test: pip install -e '.[test,clickhouse-test]'")
    rows = measure(tmp_path, "clickhouse --events 3000 --sessions 3 --rounds 1")
    assert [row["by"] for row in rows] == ["inserts", "forward"]


@linux_only
def test_idle_tells_share_memory_and_start(tmp_path: Path) -> None:
    """A daemon that knows all its files is watched while it does nothing."""
    (row,) = measure(tmp_path, "idle --files 20 --seconds 0.5")
    assert row["files"] == 20
    assert row["RSS MiB"] > 0


def test_backlog_measures_the_file_beside_it(tmp_path: Path) -> None:
    """Its lines come through while the huge file is taken, and after it."""
    (row,) = measure(tmp_path, "backlog --size 5")
    assert row["MiB"] >= 5
    assert row["p50 ms, alone"] > 0


def test_verify_finds_nothing_in_its_own_files(tmp_path: Path) -> None:
    """With its sources, without them, and deep."""
    rows = measure(tmp_path, "verify --size 1 --sessions 2 --rounds 1")
    assert [row["by"] for row in rows][1:] == ["verify", "verify, sources gone", "verify --deep"]


@linux_only
@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
def test_all_runs_one_measurement_after_the_other(tmp_path: Path) -> None:
    """Each with its own table."""
    titles = [report["title"].split()[0] for report in run(tmp_path, "all --scale 0.001")["reports"]]
    assert titles == ["backfill,", "backfill,", "append", "append", "append,", "idle", "verify,", "verify,"]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
def test_a_program_that_cant_be_had_is_left_out_with_a_word(tmp_path: Path) -> None:
    """Nothing can be put into a cache that is no folder: ours, .import and the script are measured all the same."""
    command = f"backfill --size 0.1 --sessions 1 --rounds 1 --peers --plots {tmp_path / 'plots'}"
    answer = run(tmp_path, command, {"XDG_CACHE_HOME": os.devnull})
    assert len(answer["rows"]) == 4
    assert [note.split(":")[1] for note in answer["notes"] if note.startswith("left out")] == [
        " sqlite-utils",
        " duckdb",
    ]
    assert not (tmp_path / "plots").exists()


@pytest.mark.long
@linux_only
@pytest.mark.parametrize("line", ["backfill --size 0.1 --rounds 1", "live --writers 1 --rate 20 --seconds 1"])
def test_other_programs_are_measured_and_plots_drawn_where_they_can_be_had(tmp_path: Path, line: str) -> None:
    """Each of the two has a row that lost no line, or a word; each plot is a PNG, unless matplotlib can't be had."""
    answer = run(tmp_path, f"{line} --peers --plots {tmp_path / 'plots'}")
    left_out = [note for note in answer["notes"] if note.startswith("left out")]
    assert len(answer["rows"]) + len(left_out) == 5
    assert all(row.get("not seen", 0) == 0 for row in answer["rows"])
    drawn = sorted((tmp_path / "plots").glob("*.png"))
    assert [path.stem for path in drawn] in ([], sorted(plot["name"] for plot in answer["plots"]))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_start_runs_each_command(tmp_path: Path) -> None:
    """From help to a completion: each of them ends well."""
    rows = measure(tmp_path, "start --files 3 --times 1")
    assert [row["command"] for row in rows][:2] == ["python -c pass", "codex-logs --help"]


@linux_only
def test_follow_shows_every_event(tmp_path: Path) -> None:
    """Each one that is appended, in its order."""
    rows = measure(tmp_path, "follow --events 5 --seconds 0.1")
    assert [row["from"] for row in rows] == ["commit", "append"]
