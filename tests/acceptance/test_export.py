"""`codex-logs export`: every form gives back what is in the database, whatever the messages hold."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from codex.logging.import_ndjson import import_all
from codex.logging.plain import visible
from codex.logs.shown.delimited import plain
from tests.commands import shell, succeed

HOSTILE = [
    "plain words",
    "```\n# not a heading\n`````text\n~~~",
    "</pre></article><script>alert(1)</script><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">here</a> &lt;b&gt;',
    "<!-- --><style>*{display:none}</style><meta http-equiv=refresh content=0>",
    "\x1b[31mred\x1b]0;title\x07 \x9b2J \x00 \u202egnp.exe",
    '=HYPERLINK("http://x/","y")',
    "+1\n-1\n@SUM(1)",
    "'=already quoted",
    "-",
    "one\r\ntwo\rthree\n",
    '  leading, "quotes", and a comma',
    "é 漢字 🙂",
]
TITLE = "</title><script>x</script> `a` *b* [c](d)\n# e"


@pytest.fixture
def filled(log_dir: Path, database: Path) -> Path:
    """Two sessions: one of hostile messages, calls and a hostile title; one of a single message."""
    lines: list[dict[str, object]] = [{"type": "custom-title", "customTitle": TITLE, "sessionId": "s"}]
    for number, text in enumerate(HOSTILE):
        block = {"type": "text", "text": text}
        record = {"type": "user", "uuid": f"u{number}", "sessionId": "s", "timestamp": "2026-01-02T03:04:05Z"}
        lines.append(record | {"cwd": "/w", "message": {"role": "user", "content": [block]}})
    call = {"type": "tool_use", "id": "t", "name": "</b><script>", "input": {"command": "ls"}}
    lines.append(
        {"type": "assistant", "uuid": "v", "sessionId": "s", "message": {"role": "assistant", "content": [call]}}
    )
    (log_dir / "s.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (log_dir / "other.ndjson").write_text(
        '{"ts":"2026-02-03T00:00:00Z","role":"user","message":"hello","deep":{"a":[1.5]}}\n'
    )
    import_all(log_dir, database)
    return database


def export(database: Path, arguments: str) -> bytes:
    """What is written to standard output, byte by byte."""
    succeed(f"codex-logs export --db {database} {arguments} > out", database.parent)
    return (database.parent / "out").read_bytes()


def messages(database: Path) -> list[str]:
    """What the session said, by SQL."""
    query = "SELECT message FROM session_events WHERE session_id = 's' ORDER BY seq, part"
    rows = succeed(f'codex-logs sql --jsonl --db {database} "{query}"', database.parent).splitlines()
    return [json.loads(row)["message"] for row in rows]


def test_json_lines_are_the_events(filled: Path) -> None:
    """One object an event, of one session or of all; meta as JSON, times in UTC."""
    events = [json.loads(line) for line in export(filled, "s").decode().split("\n") if line]
    assert [event["message"] for event in events] == messages(filled)
    assert messages(filled)[1 : len(HOSTILE) + 1] == HOSTILE
    (other,) = (json.loads(line) for line in export(filled, "other").splitlines())
    assert (other["time"], other["meta"]["deep"]) == ("2026-02-03T00:00:00.000Z", {"a": [1.5]})
    assert len(export(filled, "--all").splitlines()) == len(events) + 1


def test_csv_comes_back_and_holds_no_formula(filled: Path) -> None:
    """The csv module reads every message as it was; no cell begins as a formula does."""
    text = export(filled, "s --format csv").decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [plain(row["message"]) for row in rows] == messages(filled)
    assert not [cell for row in rows for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]
    assert {row["session_id"] for row in rows} == {"s"}


def test_no_message_ends_its_fence_in_markdown(filled: Path) -> None:
    """A parser of Markdown finds the session's heading, one for each event, and each message in a fence of its own."""
    tokens = MarkdownIt().parse(export(filled, "s --format markdown").decode())
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or []}
    lists = {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}
    texts = {"heading_open", "heading_close", "inline", "paragraph_open", "paragraph_close", "text", "fence"}
    assert kinds - {"text_special"} == lists | texts
    fences = [token.content for token in tokens if token.type == "fence"]
    said = [text for text in messages(filled) if text]
    assert [text.rstrip("\n") for text in fences] == [visible(text).rstrip("\n") for text in said]
    assert sum(token.type == "heading_open" for token in tokens) == len(said) + 1


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text of each `pre`."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "pre":
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


def test_a_page_needs_and_runs_nothing(filled: Path) -> None:
    """No script, no other file, no attribute from outside; each message is text, with its escapes shown."""
    text = export(filled, "s --format html").decode()
    page = Page()
    page.feed(text)
    structure = {"html", "head", "meta", "title", "style", "body", "section", "h1", "dl", "dt", "dd"}
    parts = {"article", "header", "details", "summary", "pre", "b", "a", "time"}
    assert {tag for tag, _ in page.elements} == structure | parts
    assert {name for _, names in page.elements for name in names} == {
        *("lang", "charset", "http-equiv", "content", "name", "id", "class", "href")
    }
    assert all(str(names["href"]).startswith("#") for tag, names in page.elements if tag == "a")
    said = [visible(message) for message in messages(filled) if message]
    assert page.texts == said
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-[\w+/]{43}='", text)
    assert not set(text) & set(map(chr, (*range(9), *range(11, 32), 127)))


def test_a_pages_policy_lets_its_own_style_through(filled: Path) -> None:
    """The hash in the policy is that of the style, to the byte; dark mode and phones are thought of."""
    import base64
    import hashlib

    text = export(filled, "s --format html").decode()
    style = text.split("<style>")[1].split("</style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in text
    assert "prefers-color-scheme: dark" in style
    assert 'name="viewport"' in text


def test_parquet_comes_back(filled: Path) -> None:
    """pyarrow reads every message as it was, and a time as a time."""
    parquet = pytest.importorskip("pyarrow.parquet")
    export(filled, "s --output s.parquet")
    rows = parquet.read_table(filled.parent / "s.parquet").to_pylist()
    assert [row["message"] for row in rows] == messages(filled)
    assert rows[1]["time"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert rows[0]["time"] is None


def test_parquet_without_its_library_is_a_clear_word(filled: Path) -> None:
    """What to install, exit code 2, and no file left behind."""
    (filled.parent / "pyarrow.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": str(filled.parent)}
    result = shell(f"codex-logs export s --db {filled} -o s.parquet", filled.parent, env)
    assert (result.returncode, "codex-ingestd[parquet]" in result.stderr) == (2, True), result.stderr
    assert not list(filled.parent.glob("*parquet*"))


def test_filters_choose_events(filled: Path) -> None:
    """By role, kind, tool and time; a file's ending tells its form."""
    assert len(export(filled, "s --role user").splitlines()) == len(HOSTILE)
    assert len(export(filled, "s --kind tool_call").splitlines()) == 1
    assert export(filled, "--all --tool none") == b""
    assert [json.loads(line)["message"] for line in export(filled, "--all --after 2026-02-01").splitlines()] == [
        "hello"
    ]
    export(filled, "s --role user -o s.md")
    assert (filled.parent / "s.md").read_text().startswith("# ")


def test_a_file_is_whole_or_not_there(filled: Path) -> None:
    """One that is there is kept unless --force is given; nothing is left of what failed; others can't read it."""
    folder = filled.parent
    succeed(f"codex-logs export s --db {filled} -o s.jsonl", folder)
    whole = (folder / "s.jsonl").read_bytes()
    assert stat.S_IMODE((folder / "s.jsonl").stat().st_mode) == 0o600
    again = shell(f"codex-logs export other --db {filled} -o s.jsonl", folder)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    assert (folder / "s.jsonl").read_bytes() == whole
    succeed(f"codex-logs export other --db {filled} -o s.jsonl --force", folder)
    assert b"hello" in (folder / "s.jsonl").read_bytes()
    for arguments in ("nobody -o n.csv", "s -o gone/n.csv", "s -o .", "-o n.csv", "--all s"):
        assert shell(f"codex-logs export --db {filled} {arguments}", folder).returncode in (1, 2), arguments
    broken = f"(ulimit -f 1; trap '' XFSZ; codex-logs export s --db {filled} -o n.html)"
    assert shell(broken, folder).returncode == 1
    assert {path.name for path in folder.iterdir() if path.suffix in {".csv", ".html", ".part"}} == set()


def test_a_reader_that_goes_ends_it(filled: Path) -> None:
    """`head` takes the first line, and nobody complains."""
    result = shell(f"codex-logs export --all --db {filled} | head -1", filled.parent)
    assert (len(result.stdout.splitlines()), result.stderr) == (1, "")
