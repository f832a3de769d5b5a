-- Formats of other agents: whose history a log begins with, what its calls cost, what its session comes to.
ALTER TABLE streams ADD COLUMN forked_from TEXT;
ALTER TABLE events ADD COLUMN inherited INTEGER;

-- What a generation's events come to, up to "offset"; `models` is a JSON array, `carry` the format's own memory.
CREATE TABLE summaries (
    generation INTEGER PRIMARY KEY REFERENCES generations (id),
    "offset" INTEGER NOT NULL,
    cwd TEXT,
    branch TEXT,
    "commit" TEXT,
    title TEXT,
    models TEXT NOT NULL,
    started REAL,
    last_event REAL,
    ended REAL,
    events INTEGER NOT NULL,
    turns INTEGER NOT NULL,
    tool_calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    state TEXT,
    carry TEXT NOT NULL
);

-- Tokens of one model call, as its best line tells them; `repeated` are those of its other lines.
CREATE TABLE usage (
    generation INTEGER NOT NULL REFERENCES generations (id),
    "key" INTEGER NOT NULL,
    event INTEGER NOT NULL,
    ts REAL,
    model TEXT,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    repeated INTEGER NOT NULL,
    inherited INTEGER NOT NULL,
    PRIMARY KEY (generation, "key")
) WITHOUT ROWID;
CREATE INDEX usage_by_key ON usage ("key", generation, inherited);

INSERT INTO summaries
SELECT g.id, g."offset", NULL, NULL, NULL, NULL, '[]', min(e.ts), max(e.ts),
       max(e.ts) FILTER (WHERE e.kind = 'session_end'), count(e.id),
       count(*) FILTER (WHERE e.role = 'user' AND e.kind = 'message'), 0, 0,
       CASE WHEN sum(e.kind = 'session_end') THEN 'ended' ELSE 'waiting' END, ''
FROM generations AS g LEFT JOIN events AS e ON e.id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff
GROUP BY g.id;

DROP VIEW session_events;
CREATE VIEW session_events AS
SELECT s.session_id, e.seq, e.ts, e.role, e.message, coalesce(e.meta, '{}') AS meta, e.part, e.kind, e.tool, e.model,
       e.call_id, e.parent, coalesce(e.inherited, 0) AS inherited, g.id AS generation, e."offset", e.length
FROM streams AS s
JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
JOIN events AS e ON e.id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff;

-- A call counts once, in the session that had it first; wherever else it stands it is inherited.
CREATE VIEW session_usage AS
SELECT s.session_id, s.format AS agent, u.generation, u.event, u.ts, u.model, u.input, u.cache_read, u.cache_write,
       u.output, u.reasoning, u.repeated,
       u.inherited OR EXISTS (
           SELECT 1 FROM usage AS former JOIN generations AS f ON f.id = former.generation AND f.superseded_by IS NULL
           WHERE former."key" = u."key" AND former.generation < u.generation AND NOT former.inherited
       ) AS inherited
FROM streams AS s
JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
JOIN usage AS u ON u.generation = g.id;

-- One row per generation that stands.
CREATE VIEW session_lives AS
SELECT s.session_id, s.format AS agent, s.parent_session_id, s.forked_from, m.*
FROM streams AS s
JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
JOIN summaries AS m ON m.generation = g.id;

-- Where a session has several lives, its folder is the first one's, all else that is one word the last one's.
CREATE VIEW sessions AS
SELECT session_id, min(agent) AS agent,
       (SELECT l.cwd FROM session_lives AS l
        WHERE l.session_id = s.session_id AND l.cwd IS NOT NULL ORDER BY l.generation LIMIT 1) AS cwd,
       (SELECT l.branch FROM session_lives AS l
        WHERE l.session_id = s.session_id AND l.branch IS NOT NULL ORDER BY l.generation DESC LIMIT 1) AS branch,
       (SELECT l."commit" FROM session_lives AS l
        WHERE l.session_id = s.session_id AND l."commit" IS NOT NULL ORDER BY l.generation DESC LIMIT 1) AS "commit",
       (SELECT l.title FROM session_lives AS l
        WHERE l.session_id = s.session_id AND l.title IS NOT NULL ORDER BY l.generation DESC LIMIT 1) AS title,
       (SELECT l.models FROM session_lives AS l
        WHERE l.session_id = s.session_id ORDER BY l.models = '[]', l.generation DESC LIMIT 1) AS models,
       min(started) AS started, max(last_event) AS last_event, max(ended) AS ended, sum(events) AS events,
       sum(turns) AS turns, sum(tool_calls) AS tool_calls, sum(errors) AS errors,
       (SELECT coalesce(sum(u.input + u.cache_read + u.cache_write + u.output), 0) FROM session_usage AS u
        WHERE u.session_id = s.session_id AND NOT u.inherited) AS tokens,
       (SELECT coalesce(sum(u.input + u.cache_read + u.cache_write + u.output), 0) FROM session_usage AS u
        WHERE u.session_id = s.session_id AND u.inherited) AS inherited_tokens,
       (SELECT coalesce(sum(u.repeated), 0) FROM session_usage AS u
        WHERE u.session_id = s.session_id) AS repeated_tokens,
       (SELECT l.state FROM session_lives AS l
        WHERE l.session_id = s.session_id AND l.state IS NOT NULL ORDER BY l.generation DESC LIMIT 1) AS state,
       max(parent_session_id) AS parent_session_id, max(forked_from) AS forked_from
FROM session_lives AS s
GROUP BY session_id;
