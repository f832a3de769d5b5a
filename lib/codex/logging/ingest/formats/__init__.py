"""The shapes that agents write their logs in, and which of them a file has.

A format is one module, or any object with the five members of Format. Those that other packages bring are found by the
entry points of the group `codex_ingestd.formats`; the folder's README has an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Protocol, cast

from codex.logging.errors import ConfigError
from codex.logging.events import Event, Fields, Identity
from codex.logging.ingest.formats import claude, codex, native
from codex.logging.ingest.formats.payloads import MALFORMED

GROUP = "codex_ingestd.formats"


class Format(Protocol):
    """How one kind of log is read. All of it is pure; lines come without their line feed."""

    @property
    def name(self) -> str:
        """What the database calls it."""
        ...

    def claims(self, first: bytes, path: str) -> bool:
        """Whether a file whose first whole line this is, is of this format."""
        ...

    def identify(self, first: bytes, key: str) -> Identity:
        """Whose session it is; `key` is the file's path under its root."""
        ...

    def decode(self, raw: bytes) -> Sequence[Fields]:
        """The events of one object, at least one, at most 256.

        Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for what is no object, and for nothing else.
        """
        ...

    def follow(self, carry: str, events: list[Event]) -> tuple[str, list[Event]]:
        """What a batch's events mean after those before them, and the memory (JSON text, first empty) for the next.

        However a file is cut into batches, the same events and the same last memory must come out.
        """
        ...


_OURS: dict[str, Format] = {form.name: form for form in (native, codex, claude)}


@cache
def _others() -> dict[str, Format]:
    """The formats of other packages: looked for only where ours don't do, since the look takes a while."""
    found = (cast(Format, entry.load()) for entry in entry_points(group=GROUP))
    return {form.name: form for form in found if form.name not in _OURS}


def named(name: str) -> Format:
    """The format of a name. Raises ConfigError when no installed package has it."""
    form = _OURS.get(name) or _others().get(name)
    if form is None:
        raise ConfigError(
            f"no format is called {name!r}",
            hint=f"Install the package that brings it; there are {', '.join([*_OURS, *_others()])}.",
        )
    return form


def recognise(lines: Iterator[bytes], path: str) -> tuple[Format, bytes] | None:
    """The format of a file that begins with these lines, and the line that shows it.

    None for a file that is no log: its first line is no object, and no other is a line that an agent writes.
    """
    first = next(lines, b"")
    for form in _OURS.values():
        if form.claims(first, path):
            return form, first
    for form in _others().values():
        if form.claims(first, path):
            return form, first
    if _is_object(first):
        return native, first
    for line in lines:
        for form in (codex, claude, *_others().values()):
            if form.claims(line, path):
                return form, line
    return None


def _is_object(line: bytes) -> bool:
    try:
        native.decode(line)
    except MALFORMED:
        return False
    return True
