-- What readers query: the local database's views, by the same names and with the same columns, each with host_id beside
-- them. Sessions of several hosts that have one id are told apart by host_id alone.

CREATE OR REPLACE VIEW hosts AS SELECT * FROM sink_hosts FINAL;

CREATE OR REPLACE VIEW streams AS
SELECT reinterpretAsUInt128(sipHash128(host_id, local)) AS id, root, path, session_id, parent_session_id, format, state,
       error, error_at, forked_from, local, host_id
FROM sink_streams FINAL;

CREATE OR REPLACE VIEW generations AS
SELECT g.id AS id, reinterpretAsUInt128(sipHash128(g.host_id, g.stream)) AS stream, g.offset AS offset, g.seq AS seq,
       g.lines AS lines, unhex(g.chain) AS chain, g.began AS began, g.committed_at AS committed_at, g.ended AS ended,
       g.how AS how, if(g.superseded_by_local IS NULL, NULL, n.id) AS superseded_by, g.local AS local,
       g.host_id AS host_id
FROM sink_generations AS g FINAL
LEFT JOIN (SELECT host_id, local, id FROM sink_generations FINAL) AS n
       ON n.host_id = g.host_id AND n.local = g.superseded_by_local;

CREATE OR REPLACE VIEW tombstones AS
SELECT generation, session_id, length, lines, unhex(chain) AS chain, purged_at, host_id FROM sink_tombstones FINAL;

CREATE OR REPLACE VIEW redacted_spans AS
SELECT generation, offset, length, rule, redacted_at, host_id FROM sink_redacted_spans FINAL;

-- The rows that lost their text at their host after they were sent.
CREATE OR REPLACE VIEW sink_redacted_rows AS
SELECT DISTINCT e.generation AS generation, e.offset AS offset
FROM sink_events AS e
JOIN sink_redacted_spans AS r FINAL ON r.generation = e.generation
WHERE (e.host_id, e.session_id, e.generation) IN (SELECT host_id, session_id, generation FROM sink_redacted_spans)
  AND e.sent_at <= r.redacted_at AND r.offset < e.offset + e.length AND e.offset < r.offset + r.length;

-- What was purged on its host isn't shown, nor what a text said where it has lost that since.
CREATE OR REPLACE VIEW sink_shown_events AS
SELECT id, ts, role, kind,
       if((generation, offset) IN (SELECT generation, offset FROM sink_redacted_rows), '', message) AS message,
       if((generation, offset) IN (SELECT generation, offset FROM sink_redacted_rows), NULL, meta) AS meta,
       tool, model, call_id, parent, offset, length, generation, seq, part, inherited, session_id, host_id
FROM sink_events
WHERE generation NOT IN (SELECT generation FROM sink_tombstones);

CREATE OR REPLACE VIEW events AS SELECT * EXCEPT session_id FROM sink_shown_events;

CREATE OR REPLACE VIEW ingest_rejects AS
SELECT bitShiftLeft(generation, 40) + toUInt128(offset) AS id, session_id, seq, length, reason, detail, generation, offset,
       host_id
FROM sink_rejects FINAL
WHERE generation NOT IN (SELECT generation FROM sink_tombstones);

CREATE OR REPLACE VIEW summaries AS
SELECT generation, offset, cwd, branch, commit, title, models, started, last_event, ended, events, turns, tool_calls,
       errors, state, host_id
FROM sink_summaries FINAL
WHERE generation NOT IN (SELECT generation FROM sink_tombstones);

CREATE OR REPLACE VIEW usage AS
SELECT generation, key, bitShiftLeft(generation, 40) + toUInt128(event_seq * 256 + event_part) AS event, ts, model, input,
       cache_read, cache_write, output, reasoning, repeated, inherited, host_id
FROM sink_usage FINAL
WHERE generation NOT IN (SELECT generation FROM sink_tombstones);

-- The generations that stand, with what their stream says.
CREATE OR REPLACE VIEW sink_lives AS
SELECT s.session_id AS session_id, s.format AS agent, s.parent_session_id AS parent_session_id,
       s.forked_from AS forked_from, g.id AS generation, g.local AS local, g.host_id AS host_id
FROM sink_generations AS g FINAL
JOIN (SELECT * FROM sink_streams FINAL) AS s ON s.host_id = g.host_id AND s.local = g.stream
WHERE g.superseded_by_local IS NULL;

CREATE OR REPLACE VIEW session_events AS
SELECT session_id, seq, ts, role, message, ifNull(meta, '{}') AS meta, part, kind, tool, model, call_id, parent,
       ifNull(inherited, 0) AS inherited, generation, offset, length, host_id
FROM sink_shown_events
WHERE generation IN (SELECT id FROM sink_generations FINAL WHERE superseded_by_local IS NULL);

CREATE OR REPLACE VIEW session_ingest_watermark AS
SELECT s.session_id AS session_id, g.seq AS seq, g.id AS generation, g.offset AS offset, g.committed_at AS committed_at,
       s.host_id AS host_id
FROM (SELECT * FROM sink_generations FINAL ORDER BY local DESC LIMIT 1 BY host_id, stream) AS g
JOIN (SELECT * FROM sink_streams FINAL) AS s ON s.host_id = g.host_id AND s.local = g.stream;

-- A call counts once on its host, in the session that had it first; wherever else it stands it is inherited.
CREATE OR REPLACE VIEW session_usage AS
SELECT session_id, agent, generation, event, ts, model, input, cache_read, cache_write, output, reasoning, repeated,
       if(inherited_itself != 0 OR ifNull(first < local, 0), 1, 0) AS inherited, host_id
FROM (
    SELECT l.session_id AS session_id, l.agent AS agent, u.generation AS generation, u.event AS event, u.ts AS ts,
           u.model AS model, u.input AS input, u.cache_read AS cache_read, u.cache_write AS cache_write,
           u.output AS output, u.reasoning AS reasoning, u.repeated AS repeated, u.inherited AS inherited_itself,
           l.local AS local, l.host_id AS host_id,
           minIfOrNull(l.local, u.inherited = 0) OVER (PARTITION BY l.host_id, u.key) AS first
    FROM usage AS u
    JOIN sink_lives AS l ON l.generation = u.generation
);

-- One row per generation that stands.
CREATE OR REPLACE VIEW session_lives AS
SELECT l.session_id AS session_id, l.agent AS agent, l.parent_session_id AS parent_session_id,
       l.forked_from AS forked_from, m.generation AS generation, m.offset AS offset, m.cwd AS cwd, m.branch AS branch,
       m.commit AS commit, m.title AS title, m.models AS models, m.started AS started, m.last_event AS last_event,
       m.ended AS ended, m.events AS events, m.turns AS turns, m.tool_calls AS tool_calls, m.errors AS errors,
       m.state AS state, m.host_id AS host_id
FROM summaries AS m
JOIN sink_lives AS l ON l.generation = m.generation;

-- Where a session has several lives, its folder is the first one's, all else that is one word the last one's.
CREATE OR REPLACE VIEW sessions AS
SELECT l.session_id AS session_id, min(l.agent) AS agent,
       argMinIf(l.cwd, l.generation, l.cwd IS NOT NULL) AS cwd,
       argMaxIf(l.branch, l.generation, l.branch IS NOT NULL) AS branch,
       argMaxIf(l.commit, l.generation, l.commit IS NOT NULL) AS commit,
       argMaxIf(l.title, l.generation, l.title IS NOT NULL) AS title,
       argMax(l.models, (l.models != '[]', l.generation)) AS models,
       min(l.started) AS started, max(l.last_event) AS last_event, max(l.ended) AS ended, sum(l.events) AS events,
       sum(l.turns) AS turns, sum(l.tool_calls) AS tool_calls, sum(l.errors) AS errors, sum(u.tokens) AS tokens,
       sum(u.inherited_tokens) AS inherited_tokens, sum(u.repeated) AS repeated_tokens,
       argMaxIf(l.state, l.generation, l.state IS NOT NULL) AS state,
       max(l.parent_session_id) AS parent_session_id, max(l.forked_from) AS forked_from, l.host_id AS host_id
FROM session_lives AS l
LEFT JOIN (
    SELECT generation, sumIf(input + cache_read + cache_write + output, inherited = 0) AS tokens,
           sumIf(input + cache_read + cache_write + output, inherited != 0) AS inherited_tokens,
           sum(repeated) AS repeated
    FROM session_usage GROUP BY generation
) AS u ON u.generation = l.generation
GROUP BY l.host_id, l.session_id;
