"""What the writers of each form are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from codex.logging.events import iso_time
from codex.logs.read.events import Event
from codex.logs.read.sessions import Session


class Transcript(NamedTuple):
    """A session and its events, which come as they are taken, once; `about` is None where only an old table has it."""

    session_id: str
    about: Session | None
    events: Iterator[Event]

    @property
    def title(self) -> str:
        """What the session is about, else its id."""
        return (self.about and self.about.title) or self.session_id

    def facts(self) -> list[tuple[str, str]]:
        """(name, value) of what is known of the session, for people."""
        about = self.about
        known: list[tuple[str, str | None]] = [("session", self.session_id)]
        if about is not None:
            started = None if about.started is None else iso_time(about.started)
            ended = None if about.last_event is None else iso_time(about.last_event)
            known += [("agent", about.agent), ("folder", about.cwd), ("branch", about.branch)]
            known += [("commit", about.commit), ("started", started), ("last event", ended)]
            known += [("turns", f"{about.turns:,}"), ("tool calls", f"{about.tool_calls:,}")]
            known += [("tokens", f"{about.tokens:,}")]
        return [(name, value) for name, value in known if value]


def heading(event: Event) -> str:
    """Who, what and when, in one line of its own words; the tool's name is not in it."""
    kind = "" if event.kind == "message" else f" · {event.kind.replace('_', ' ')}"
    moment = "" if event.ts is None else f" · {iso_time(event.ts)}"
    return f"{event.role}{kind}{moment}"
