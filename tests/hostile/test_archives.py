"""Compressed bytes that swell, or take time without end; and what a zip of ours unpacks to."""

from __future__ import annotations

import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from codex.logging.errors import SourceError
from codex.logging.ingest import packed
from codex.logging.store import segments
from tests.commands import shell, succeed
from tests.importer import Importer, Recorded

LINE = b'{"message":"one"}\n'
SKIPPED = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"


def wide(data: bytes) -> bytes:
    """A frame that asks for a window of 1 GiB."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return made.compress(data) + made.flush()


BOMBS = {
    "zeros": zstandard.compress(LINE) + zstandard.compress(bytes(64 << 20)) * 40,
    "empty frames": zstandard.compress(LINE) + zstandard.compress(b"") * 100_000,
    "skipped frames": SKIPPED * 100_000,
    "a wide window": wide(LINE),
    "cut": zstandard.compress(LINE * 100)[:-3],
    "no zstd": b"\x00" * 4096,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_told_of_and_stops_nobody(name: str, log_dir: Path, database: Path) -> None:
    """After a moment, in little memory, with no row; other logs are taken."""
    (log_dir / "bomb.jsonl.zst").write_bytes(BOMBS[name])
    (log_dir / "s.ndjson").write_bytes(LINE)
    command = f"ulimit -v {700 << 10}; codex-import-ndjson --all --log-dir {log_dir} --db {database}"
    done = shell(command, log_dir, timeout=50)
    assert (done.returncode, done.stderr.count("failed: ")) == (1, 1), done
    assert "Traceback" not in done.stderr
    assert Recorded(database).rows("s") == [(1, 0, "one")]
    assert Recorded(database).rows("bomb") == []


def test_a_very_even_log_is_no_bomb(log_dir: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 250 times its size, or to 256 MiB, whichever is more."""
    (log_dir / "s.jsonl.zst").write_bytes(zstandard.compress(LINE * 10_000))
    with closing(Importer(log_dir, database)) as importer:
        assert importer.take("s.jsonl.zst") == 10_000
    monkeypatch.setattr(packed, "_AMPLE", 1000)
    (log_dir / "t.jsonl.zst").write_bytes(zstandard.compress(LINE * 10_000))
    with closing(Importer(log_dir, database)) as importer, pytest.raises(SourceError, match="250 times"):
        importer.take("t.jsonl.zst")


def test_a_crafted_segment_takes_no_memory() -> None:
    """One that says of itself, as its row does, that it holds more than any segment."""
    length = 1 << 40
    frame = b"\x28\xb5\x2f\xfd\xe0" + length.to_bytes(8, "little") + b"\x01\x00\x00"
    assert zstandard.frame_content_size(frame) == length
    with pytest.raises(zstandard.ZstdError, match="doesn't hold"):
        segments.decompress(frame, length)


def test_a_zip_unpacks_where_it_is_unpacked(log_dir: Path, database: Path, tmp_path: Path) -> None:
    """Names in it have neither a drive nor a separator of another system, nor orders to a terminal."""
    session = "C:\\..\\..\\evil\n\x1b[2J"
    (log_dir / f"{session}.ndjson").write_bytes(LINE)
    with closing(Importer(log_dir, database)) as importer:
        importer.take(f"{session}.ndjson")
    command = f'codex-logs pack "$SESSION" -o p.zip --db {database}'
    succeed(command, tmp_path, {"SESSION": session})
    names = zipfile.ZipFile(tmp_path / "p.zip").namelist()
    assert names == ["C__.._.._evil__[2J.ndjson", "transcript.txt"]
