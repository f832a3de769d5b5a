"""Agents that don't use our writer: their folders watched, their sessions listed, their tokens counted once."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from codex.logging.import_ndjson import import_all
from tests import tokens
from tests.commands import BIN
from tests.daemon import Daemon, wait_for

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
CLAUDE = sorted((SAMPLES / "claude").glob("*.jsonl"))
CODEX = sorted((SAMPLES / "codex").glob("*.jsonl"))
needs_samples = pytest.mark.skipif(not CLAUDE, reason="the samples are not here")
THREAD = "019b2000-0000-7000-8000-000000000002"


def answer(number: int, output: int, *, message: str | None = None) -> dict[str, object]:
    """A line of a Claude transcript that tells of a call."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 5}
    body = {
        "id": message or f"m{number}",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": f"answer {number}"}],
        "usage": usage | {"output_tokens": output},
    }
    return {
        "type": "assistant",
        "uuid": f"u{number}",
        "sessionId": "s",
        "requestId": message or f"r{number}",
        "timestamp": f"2026-01-02T03:04:{number:02}Z",
        "cwd": "/work/tool",
        "gitBranch": "main",
        "message": body,
    }


def lines(*records: dict[str, object]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def count(total: int, last: int) -> dict[str, object]:
    """A token_count of a Codex rollout."""
    info = {
        "total_token_usage": {"input_tokens": total, "cached_input_tokens": 0, "output_tokens": 1},
        "last_token_usage": {"input_tokens": last, "cached_input_tokens": 0, "output_tokens": 0},
    }
    return {"timestamp": "2026-01-02T03:04:06Z", "type": "event_msg", "payload": {"type": "token_count", "info": info}}


HEADER: dict[str, object] = {
    "timestamp": "2026-01-02T03:04:05Z",
    "type": "session_meta",
    "payload": {"id": THREAD, "timestamp": "2026-01-02T03:04:05Z", "cwd": "/work/tool", "git": {"branch": "main"}},
}


def run(command: str, *arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """What an installed command prints; it must exit with 0."""
    result = subprocess.run(
        [BIN / command, *arguments], capture_output=True, text=True, timeout=60, env=os.environ | (env or {})
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def sessions(database: Path, *arguments: str) -> dict[str, dict[str, object]]:
    """What `codex-logs sessions --json` lists, by session."""
    rows = json.loads(run("codex-logs", "sessions", "--json", "--db", database, *arguments))
    return {row["session_id"]: row for row in rows}


def usage(database: Path, *arguments: str) -> list[dict[str, object]]:
    """What `codex-logs usage --json` shows."""
    rows: list[dict[str, object]] = json.loads(run("codex-logs", "usage", "--json", "--db", database, *arguments))
    return rows


def own(database: Path) -> dict[str, tuple[int, ...]]:
    """Own tokens of each session: not cached, read from a cache, written to one, output."""
    kinds = ("input", "cache_read", "cache_write", "output")
    return {
        str(row["session"]): tuple(int(str(row[kind])) for kind in kinds) for row in usage(database, "--by", "session")
    }


def imported(folder: Path, database: Path) -> dict[str, tuple[int, ...]]:
    import_all(folder, database)
    return own(database)


def test_both_agents_folders_are_watched_and_listed(daemon: Daemon, tmp_path: Path) -> None:
    """Nested folders made while it runs; a native log beside; each has its agent, folder, branch, tokens and state."""
    home = tmp_path / "claude"
    home.mkdir()
    daemon.start("--watch", str(home))
    (home / "project").mkdir()
    (home / "project" / "s.jsonl").write_bytes(lines(answer(1, 7), answer(2, 9)))
    day = daemon.log_dir / "2026" / "01" / "02"
    day.mkdir(parents=True)
    rollout = day / f"rollout-2026-01-02T03-04-05-{THREAD}.jsonl"
    rollout.write_bytes(lines(HEADER, count(100, 100)))
    (daemon.log_dir / "n.ndjson").write_bytes(b'{"type":"session_start","cwd":"/x"}\n{"type":"session_end"}\n')
    wait_for(lambda: len(sessions(daemon.database)) == 3, what="three sessions")
    with rollout.open("ab") as file:
        file.write(lines(count(150, 50)))
    wait_for(lambda: sessions(daemon.database)[THREAD]["tokens"] == 150, what="the call that came later")
    listed = sessions(daemon.database)
    assert {
        name: (row["agent"], row["cwd"], row["branch"], row["tokens"], row["state"]) for name, row in listed.items()
    } == {
        "s": ("claude", "/work/tool", "main", 246, "working"),
        THREAD: ("codex", "/work/tool", "main", 150, "waiting"),
        "n": ("native", "/x", None, 0, "ended"),
    }
    assert list(sessions(daemon.database, "--agent", "codex", "--project", "tool")) == [THREAD]
    assert list(sessions(daemon.database, "--state", "ended")) == ["n"]


def test_a_call_that_several_lines_tell_of_counts_once(tmp_path: Path, database: Path) -> None:
    """The line with the most output counts, whatever batches and whichever order they come in."""
    log = tmp_path / "logs" / "s.jsonl"
    log.parent.mkdir()
    for record in (answer(1, 3, message="m"), answer(2, 20, message="m"), answer(3, 20, message="m"), answer(4, 1)):
        with log.open("ab") as file:
            file.write(lines(record))
        import_all(log.parent, database)
    assert own(database) == {"s": (20, 200, 10, 21)}
    assert sessions(database)["s"]["repeated_tokens"] == (115 + 3) + (115 + 20)
    (row,) = usage(database, "--by", "model")
    assert (row["calls"], row["cost"]) == (2, pytest.approx((20 * 3 + 200 * 0.3 + 10 * 3.75 + 21 * 15) / 1e6))


def test_a_forked_transcript_counts_once(tmp_path: Path, database: Path) -> None:
    """The copied calls are the first session's; the fork shows them as inherited."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(answer(1, 7), answer(2, 9)))
    import_all(folder, database)
    copied = [answer(1, 7), answer(2, 9), answer(3, 11)]
    (folder / "b.jsonl").write_bytes(lines(*(record | {"sessionId": "b"} for record in copied)))
    assert imported(folder, database) == {"s": (20, 200, 10, 16), "b": (10, 100, 5, 11)}
    assert sessions(database)["b"]["inherited_tokens"] == 2 * 115 + 16


def test_a_sub_agent_is_a_session_of_its_own(tmp_path: Path, database: Path) -> None:
    """Its lines have the parent's id: the link is there, and nothing of it is in the parent's row."""
    folder = tmp_path / "logs"
    (folder / "p" / "s" / "subagents").mkdir(parents=True)
    (folder / "p" / "s.jsonl").write_bytes(lines(answer(1, 7)))
    side = answer(2, 9) | {"isSidechain": True, "agentId": "a1"}
    (folder / "p" / "s" / "subagents" / "agent-a1.jsonl").write_bytes(lines(side))
    assert imported(folder, database) == {"s": (10, 100, 5, 7), "s/a1": (10, 100, 5, 9)}
    assert sessions(database)["s/a1"]["parent_session_id"] == "s"


@pytest.mark.parametrize(
    "content",
    [b'{\n  "sessionId": "s",\n  "type": "user"\n}\n', b"\x89PNG\r\n\x1a\n\0\0\0\n", b"[\n1,\n2\n]\n", b"plain\n"],
)
def test_what_is_no_log_is_ignored_with_one_warning(daemon: Daemon, content: bytes) -> None:
    """A pretty-printed file and a picture under a log's name: no rows, no rejects; what is beside them flows."""
    (daemon.log_dir / "odd.jsonl").write_bytes(content)
    daemon.start()
    wait_for(lambda: daemon.told("ignored"), what="the warning")
    (daemon.log_dir / "s.jsonl").write_bytes(lines(answer(1, 7)))
    daemon.wait_for_rows(1)
    os.utime(daemon.log_dir / "odd.jsonl")
    (daemon.log_dir / "s.jsonl").write_bytes(lines(answer(1, 7), answer(2, 8)))
    daemon.wait_for_rows(2)
    assert daemon.scalar("SELECT count(*) FROM streams") == 1
    assert daemon.scalar("SELECT count(*) FROM ingest_rejects") == 0
    assert daemon.stop() == 0
    assert len(daemon.told("ignored")) == 1


def test_glued_and_torn_lines_of_a_transcript(tmp_path: Path, database: Path) -> None:
    """Two objects on one line are two events of that line; a torn last line is no event until it is whole."""
    folder = tmp_path / "logs"
    folder.mkdir()
    glued = lines(answer(1, 7)).rstrip() + lines(answer(2, 9))
    last = lines(answer(3, 1))
    (folder / "s.jsonl").write_bytes(glued + last[:50])
    import_all(folder, database)
    query = "SELECT seq, part, message FROM session_events ORDER BY seq, part"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(query).fetchall() == [(1, 0, "answer 1"), (1, 1, "answer 2")]
        (folder / "s.jsonl").write_bytes(glued + last)
        import_all(folder, database)
        assert connection.execute(query).fetchall()[2:] == [(2, 0, "answer 3")]
        assert connection.execute("SELECT count(*) FROM ingest_rejects").fetchone() == (0,)


def pack(path: Path) -> None:
    """Compress a file as Codex does: under another name, published, and only then is the plain one gone."""
    packed = path.with_name(f"{path.name}.zst")
    packed.with_suffix(".tmp").write_bytes(zstandard.compress(path.read_bytes()))
    packed.with_suffix(".tmp").rename(packed)
    path.unlink()


def unpack(path: Path) -> None:
    """And back, before it appends."""
    packed = path.with_name(f"{path.name}.zst")
    path.with_suffix(".tmp").write_bytes(zstandard.decompress(packed.read_bytes(), max_output_size=1 << 20))
    path.with_suffix(".tmp").rename(path)
    packed.unlink()


def lives(database: Path) -> list[tuple[str, int]]:
    """Each generation's log and length in bytes."""
    query = 'SELECT s.path, g."offset" FROM streams AS s JOIN generations AS g ON g.stream = s.id'
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_a_compressed_log_is_the_same_stream(daemon: Daemon) -> None:
    """Packed, unpacked, appended to, packed again: no row twice, one generation; verify reads the packed file."""
    log = daemon.log_dir / f"rollout-x-{THREAD}.jsonl"
    log.write_bytes(lines(HEADER, count(10, 10)))
    daemon.start()
    daemon.wait_for_rows(2)
    query = "SELECT count(*) FROM generations WHERE inode = ? AND how = 'moved'"
    for number in (2, 3):
        pack(log)
        inode = log.with_name(f"{log.name}.zst").stat().st_ino
        wait_for(lambda inode=inode: daemon.scalar(query, inode) == 1, what="the packed file to be known")
        unpack(log)
        with log.open("ab") as file:
            file.write(lines(count(number * 10, 10)))
        daemon.wait_for_rows(number + 1)
    pack(log)
    inode = log.with_name(f"{log.name}.zst").stat().st_ino
    wait_for(lambda: daemon.scalar(query, inode) == 1, what="the packed file to be known")
    assert daemon.stop() == 0
    size = len(lines(HEADER, count(10, 10), count(20, 10), count(30, 10)))
    assert lives(daemon.database) == [(log.name, size)]
    run("codex-ingestd", "verify", "--deep", "--db", daemon.database)


def test_packed_logs_are_backfilled(tmp_path: Path, database: Path) -> None:
    """Old sessions are there packed alone; a file that is no whole one is told of, and the others flow."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.jsonl").write_bytes(lines(*(answer(number, number) for number in range(50))))
        pack(folder / f"{name}.jsonl")
    torn = folder / "b.jsonl.zst"
    torn.write_bytes(torn.read_bytes()[:-10])
    result = subprocess.run(
        [BIN / "codex-import-ndjson", "--all", "--log-dir", folder, "--db", database], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "b.jsonl.zst: its last zstd frame isn't whole" in result.stderr
    assert [path for path, _ in lives(database)] == ["a.jsonl", "c.jsonl"]
    run("codex-ingestd", "verify", "--deep", "--db", database)


def test_an_archived_log_is_the_same_stream(daemon: Daemon, tmp_path: Path) -> None:
    """Moved into another watched folder, as Codex archives a thread: no new rows, and its next line goes on."""
    archive = tmp_path / "archived_sessions"
    archive.mkdir()
    log = daemon.log_dir / f"rollout-x-{THREAD}.jsonl"
    log.write_bytes(lines(HEADER, count(10, 10)))
    daemon.start("--watch", str(archive))
    daemon.wait_for_rows(2)
    moved = log.rename(archive / log.name)
    wait_for(lambda: daemon.scalar("SELECT root FROM streams") == str(archive), what="the move to be known")
    with moved.open("ab") as file:
        file.write(lines(count(20, 10)))
    daemon.wait_for_rows(3)
    assert len(lives(daemon.database)) == 1


def test_a_rewritten_log_keeps_its_former_life(daemon: Daemon) -> None:
    """A migration in the background writes the same path anew: the new rows count, the old bytes are kept."""
    log = daemon.log_dir / f"rollout-x-{THREAD}.jsonl"
    log.write_bytes(lines(HEADER, count(10, 10)))
    daemon.start()
    daemon.wait_for_rows(2)
    fresh = log.with_suffix(".tmp")
    fresh.write_bytes(lines(HEADER | {"ordinal": 0}, count(10, 10) | {"ordinal": 1}, count(30, 20) | {"ordinal": 2}))
    fresh.rename(log)
    daemon.wait_for_rows(3)
    assert sessions(daemon.database)[THREAD]["tokens"] == 30
    assert len(lives(daemon.database)) == 2


def test_a_deleted_log_stays_in_the_database(daemon: Daemon) -> None:
    """The agent's own clean-up takes the file, not the rows; the bytes come back."""
    log = daemon.log_dir / "s.jsonl"
    content = lines(answer(1, 7))
    log.write_bytes(content)
    daemon.start()
    daemon.wait_for_rows(1)
    log.unlink()
    wait_for(lambda: daemon.scalar("SELECT how FROM generations") == "deleted", what="the deletion to be known")
    assert run("codex-ingestd", "restore", "s", "--db", daemon.database).encode() == content
    assert own(daemon.database) == {"s": (10, 100, 5, 7)}


def test_a_writers_lock_tells_whether_a_thread_is_open(tmp_path: Path, database: Path) -> None:
    """Codex holds the lock as long as a process has the thread: without it the session has ended."""
    home = tmp_path / "codex"
    (home / "sessions").mkdir(parents=True)
    (home / "thread-writer-locks").mkdir()
    (home / "sessions" / f"rollout-x-{THREAD}.jsonl").write_bytes(lines(HEADER, count(1, 1)))
    import_all(home / "sessions", database)
    lock = home / "thread-writer-locks" / f"{THREAD}.lock"
    lock.touch()
    assert sessions(database)[THREAD]["state"] == "ended"
    if not Path("/proc/locks").exists():
        pytest.skip("the locks of other processes aren't told here")
    holding = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert sessions(database)[THREAD]["state"] == "waiting"
        holder.kill()
    assert sessions(database)[THREAD]["state"] == "ended"


def test_a_format_of_another_package_is_asked(tmp_path: Path) -> None:
    """One module and one entry point make a format: the README's example, as a package beside ours."""
    readme = (Path(__file__).parents[2] / "lib/codex/logging/ingest/formats/README.md").read_text("utf-8")
    package = tmp_path / "site"
    info = package / "turtle-1.dist-info"
    info.mkdir(parents=True)
    (package / "turtle.py").write_text(readme.split("```python\n")[1].split("```")[0], "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: turtle\nVersion: 1\n")
    (info / "entry_points.txt").write_text(readme.split("```ini\n")[1].split("```")[0], "utf-8")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "t.jsonl").write_bytes(b'{"turtle":"leo","at":1767323045,"says":"cowabunga"}\n')
    database = tmp_path / "t.db"
    arguments = ("--all", "--log-dir", logs, "--db", database)
    run("codex-import-ndjson", *arguments, env={"PYTHONPATH": str(package)})
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute("SELECT session_id, ts, role, message FROM session_events").fetchone()
    assert row == ("leo", 1767323045.0, "assistant", "cowabunga")


@needs_samples
@pytest.mark.parametrize("path", [*CLAUDE, *CODEX], ids=lambda path: path.name)
def test_tokens_are_what_a_second_count_says(path: Path, tmp_path: Path) -> None:
    """A short script that knows only the formats' definition comes to the same sums, and verify is clean."""
    folder, database = tmp_path / "logs", tmp_path / "s.db"
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes())
    found = imported(folder, database)
    expected = (tokens.claude if path.parent.name == "claude" else tokens.codex)(path.read_bytes())
    assert sum(found.values(), ()) == (expected if any(expected) else ())
    run("codex-ingestd", "verify", "--deep", "--db", database)


@needs_samples
def test_a_growing_transcript_counts_each_step_right(daemon: Daemon, tmp_path: Path) -> None:
    """A real session at five moments: at each its tokens are the second count's, and at the end those of one import."""
    steps = [path.read_bytes() for path in CLAUDE if "growth" in path.name]
    log = daemon.log_dir / "grown.jsonl"
    daemon.start()
    former = 0
    for step in steps:
        with log.open("ab") as file:
            file.write(step[former:])
        former = len(step)
        expected = {"grown": tokens.claude(step)}
        wait_for(lambda expected=expected: own(daemon.database) == expected, what=f"tokens of {len(step)} bytes")
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "grown.jsonl").write_bytes(steps[-1])
    assert imported(whole, tmp_path / "whole.db") == own(daemon.database)
