"""What hides a credential from those who look for it by its letters."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from codex.logging.errors import ConfigError
from codex.logging.finalize import COPY_NAME, snapshot
from codex.logging.secrets.allow import allowed_of
from codex.logging.secrets.scan import Scanner
from codex.logging.secrets.search import Search
from tests.importer import Importer
from tests.planted import leaks, secrets, unpacked

BEFORE = ("\u200b", "\u201c", "\u5bc6", "\u00a0", "\f", "\b", "\r\n", "\x1b[1;38;5;208m")


def nested(text: str, depth: int) -> bytes:
    """JSON within JSON, so deep, with all but ASCII escaped."""
    for _ in range(depth):
        text = json.dumps(text)
    return text.encode()


@pytest.mark.parametrize("depth", range(1, 7))
def test_no_letter_before_a_secret_makes_a_word_of_it(depth: int) -> None:
    """Whatever an escape of it ends in: `\\u200b` and `\\f` end no name."""
    tokens = {one.kind: one.secret for one in secrets() if one.kind in {"aws", "npm", "stripe", "google", "jwt"}}
    texts = {(kind, mark): nested(f"the key{mark}{token}", depth) for kind, token in tokens.items() for mark in BEFORE}
    assert len(texts) == 5 * len(BEFORE)
    assert [place for place, text in texts.items() if not Scanner().find(text)] == []


@pytest.mark.parametrize("depth", range(1, 7))
def test_no_number_of_backslashes_hides_a_secret(depth: int) -> None:
    """A session that quotes a session that quotes a session."""
    assert [one.text for one in secrets() if not Scanner().find(nested(one.text, depth))] == []


def test_what_may_stay_is_said_by_nobody_else(tmp_path: Path) -> None:
    """An allow-list that others may write, one without end, a pipe: each is told of, and none hangs who reads it."""
    file, database = tmp_path / "secrets-allow", str(tmp_path / "a.db")
    file.write_text("regex:.\n")
    file.chmod(0o622)
    with pytest.raises(ConfigError, match=r"others than its owner"):
        allowed_of(database)
    for make in (lambda: file.symlink_to("/dev/zero"), lambda: os.mkfifo(file), lambda: file.write_bytes(b"a" * 2**21)):
        file.unlink()
        make()
        with pytest.raises(ConfigError, match=r"secrets-allow is no file of 1 MiB"):
            allowed_of(database)


def test_no_type_of_a_column_hides_a_secret(log_dir: Path, database: Path) -> None:
    """A blob that another program keeps in the same file: it is found, and the copy is without it."""
    (log_dir / "s.ndjson").write_text('{"message":"one"}\n')
    with closing(Importer(log_dir, database)) as importer:
        importer.take()
    aws = next(one for one in secrets() if one.kind == "aws")
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("CREATE TABLE theirs (said BLOB)")
        connection.execute("INSERT INTO theirs VALUES (?)", (aws.text.encode(),))
    copy = database.parent / COPY_NAME
    found, _ = snapshot(str(database), str(copy), Search.of(str(database)))
    assert [(one.session_id, one.rule) for one in found] == [("theirs", "aws-access-key")]
    assert leaks([aws], unpacked(copy)) == []
