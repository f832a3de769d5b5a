"""What went wrong, to learn from: statements and messages that tell of errors, failures and warnings."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import click

from codex.logging.events import iso_time
from codex.logging.listing import after_option, before_option, print_json, print_lines
from codex.logging.plain import one_line
from codex.logging.reading import rows
from codex.logging.rows import Row, Selection
from codex.logging.terminal import db_option, json_option, tell
from codex.logs.chosen import SESSION

_WORDS = {
    "error": re.compile(r"\b(errors?|exceptions?|traceback|panic(ked)?|fatal)\b|\w(Error|Exception)\b", re.IGNORECASE),
    "failure": re.compile(r"\b(fail(s|ed|ing|ures?)?|abort(ed|s)?|crash(ed|es)?|timed out|timeouts?)\b", re.IGNORECASE),
    "warning": re.compile(r"\bwarn(s|ed|ings?)?\b", re.IGNORECASE),
}
_NONE = re.compile(
    r"\b(no|0|zero|without( any)?) +(errors?|failures?|warnings?|exceptions?)\b|\b0 failed\b", re.IGNORECASE
)
# A text without any of these tells of nothing that the patterns know; looking for them is ten times as fast.
_HINTS = ("err", "except", "traceback", "panic", "fatal", "fail", "abort", "crash", "time", "warn", "session_end")
_SHOWN = 240


class Lesson(NamedTuple):
    """A row that tells of trouble: which kind, and the line that says so."""

    row: Row
    kind: str
    line: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.row.as_dict(show_meta=True), "kind": self.kind, "line": self.line}

    def as_text(self) -> str:
        """One line."""
        name = one_line(str(self.row.session_id))
        return f"{iso_time(self.row.ts)} [{name}] {self.row.seq} {self.kind}: {self.line[:_SHOWN]}"


def trouble(role: str | None, message: str | None, meta: str | None) -> tuple[str, str] | None:
    """The kind of trouble that a row tells of, and the line that says so; None when it tells of none.

    A line that only says that there was none ("0 errors") doesn't count.
    """
    whole = f"{message or ''}\n{meta or ''}".lower()
    for line in _texts(message, meta) if any(hint in whole for hint in _HINTS) else ():
        told = _NONE.sub("", line)
        for kind, words in _WORDS.items():
            if words.search(told):
                return kind, line.strip()
    if role == "WARN":
        return "warning", (message or "").strip().partition("\n")[0]
    return None


def _texts(message: str | None, meta: str | None) -> list[str]:
    """What the row says, line by line: a message, an action's statement, how a session ended."""
    record = _record(meta)
    if record.get("type") == "action":
        return [f"{record.get('action')}: {line}" for line in str(record.get("statement") or "").splitlines()]
    if record.get("type") == "session_end":
        return [_ending(record)]
    return str(message or "").splitlines()


def _ending(record: dict[str, object]) -> str:
    said = str(record.get("error") or record.get("summary") or "")
    if record.get("error"):
        return f"session ended with an error: {said}"
    if record.get("exit_code"):
        return f"session failed with exit code {record['exit_code']}" + (f": {said}" if said else "")
    return said


def _record(meta: str | None) -> dict[str, object]:
    if not meta or '"type"' not in meta:
        return {}
    try:
        record = json.loads(meta)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


@click.command("errors", epilog="\b\nExamples:\n  codex-logs errors\n  codex-logs errors --session-id demo --json")
@click.option("--session-id", type=SESSION, metavar="ID", help="Only this session.")
@after_option
@before_option
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the latest N.")
@db_option
@json_option
def command(
    session_id: str | None, after: float | None, before: float | None, tail: int | None, db: str | None, as_json: bool
) -> int:
    """List what tells of errors, failures and warnings: statements of actions, messages, ends of sessions."""
    selection = Selection(
        session_id,
        after=after,
        before=before,
        tail=tail,
        keep=lambda role, level, message, meta: trouble(role, message, meta) is not None,
    )
    found = (Lesson(row, *told) for row in rows(db, selection) if (told := trouble(row.role, row.message, row.meta)))
    if as_json:
        print_json(lesson.as_dict() for lesson in found)
    elif not print_lines(lesson.as_text() for lesson in found):
        tell("Nothing found.", err=True)
    return 0
