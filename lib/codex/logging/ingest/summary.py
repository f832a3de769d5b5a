"""What a session comes to, folded from its events batch by batch: pure, and the same however they were cut."""

from __future__ import annotations

from codex.logging.events import Batch, Event, Summary
from codex.logging.ingest.formats import Format

MOST_MODELS = 32


def fold(form: Format, known: Summary, batch: Batch) -> Batch:
    """The batch as its format understands it after what came before, with the generation's summary behind it."""
    carry, events = form.follow(known.carry, batch.events)
    return batch._replace(events=events, summary=_add(known, events, batch.after.offset, carry))


def _add(known: Summary, events: list[Event], offset: int, carry: str) -> Summary:
    """One pass: this is a part of every live commit, and of every line of a backfill."""
    _, cwd, branch, commit, title, models, started, last, _, count, turns, tool_calls, errors, state, _ = known
    for event in events:
        fields = event.fields
        ts, note = fields.ts, fields.note
        if ts is not None:
            started = ts if started is None or ts < started else started
            last = ts if last is None or ts > last else last
        if fields.inherited:
            continue
        if fields.kind == "tool_call":
            tool_calls += 1
        if fields.model is not None and fields.model not in models:
            models = (*models, fields.model)[:MOST_MODELS]
        if note is not None:
            cwd = cwd or note.cwd
            branch, commit, title = note.branch or branch, note.commit or commit, note.title or title
            turns, errors = turns + note.turn, errors + note.error
            state = note.state or state
    ended = last if state == "ended" else None
    facts = (offset, cwd, branch, commit, title, models, started, last, ended)
    return Summary(*facts, count + len(events), turns, tool_calls, errors, state, carry)
