"""The tokens of model calls: each call once, by day, hour, model, project, agent or session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from codex.logs.read.engine import OF_PROJECT, Connection, has_relation

_KEYS = {
    "day": "strftime('%Y-%m-%d', u.ts, 'unixepoch', 'localtime')",
    "hour": "strftime('%H', u.ts, 'unixepoch', 'localtime')",
    "model": "u.model",
    "project": "(SELECT m.cwd FROM summaries AS m WHERE m.generation = u.generation)",
    "agent": "u.agent",
    "session": "u.session_id",
}
BY = tuple(_KEYS)
_ALL_OF_THEM = 0x7FFFFFFFFFFFFFFF
# Whether a call is inherited is looked up: once for each, where the view's word for it would be for each figure. In the
# table's own order SQLite reads it from one end to the other; left to itself it goes by the index of keys.
_QUERIES = {
    name: f"""
WITH calls AS MATERIALIZED (
    SELECT {key} AS "key", u.model, u.input, u.cache_read, u.cache_write, u.output, u.reasoning, u.repeated, u.inherited
    FROM session_usage AS u
    WHERE u.input + u.cache_read + u.cache_write + u.output + u.repeated <> 0
      AND (:after IS NULL OR u.ts >= :after) AND (:before IS NULL OR u.ts <= :before)
      AND (:agent IS NULL OR u.agent = :agent) AND (:session IS NULL OR u.session_id = :session)
      AND (:project IS NULL OR EXISTS (
          SELECT 1 FROM summaries AS m
          WHERE m.generation = u.generation AND {OF_PROJECT.format(path="m.cwd")}))
    ORDER BY u.generation LIMIT {_ALL_OF_THEM}
)
SELECT "key", model, count(*) FILTER (WHERE inherited = 0),
       total(input) FILTER (WHERE inherited = 0), total(cache_read) FILTER (WHERE inherited = 0),
       total(cache_write) FILTER (WHERE inherited = 0), total(output) FILTER (WHERE inherited = 0),
       total(reasoning) FILTER (WHERE inherited = 0),
       total(input + cache_read + cache_write + output) FILTER (WHERE inherited <> 0), total(repeated)
FROM calls
GROUP BY 1, 2 ORDER BY 1 NULLS FIRST, 2 NULLS FIRST"""  # noqa: S608
    for name, key in _KEYS.items()
}


class Tokens(NamedTuple):
    """What the calls of one model took, on one day, in one session …, as `key` says.

    `inherited` tokens were spent by another session, `repeated` ones told more than once: neither is in the others;
    `reasoning` is part of `output`.
    """

    key: str | None
    model: str | None
    calls: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    inherited: int = 0
    repeated: int = 0


def read_usage(
    connection: Connection,
    by: str,
    *,
    after: float | None = None,
    before: float | None = None,
    agent: str | None = None,
    project: str | None = None,
    session: str | None = None,
) -> Iterator[Tokens]:
    """The tokens by one of `BY` and by model, in that order; days and hours are local, times epoch seconds.

    A project is its folder, or the end of its path.
    """
    if not has_relation(connection, "session_usage"):
        return
    values = {"after": after, "before": before, "agent": agent, "project": project, "session": session}
    for key, model, *counts in connection.execute(_QUERIES[by], values):
        yield Tokens(_text(key), _text(model), *(int(count) for count in counts))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
