-- The forerunners' tables of actions and of starts and ends, as views. Their columns are those tables' own; `ts` is
-- ISO 8601 in UTC. Meta that SQLite's JSON can't take (nested deeper than it goes) leaves NULLs and fails no query.
CREATE VIEW codex_actions AS
SELECT (generation << 40) | (seq << 8) | part AS id, session_id, strftime('%Y-%m-%dT%H:%M:%fZ', ts, 'unixepoch') AS ts,
       CAST(json_extract(sound, '$.action') AS TEXT) AS action,
       CAST(json_extract(sound, '$.statement') AS TEXT) AS statement,
       CAST(json_extract(sound, '$.metadata') AS TEXT) AS metadata
FROM (SELECT *, CASE WHEN json_valid(meta) THEN meta END AS sound FROM session_events WHERE kind = 'action');

CREATE VIEW codex_log AS
SELECT session_id, CASE kind WHEN 'session_start' THEN 'start' ELSE 'end' END AS event,
       CAST(coalesce(json_extract(sound, '$.summary'), 'error: ' || json_extract(sound, '$.error')) AS TEXT) AS summary,
       strftime('%Y-%m-%dT%H:%M:%fZ', ts, 'unixepoch') AS ts
FROM (SELECT *, CASE WHEN json_valid(meta) THEN meta END AS sound
      FROM session_events WHERE kind IN ('session_start', 'session_end'));
