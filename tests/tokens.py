"""The tokens of an agent's log, counted a second time: straight from the formats' definition, with nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Tokens = tuple[int, int, int, int]  # not from or into a cache; read from one; written to one; output


def objects(data: bytes) -> Iterator[dict[str, Any]]:
    """Every object of every line, glued ones too."""
    decoder = json.JSONDecoder()
    for line in data.decode().splitlines():
        rest = line.strip()
        while rest:
            try:
                found, end = decoder.raw_decode(rest)
            except ValueError:
                break
            rest = rest[end:].lstrip()
            if isinstance(found, dict):
                yield found


def claude(data: bytes) -> Tokens:
    """Each (message.id, requestId) once, by its line with the most output tokens, the first of equals."""
    calls: dict[tuple[object, object], dict[str, int]] = {}
    for line in objects(data):
        message = line.get("message")
        usage = message.get("usage") if isinstance(message, dict) and line.get("type") == "assistant" else None
        if usage:
            call = (message.get("id") or line.get("uuid"), line.get("requestId"))
            if call not in calls or usage["output_tokens"] > calls[call]["output_tokens"]:
                calls[call] = usage
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    return tuple(sum(usage.get(name) or 0 for usage in calls.values()) for name in names)  # type: ignore[return-value]


def codex(data: bytes) -> Tokens:
    """The last total of each run of totals that don't shrink; for files without a parent's history."""
    runs: list[dict[str, int]] = []
    for line in objects(data):
        payload = line.get("payload")
        info = payload.get("info") if isinstance(payload, dict) and payload.get("type") == "token_count" else None
        total = info.get("total_token_usage") if isinstance(info, dict) else None
        if total:
            if runs and all(total[name] >= count for name, count in runs[-1].items() if name in total):
                runs.pop()
            runs.append(total)
    whole, cached, output = (
        sum(run.get(name, 0) for run in runs) for name in ("input_tokens", "cached_input_tokens", "output_tokens")
    )
    return whole - cached, cached, 0, output
