"""How forwarding to a sink goes, as it is told from a forwarder's process to whoever wants to know."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["starting", "connecting", "catching up", "live", "waiting", "refused", "dead"]


class Progress(NamedTuple):
    """`events` were sent by this process; the sink lacks `bytes` of `generations`, and is behind for `seconds`."""

    sink: str
    state: State
    events: int
    generations: int
    bytes: int
    seconds: float
    error: str
