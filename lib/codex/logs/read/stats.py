"""What happened, counted: by day, hour, tool, model, project, agent, role, kind or session."""

from __future__ import annotations

from typing import Any, NamedTuple

from codex.logs.read.engine import OF_PROJECT, Connection, has_relation

_KEYS = {
    "day": "strftime('%Y-%m-%d', e.ts, 'unixepoch', 'localtime')",
    "hour": "strftime('%H', e.ts, 'unixepoch', 'localtime')",
    "tool": "e.tool",
    "model": "e.model",
    "project": "l.cwd",
    "agent": "l.agent",
    "role": "e.role",
    "kind": "e.kind",
    "session": "l.session_id",
}
BY = tuple(_KEYS)
# What a format leaves in the meta of an event that tells of an error: a tool's result, a command's end, a notice.
_ERROR = """CASE e.kind
         WHEN 'tool_result' THEN instr(e.meta, '"is_error":true') > 0
         WHEN 'message' THEN instr(e.meta, '"isApiErrorMessage":true') > 0
         WHEN 'session_end' THEN instr(e.meta, '"error":') > 0
         WHEN 'other' THEN CASE
           WHEN instr(e.meta, '"payload":"exec_command_end"') > 0
             THEN glob('*"exit_code":[1-9-]*', e.meta)
           WHEN instr(e.meta, '"payload":"patch_apply_end"') > 0 THEN instr(e.meta, '"success":false') > 0
           ELSE instr(e.meta, '"payload":"error"') + instr(e.meta, '"payload":"stream_error"')
             + instr(e.meta, '"subtype":"api_error"') + instr(e.meta, '"subtype":"error"') > 0 END
         ELSE FALSE END"""
# A turn begins with what a person says: Codex tells of it in a line of its own.
_TURN = """CASE WHEN l.agent = 'codex'
           THEN CASE WHEN e.kind = 'other' THEN instr(e.meta, '"payload":"user_message"') > 0 ELSE FALSE END
         WHEN e.role = 'user' AND e.kind = 'message' AND e.part = 0
           THEN coalesce(instr(e.meta, '"isMeta":true') + instr(e.meta, '"isSidechain":true')
             + instr(e.meta, '"isCompactSummary":true'), 0) = 0
             AND substr(e.message, 1, 15) <> '<local-command-' AND substr(e.message, 1, 14) <> '<command-name>'
         ELSE FALSE END"""
# The lives come first, which are few: then it is known how few, and each one's events are found by their numbers.
_LIVES = f"""
lives AS MATERIALIZED (
    SELECT g.id AS generation, s.id AS stream, s.format AS agent, s.session_id, m.cwd
    FROM streams AS s
    JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
    LEFT JOIN summaries AS m ON m.generation = g.id
    WHERE (:agent IS NULL OR s.format = :agent) AND (:session IS NULL OR s.session_id = :session)
      AND (:project IS NULL OR {OF_PROJECT.format(path="m.cwd")})
)"""  # noqa: S608
_CHOSEN = """
FROM lives AS l JOIN events AS e ON e.id BETWEEN l.generation << 40 AND (l.generation << 40) + 1099511627775
WHERE coalesce(e.inherited, 0) = 0
  AND (:after IS NULL OR e.ts >= :after) AND (:before IS NULL OR e.ts <= :before)"""
# What is asked of an event's texts stands among what it is grouped by, in one number: so no text is kept until then.
_MARKS = f"""
(CASE WHEN {_TURN} THEN 1 ELSE 0 END) + (CASE WHEN e.kind = 'tool_call' THEN 2 ELSE 0 END)
  + (CASE WHEN {_ERROR} THEN 4 ELSE 0 END)"""
_QUERIES = {
    name: f"""
WITH {_LIVES}, counts AS (
    SELECT {key} AS "key", l.stream, {_MARKS} AS marks, count(*) AS events, min(e.ts) AS first, max(e.ts) AS last
    {_CHOSEN}
    GROUP BY 2, 1, 3
)
SELECT "key", count(DISTINCT stream), sum(events), coalesce(sum(events) FILTER (WHERE marks & 1 <> 0), 0),
       coalesce(sum(events) FILTER (WHERE marks & 2 <> 0), 0), coalesce(sum(events) FILTER (WHERE marks & 4 <> 0), 0),
       min(first), max(last)
FROM counts
GROUP BY 1 ORDER BY 1 NULLS FIRST"""  # noqa: S608
    for name, key in _KEYS.items()
}
# A result names its call, not its tool. What is looked up is made a table of its own first; what stands
# around a result's kind keeps SQLite from making an index of all events for it.
_BY_TOOL = f"""
WITH {_LIVES}, calls AS MATERIALIZED (
    SELECT e.generation, e.call_id, e.tool, l.stream, e.ts {_CHOSEN} AND e.tool IS NOT NULL
), failed AS MATERIALIZED (
    SELECT e.generation, e.call_id {_CHOSEN} AND coalesce(e.kind, '') = 'tool_result' AND {_ERROR}
), failures AS (
    SELECT c.tool, count(*) AS errors
    FROM failed AS f JOIN calls AS c ON c.call_id = f.call_id AND c.generation = f.generation GROUP BY 1
)
SELECT c.tool, count(DISTINCT c.stream), count(*), NULL, count(*), coalesce(max(f.errors), 0), min(c.ts), max(c.ts)
FROM calls AS c LEFT JOIN failures AS f ON f.tool = c.tool GROUP BY 1 ORDER BY 1 NULLS FIRST"""  # noqa: S608
_QUERIES["tool"] = _BY_TOOL
_SESSIONS = f"""
SELECT count(DISTINCT session_id) FROM session_lives
WHERE (:after IS NULL OR last_event >= :after) AND (:before IS NULL OR started <= :before)
  AND (:agent IS NULL OR agent = :agent) AND (:session IS NULL OR session_id = :session)
  AND (:project IS NULL OR {OF_PROJECT.format(path="cwd")})"""  # noqa: S608


class Counts(NamedTuple):
    """What happened on one day, with one tool …, as `key` says. Times are epoch seconds.

    What isn't told by such a key is None: turns by tool, turns and errors by model.
    """

    key: str | None
    sessions: int
    events: int
    turns: int | None
    tool_calls: int
    errors: int | None
    first: float | None
    last: float | None


class Selection(NamedTuple):
    """Which events count. Times are epoch seconds; a project is its folder, or the end of its path."""

    after: float | None = None
    before: float | None = None
    agent: str | None = None
    project: str | None = None
    session: str | None = None


def read_counts(connection: Connection, by: str, selection: Selection) -> list[Counts]:
    """The counts by one of `BY`, in that order; days and hours are those of this machine's time zone.

    History that a session copied from another one doesn't count.
    """
    if not has_relation(connection, "summaries"):
        return []
    rows = connection.execute(_QUERIES[by], selection._asdict())
    counts = [_counts(row) for row in rows]
    if by == "model":
        return [each._replace(turns=None, errors=None) for each in counts if each.key is not None]
    return counts


def count_sessions(connection: Connection, selection: Selection) -> int:
    """How many sessions were at work in that time."""
    if not has_relation(connection, "session_lives"):
        return 0
    row = connection.execute(_SESSIONS, selection._asdict()).fetchone()
    return 0 if row is None else int(row[0])


def _counts(row: tuple[Any, ...]) -> Counts:
    key, sessions, events, turns, calls, errors, first, last = row
    turns = None if turns is None else int(turns)
    return Counts(None if key is None else str(key), sessions, int(events), turns, int(calls), int(errors), first, last)
