"""New inputs from old ones: what a log says is changed as JSON, so that its lines stay lines of an agent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

_ODD: list[Any] = [None, True, 0, -1, 1e308, 2**63, 2**64, -(2**63) - 1, "", "\0", "x" * 70_000, "\ud83d", [], {}, [[]]]
_ODD += ["2026-01-01T00:00:00Z", "2026-01-01", "0001-01-01T00:00:00+23:59", 1e11, -1e12, "null", "../../x", '{"a":1}']

Mutate = Callable[[bytes, int], bytes]


def of_lines(mutate: Mutate) -> Callable[[bytes, int, int], bytes]:
    """A mutation for libFuzzer: of the values of one line as often as of its bytes."""

    def run(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        lines = data.split(b"\n")
        at = chance.randrange(len(lines))
        if chance.random() < 0.5:
            return mutate(data, most)
        try:
            value = json.loads(lines[at])
            other = json.loads(chance.choice(lines))
        except (ValueError, RecursionError):
            return mutate(data, most)
        changed = json.dumps(_changed(value, other, chance), ensure_ascii=chance.random() < 0.5, separators=(",", ":"))
        lines[at] = changed.encode(errors="surrogatepass")
        if chance.random() < 0.2:
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
        return b"\n".join(lines)[:most]

    return run


def _changed(value: Any, other: Any, chance: random.Random) -> Any:
    """The value with one of its parts replaced, taken away, given another name, or doubled."""
    places = [place for place in _places(value) if place]
    if not places:
        return chance.choice(_ODD)
    *above, key = chance.choice(places)
    holder = _at(value, above)
    match chance.randrange(5):
        case 0:
            holder[key] = chance.choice(_ODD)
        case 1:
            del holder[key]
        case 2:
            holder[key] = _at(other, chance.choice(_places(other)))
        case 3 if isinstance(holder, dict):
            holder[chance.choice(["type", "id", "content", "text", "timestamp", "ts", "payload"])] = holder.pop(key)
        case _ if isinstance(holder, list):
            holder.insert(chance.randrange(len(holder) + 1), holder[key])
        case _:
            holder[key] = [holder[key], holder[key]]
    return value


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each part, the value's own `()` first."""
    found = [above]
    if len(above) < 8 and isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            found += _places(part, (*above, key))
    return found


def _at(value: Any, place: tuple[Any, ...] | list[Any]) -> Any:
    for key in place:
        value = value[key]
    return value
