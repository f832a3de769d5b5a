"""Where a text still is: in the bytes of any file, in what a database's segments hold, in its search index."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import zstandard

from codex.logging.store.connection import open_reader

_DATABASE = b"SQLite format 3\0"


def traces(folder: Path, text: str) -> list[str]:
    """The places under a folder that hold the text: raw, as UTF-16, escaped as JSON once or twice, packed, indexed."""
    forms = _forms(text)
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        name = str(path.relative_to(folder))
        found += [f"{name}: {form!r}" for form in forms if form in data]
        if path.suffix == ".zst":
            found += [f"{name}, unpacked" for form in forms if form in zstandard.decompress(data)]
        if data.startswith(_DATABASE):
            found += [f"{name}: {place}" for place in _in_database(path, text, forms)]
    return found


def _forms(text: str) -> list[bytes]:
    once = [*_escaped(text)]
    forms = [text, *once, *(twice for form in once for twice in _escaped(form))]
    raw = {form.encode() for form in forms} | {form.replace("/", "\\/").encode() for form in forms}
    return sorted(raw | {text.encode("utf-16-le"), text.encode("utf-16-be")})


def _escaped(text: str) -> Iterator[str]:
    for plain in (True, False):
        yield json.dumps(text, ensure_ascii=plain)[1:-1]


def _in_database(path: Path, text: str, forms: list[bytes]) -> Iterator[str]:
    with closing(open_reader(os.fspath(path))) as connection:
        for number, frame in connection.execute("SELECT id, bytes FROM segments").fetchall():
            if any(form in zstandard.decompress(frame) for form in forms):  # type: ignore[arg-type]
                yield f"segment {number}"
        words = {word.lower() for word in re.findall(r"\w{6,}", text)}
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, search_index, row)")
        for (word,) in connection.execute("SELECT term FROM temp.words"):
            if word in words:
                yield f"the index's word {word!r}"
