"""`redact = "ingest"`, as the commands and a running daemon have it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import shell, succeed
from tests.daemon import Daemon, wait_for
from tests.importer import Recorded
from tests.planted import leaks, secrets, unpacked, write_log

PLANTED = secrets()
TEXTS = [one.text for one in PLANTED]


@pytest.fixture
def folder(tmp_path: Path, log_dir: Path, environment: pytest.MonkeyPatch) -> Path:
    """The folder that `log_dir` and `database` are in, which every command finds them by."""
    environment.setenv("CODEX_SESSION_LOG_DIR", str(log_dir))
    environment.setenv("CODEX_LOG_DB_PATH", str(tmp_path / "session_logs.db"))
    return tmp_path


def transcript(texts: list[str]) -> str:
    """Lines of Claude Code."""
    base = {"sessionId": "b", "uuid": "u", "timestamp": "2026-01-02T03:04:05.678Z", "cwd": "/w", "version": "2"}
    lines = [{**base, "type": "user", "message": {"role": "user", "content": text}} for text in texts]
    return "".join(json.dumps(line) + "\n" for line in lines)


def rollout(texts: list[str]) -> str:
    """Lines of Codex."""
    lines: list[dict[str, object]] = [{"type": "session_meta", "payload": {"id": "c", "cwd": "/w"}}]
    for text in texts:
        output = {"type": "function_call_output", "call_id": "x", "output": json.dumps({"output": text})}
        lines.append({"type": "response_item", "payload": output})
    return "".join(json.dumps({"timestamp": "2026-01-02T03:04:05.678Z", **line}) + "\n" for line in lines)


def test_a_daemon_writes_none_while_secrets_come_in(folder: Path, daemon: Daemon, log_dir: Path) -> None:
    """In each format, what was there and what is appended; verified, built anew, restored, and listed afterwards."""
    database = daemon.database
    (log_dir / "b.jsonl").write_text(transcript(TEXTS), "utf-8")
    daemon.start("--redact", "ingest", "--verify-rate", "0")
    write_log(log_dir, TEXTS)
    (log_dir / "c.jsonl").write_text(rollout(TEXTS), "utf-8")
    for text in TEXTS[:3]:
        with (log_dir / "b.jsonl").open("a", encoding="utf-8") as file:
            file.write(transcript([text]))
    count = {"a": len(TEXTS), "b": len(TEXTS) + 3, "c": len(TEXTS) + 1}

    def lines(session: str) -> int:
        return len({seq for seq, *_ in [*Recorded(database).rows(session), *Recorded(database).rejects(session)]})

    wait_for(lambda: database.exists() and all(lines(name) == number for name, number in count.items()))
    assert not leaks(PLANTED, b"".join(path.read_bytes() for path in folder.glob("session_logs.db*")))
    assert daemon.stop() == 0
    assert not leaks(PLANTED, unpacked(database))
    verified = json.loads(succeed("codex-ingestd verify --deep --json", folder))
    assert (verified["redacted"], verified["unproven"], verified["findings"]) == (3, 0, [])
    restored = succeed("codex-ingestd restore b", folder)
    assert len(restored) == (log_dir / "b.jsonl").stat().st_size
    assert not leaks(PLANTED, restored.encode())
    succeed("codex-ingestd rebuild", folder)
    assert not leaks(PLANTED, unpacked(database))
    (folder / "session_logs.db.key").unlink()
    assert "isn't held against the sources" in succeed("codex-ingestd verify", folder)


def test_every_importer_takes_them_out(folder: Path, log_dir: Path, database: Path) -> None:
    """The setting of a file counts for all that import: into a new database, before reading, and at finalize."""
    (folder / ".config").mkdir()
    (folder / ".config" / "codex-ingestd.toml").write_text('redact = "ingest"\n')
    write_log(log_dir, TEXTS[:20])
    succeed("codex-import-ndjson --all", folder)
    write_log(log_dir, TEXTS[20:40])
    succeed("python -m codex.logging.viewer --session-id a", folder)
    write_log(log_dir, TEXTS[40:])
    assert json.loads(succeed("codex-ingestd finalize --json", folder))["secrets"] == []
    assert len(Recorded(database).rows("a")) + len(Recorded(database).rejects("a")) >= len(TEXTS)
    assert not leaks(PLANTED, unpacked(database))
    assert not leaks(PLANTED, unpacked(folder / "codex_session_logs.db"))
    (folder / "codex-ingestd.toml").write_text('redact = "off"\n')
    refused = shell("codex-import-ndjson --all", folder)
    assert refused.returncode == 2
    assert "somebody else's project" in refused.stderr


@pytest.mark.parametrize(("place", "code"), [("user", 0), ("folder", 2)])
def test_secrets_are_allowed_by_ones_own_file_alone(folder: Path, log_dir: Path, place: str, code: int) -> None:
    """`allow-secrets` lets finalize look for none; the working folder's file can't say so."""
    write_log(log_dir, TEXTS[:5])
    assert shell("codex-ingestd finalize", folder).returncode == 4
    (folder / ".config").mkdir()
    file = folder / ".config" / "codex-ingestd.toml" if place == "user" else folder / "codex-ingestd.toml"
    file.write_text("allow-secrets = true\n")
    assert shell("codex-ingestd finalize", folder).returncode == code
