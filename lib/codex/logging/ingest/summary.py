"""What a session comes to, folded from its events batch by batch: pure, and the same however they were cut."""

from __future__ import annotations

from codex.logging.events import Batch, Event, Note, Summary
from codex.logging.ingest.formats import Format

MOST_MODELS = 32


def fold(form: Format, known: Summary, batch: Batch) -> Batch:
    """The batch as its format understands it after what came before, with the generation's summary behind it."""
    carry, events = form.follow(known.carry, batch.events)
    summary = _add(known, events) if events else known
    return batch._replace(events=events, summary=summary._replace(offset=batch.after.offset, carry=carry))


def _add(known: Summary, events: list[Event]) -> Summary:
    times = [event.fields.ts for event in events if event.fields.ts is not None]
    own = [event.fields for event in events if not event.fields.inherited]
    notes = [fields.note for fields in own if fields.note is not None]
    models = dict.fromkeys(known.models) | {fields.model: None for fields in own if fields.model is not None}
    first = _first_of(notes)
    states = [note.state for note in notes if note.state is not None]
    state = states[-1] if states else known.state
    last_event = max([*times, *_known(known.last_event)], default=None)
    return known._replace(
        cwd=known.cwd or first.cwd,
        branch=next((note.branch for note in reversed(notes) if note.branch is not None), known.branch),
        commit=next((note.commit for note in reversed(notes) if note.commit is not None), known.commit),
        title=next((note.title for note in reversed(notes) if note.title is not None), known.title),
        models=tuple(models)[:MOST_MODELS],
        started=min([*times, *_known(known.started)], default=None),
        last_event=last_event,
        ended=last_event if state == "ended" else None,
        events=known.events + len(events),
        turns=known.turns + sum(note.turn for note in notes),
        tool_calls=known.tool_calls + [fields.kind for fields in own].count("tool_call"),
        errors=known.errors + sum(note.error for note in notes),
        state=state,
    )


def _first_of(notes: list[Note]) -> Note:
    return next((note for note in notes if note.cwd is not None), Note())


def _known(moment: float | None) -> list[float]:
    return [] if moment is None else [moment]
