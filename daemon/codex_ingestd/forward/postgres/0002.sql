-- What readers query: the local database's views, by the same names and with the same columns, each with host_id beside
-- them. A reader that sets `codex.host` to a host_id sees that host alone, as if it were there; where `codex.names` is
-- 'with host' a session is called HOST:SESSION, and sessions of several hosts that have one id are told apart. `home` is
-- the session's id on its host, by which rows are spread where there are several nodes: what joins must be equal in it.
-- What is few, hosts and what was purged, is asked once as an array: of a join with it a planner expects hardly a row, and
-- asks what follows again for each.

CREATE VIEW codex.hosts AS
SELECT host_id,
       CASE WHEN count(*) OVER (PARTITION BY called) = 1 THEN called ELSE called || '~' || left(host_id::text, 8) END AS host,
       machine, name, username, database, version, first_seen, last_seen
FROM (SELECT *, translate(coalesce(nullif(name, ''), left(host_id::text, 8)), ':/', '--') AS called
      FROM codex_sink.hosts) AS h;

-- A planner takes what it can't look into for a third of the hosts; it looks into SQL.
CREATE FUNCTION codex.is_shown(host uuid) RETURNS boolean
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(nullif(current_setting('codex.host', true), '')::uuid, host) = host;
END $$;

CREATE VIEW codex.shown_hosts AS
SELECT host_id, CASE current_setting('codex.names', true) WHEN 'with host' THEN host || ':' ELSE '' END AS prefix
FROM codex.hosts AS h
WHERE codex.is_shown(h.host_id);

CREATE VIEW codex.streams AS
SELECT s.id, s.root, s.path, (h.prefix || s.session_id) COLLATE "C" AS session_id,
       (h.prefix || s.parent_session_id) COLLATE "C" AS parent_session_id, s.format COLLATE "C" AS format, s.state, s.error,
       s.error_at, (h.prefix || s.forked_from) COLLATE "C" AS forked_from, s.host_id
FROM codex_sink.streams AS s JOIN codex.shown_hosts AS h USING (host_id);

CREATE VIEW codex.generations AS
SELECT g.id, g.stream, g."offset", g.seq, g.lines, g.chain, g.began, g.committed_at, g.ended, g.how,
       n.id AS superseded_by, g.local, g.host_id
FROM codex_sink.generations AS g
LEFT JOIN codex_sink.generations AS n ON n.host_id = g.host_id AND n.local = g.superseded_by_local
WHERE g.host_id = ANY(ARRAY(SELECT h.host_id FROM codex_sink.hosts AS h WHERE codex.is_shown(h.host_id)));

-- Of each generation that stands the last event that is here, which is moved with what comes.
CREATE VIEW codex.arrived AS
SELECT g.id AS generation, s.session_id, (g.id << 40) | (g.sent_event & 1099511627775) AS last, s.host_id
FROM codex.streams AS s JOIN codex_sink.generations AS g ON g.stream = s.id AND g.superseded_by_local IS NULL;

CREATE VIEW codex.tombstones AS
SELECT t.*, g.host_id FROM codex_sink.tombstones AS t JOIN codex.generations AS g ON g.id = t.generation;

-- What was purged on its host isn't shown, nor what a text said where it has lost that since.
CREATE VIEW codex.events AS
SELECT e.id, e.ts, e.role COLLATE "C" AS role, e.kind COLLATE "C" AS kind,
       CASE WHEN EXISTS (SELECT 1 FROM codex_sink.redacted_spans) AND EXISTS (
           SELECT 1 FROM codex_sink.redacted_spans AS r
           WHERE r.generation = e.generation AND r."offset" < e."offset" + e.length AND e."offset" < r."offset" + r.length
       ) THEN '' ELSE e.message END AS message,
       CASE WHEN EXISTS (SELECT 1 FROM codex_sink.redacted_spans) AND EXISTS (
           SELECT 1 FROM codex_sink.redacted_spans AS r
           WHERE r.generation = e.generation AND r."offset" < e."offset" + e.length AND e."offset" < r."offset" + r.length
       ) THEN NULL ELSE e.meta END AS meta,
       e.tool COLLATE "C" AS tool, e.model COLLATE "C" AS model, e.call_id, e.parent, e."offset", e.length, e.generation,
       e.seq, e.part, e.inherited, e.host_id, e.session_id AS home
FROM codex_sink.events AS e
WHERE e.host_id = ANY(ARRAY(SELECT h.host_id FROM codex_sink.hosts AS h WHERE codex.is_shown(h.host_id)))
  AND e.generation <> ALL(ARRAY(SELECT t.generation FROM codex_sink.tombstones AS t));

CREATE VIEW codex.ingest_rejects AS
SELECT (r.generation << 40) | r."offset" AS id, h.prefix || r.session_id AS session_id, r.seq, r.length, r.reason,
       r.detail, r.generation, r."offset", r.host_id
FROM codex_sink.ingest_rejects AS r
JOIN codex.shown_hosts AS h USING (host_id)
WHERE r.generation <> ALL(ARRAY(SELECT t.generation FROM codex_sink.tombstones AS t));

CREATE VIEW codex.summaries AS
SELECT m.generation, m."offset", m.cwd COLLATE "C" AS cwd, m.branch COLLATE "C" AS branch,
       m.commit COLLATE "C" AS commit, m.title COLLATE "C" AS title, m.models COLLATE "C" AS models, m.started,
       m.last_event, m.ended, m.events, m.turns, m.tool_calls, m.errors, m.state COLLATE "C" AS state
FROM codex_sink.summaries AS m
WHERE m.generation <> ALL(ARRAY(SELECT t.generation FROM codex_sink.tombstones AS t));

CREATE VIEW codex.usage AS
SELECT u.generation, u.key, (u.generation << 40) | (u.event_seq << 8) | u.event_part AS event, u.ts,
       u.model COLLATE "C" AS model, u.input, u.cache_read, u.cache_write, u.output, u.reasoning, u.repeated, u.inherited
FROM codex_sink.usage AS u
WHERE u.generation <> ALL(ARRAY(SELECT t.generation FROM codex_sink.tombstones AS t));

CREATE VIEW codex.session_events AS
SELECT s.session_id, e.seq, e.ts, e.role, e.message, coalesce(e.meta, '{}') AS meta, e.part, e.kind, e.tool, e.model,
       e.call_id, e.parent, coalesce(e.inherited, 0) AS inherited, g.id AS generation, e."offset", e.length, s.host_id
FROM codex.streams AS s
JOIN codex_sink.generations AS g ON g.stream = s.id AND g.superseded_by_local IS NULL
JOIN codex.events AS e ON e.generation = g.id AND e.id BETWEEN g.id << 40 AND (g.id << 40) + 1099511627775;

CREATE VIEW codex.session_ingest_watermark AS
SELECT s.session_id, g.seq, g.id AS generation, g."offset", g.committed_at, s.host_id
FROM codex.streams AS s
JOIN codex.generations AS g ON g.id = (SELECT max(n.id) FROM codex_sink.generations AS n WHERE n.stream = s.id);

-- A call counts once on its host, in the session that had it first; wherever else it stands it is inherited.
CREATE VIEW codex.calls AS
SELECT g.stream, u.generation, u.event, u.ts, u.model, u.input, u.cache_read, u.cache_write, u.output, u.reasoning,
       u.repeated,
       CASE WHEN u.inherited <> 0 OR EXISTS (
           SELECT 1 FROM codex.usage AS former
           JOIN codex_sink.generations AS f ON f.id = former.generation AND f.superseded_by_local IS NULL
           WHERE former.key = u.key AND f.host_id = g.host_id AND f.local < g.local AND former.inherited = 0
       ) THEN 1 ELSE 0 END AS inherited
FROM codex_sink.generations AS g JOIN codex.usage AS u ON u.generation = g.id
WHERE g.superseded_by_local IS NULL;

CREATE VIEW codex.session_usage AS
SELECT s.session_id, s.format AS agent, c.generation, c.event, c.ts, c.model, c.input, c.cache_read, c.cache_write,
       c.output, c.reasoning, c.repeated, c.inherited, s.host_id
FROM codex.streams AS s JOIN codex.calls AS c ON c.stream = s.id;

CREATE VIEW codex.session_lives AS
SELECT s.session_id, s.format AS agent, s.parent_session_id, s.forked_from, m.*, s.host_id
FROM codex.streams AS s
JOIN codex_sink.generations AS g ON g.stream = s.id AND g.superseded_by_local IS NULL
JOIN codex.summaries AS m ON m.generation = g.id;

CREATE VIEW codex.sessions AS
SELECT l.session_id, min(l.agent) AS agent,
       (array_agg(l.cwd ORDER BY l.generation) FILTER (WHERE l.cwd IS NOT NULL))[1] AS cwd,
       (array_agg(l.branch ORDER BY l.generation DESC) FILTER (WHERE l.branch IS NOT NULL))[1] AS branch,
       (array_agg(l.commit ORDER BY l.generation DESC) FILTER (WHERE l.commit IS NOT NULL))[1] AS commit,
       (array_agg(l.title ORDER BY l.generation DESC) FILTER (WHERE l.title IS NOT NULL))[1] AS title,
       (array_agg(l.models ORDER BY l.models = '[]', l.generation DESC))[1] AS models,
       min(l.started) AS started, max(l.last_event) AS last_event, max(l.ended) AS ended,
       sum(l.events)::bigint AS events, sum(l.turns)::bigint AS turns, sum(l.tool_calls)::bigint AS tool_calls,
       sum(l.errors)::bigint AS errors, coalesce(sum(u.tokens), 0)::bigint AS tokens,
       coalesce(sum(u.inherited), 0)::bigint AS inherited_tokens, coalesce(sum(u.repeated), 0)::bigint AS repeated_tokens,
       (array_agg(l.state ORDER BY l.generation DESC) FILTER (WHERE l.state IS NOT NULL))[1] AS state,
       max(l.parent_session_id) AS parent_session_id, max(l.forked_from) AS forked_from, l.host_id
FROM codex.session_lives AS l
LEFT JOIN LATERAL (
    SELECT sum(c.input + c.cache_read + c.cache_write + c.output) FILTER (WHERE c.inherited = 0) AS tokens,
           sum(c.input + c.cache_read + c.cache_write + c.output) FILTER (WHERE c.inherited <> 0) AS inherited,
           sum(c.repeated) AS repeated
    FROM (SELECT * FROM codex.calls WHERE generation = l.generation OFFSET 0) AS c
) AS u ON TRUE
GROUP BY l.session_id, l.host_id;

-- What SQLite has and queries use. Times are epoch seconds; with 'localtime' those of the reader's time zone.
CREATE FUNCTION codex.instr(text, text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN strpos($1, $2);

CREATE FUNCTION codex.json_each(array_text text) RETURNS TABLE (key bigint, value text)
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT number - 1, value FROM json_array_elements_text(array_text::json) WITH ORDINALITY AS e (value, number)
$$;

CREATE AGGREGATE codex.total(double precision) (
    SFUNC = float8pl, STYPE = double precision, INITCOND = '0', COMBINEFUNC = float8pl, PARALLEL = SAFE
);

CREATE FUNCTION codex.glob(pattern text, value text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN value ~ ('^' || replace(replace(regexp_replace(pattern, '([.+(){}|\\^$])', '\\\1', 'g'), '*', '.*'), '?', '.') || '$');

CREATE FUNCTION codex.moment(at double precision, zone text) RETURNS timestamp
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN CASE WHEN at BETWEEN -62135596800 AND 253402300799 THEN to_timestamp(round(at * 1000) / 1000) AT TIME ZONE zone END;

CREATE FUNCTION codex.strftime(format text, at double precision, "unit" text, zone text DEFAULT 'utc') RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(
    codex.moment(at, CASE zone WHEN 'localtime' THEN current_setting('TimeZone') ELSE 'UTC' END),
    replace(replace(replace(replace(replace(replace(replace(
        format, '%Y', 'YYYY'), '%m', 'MM'), '%d', 'DD'), '%H', 'HH24'), '%M', 'MI'), '%S', 'SS'), '%f', 'SS.MS'));

-- A member of a JSON object, as text; NULL of what is no JSON, or what no text can be.
CREATE FUNCTION codex.member(object text, name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN object::json ->> name;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
    RETURN NULL;
END $$;

CREATE VIEW codex.codex_actions AS
SELECT (generation << 40) | (seq << 8) | part AS id, session_id,
       to_char(codex.moment(ts, 'UTC'), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS ts, codex.member(meta, 'action') AS action,
       codex.member(meta, 'statement') AS statement, codex.member(meta, 'metadata') AS metadata, host_id
FROM codex.session_events WHERE kind = 'action';

CREATE VIEW codex.codex_log AS
SELECT session_id, CASE kind WHEN 'session_start' THEN 'start' ELSE 'end' END AS event,
       coalesce(codex.member(meta, 'summary'), 'error: ' || codex.member(meta, 'error')) AS summary,
       to_char(codex.moment(ts, 'UTC'), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS ts, host_id
FROM codex.session_events WHERE kind IN ('session_start', 'session_end');

-- The relations of this schema, as SQLite lists its own.
CREATE VIEW codex.sqlite_schema AS
SELECT CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END AS type, relname::text AS name, relname::text AS tbl_name
FROM pg_catalog.pg_class WHERE relnamespace = 'codex'::regnamespace AND relkind IN ('r', 'v', 'm', 'p');
