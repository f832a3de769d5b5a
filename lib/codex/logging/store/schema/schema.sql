-- The end state of the numbered steps beside this file; a test holds them equal.

-- One row per logical log. `path` is the live file's path under `root`.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    root TEXT NOT NULL,
    path TEXT NOT NULL,
    session_id TEXT NOT NULL,
    parent_session_id TEXT,
    format TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'live',
    error TEXT,
    error_at REAL,
    forked_from TEXT,
    UNIQUE (root, path)
);
CREATE INDEX streams_by_session ON streams (session_id);

-- One row per physical life of a stream's file. Offsets and lengths are bytes, times epoch seconds,
-- `modified` nanoseconds; up to `merged_offset` no small segments are left. The watermark is ("offset", seq); from there to `skip_from` see events.py, Cursor.
CREATE TABLE generations (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    head_length INTEGER NOT NULL,
    head BLOB NOT NULL,
    marker BLOB NOT NULL,
    "offset" INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    line_seq INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    skip_from INTEGER NOT NULL,
    skip_reason TEXT NOT NULL,
    base_seq INTEGER NOT NULL,
    chain BLOB NOT NULL,
    block BLOB NOT NULL,
    modified INTEGER NOT NULL,
    began REAL NOT NULL,
    committed_at REAL NOT NULL,
    merged_offset INTEGER NOT NULL DEFAULT 0,
    ended REAL,
    how TEXT,
    superseded_by INTEGER REFERENCES generations (id)
);
CREATE INDEX generations_by_stream ON generations (stream);
CREATE INDEX generations_by_inode ON generations (inode, device);

-- id = generation << 40 | seq << 8 | part: the key is the row id, and no second index is written.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    ts REAL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    meta TEXT,
    tool TEXT,
    model TEXT,
    call_id TEXT,
    parent TEXT,
    "offset" INTEGER NOT NULL,
    length INTEGER NOT NULL,
    generation INTEGER GENERATED ALWAYS AS (id >> 40) VIRTUAL,
    seq INTEGER GENERATED ALWAYS AS ((id >> 8) & 0xffffffff) VIRTUAL,
    part INTEGER GENERATED ALWAYS AS (id & 0xff) VIRTUAL,
    inherited INTEGER
);

-- id = generation << 40 | offset.
CREATE TABLE ingest_rejects (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    length INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    generation INTEGER GENERATED ALWAYS AS (id >> 40) VIRTUAL,
    "offset" INTEGER GENERATED ALWAYS AS (id & 0xffffffffff) VIRTUAL
);

-- The exact bytes of everything ingested. id = generation << 40 | start offset; `bytes` is one zstd frame;
-- `chain` is the generation's chain at end_offset (see segments.py); first_seq is the number that the first line
-- to begin in it has.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    end_offset INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    chain BLOB NOT NULL,
    bytes BLOB NOT NULL,
    generation INTEGER GENERATED ALWAYS AS (id >> 40) VIRTUAL,
    start_offset INTEGER GENERATED ALWAYS AS (id & 0xffffffffff) VIRTUAL
);

-- What was purged on purpose: the generation's row stays, its events, rejects and segments are gone.
CREATE TABLE tombstones (
    generation INTEGER PRIMARY KEY REFERENCES generations (id),
    session_id TEXT NOT NULL,
    length INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    chain BLOB NOT NULL,
    purged_at REAL NOT NULL
);

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

CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE VIEW session_events AS
SELECT s.session_id, e.seq, e.ts, e.role, e.message, coalesce(e.meta, '{}') AS meta, e.part, e.kind, e.tool, e.model,
       e.call_id, e.parent, coalesce(e.inherited, 0) AS inherited, g.id AS generation, e."offset", e.length
FROM streams AS s
JOIN generations AS g ON g.stream = s.id AND g.superseded_by IS NULL
JOIN events AS e ON e.id BETWEEN g.id << 40 AND (g.id << 40) + 0xffffffffff;

CREATE VIEW session_ingest_watermark AS
SELECT s.session_id, g.seq, g.id AS generation, g."offset", g.committed_at
FROM streams AS s
JOIN generations AS g ON g.id = (SELECT max(id) FROM generations WHERE stream = s.id);

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

-- What each hook did, and is to do, for which event (`event` is events.id). Times are epoch seconds. `state`: due until
-- the hook has succeeded (done), was given up (failed), or its event was purged (gone); `due_at`: its next try.
CREATE TABLE hook_runs (
    hook TEXT NOT NULL,
    event INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'due',
    tries INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    due_at REAL NOT NULL,
    began_at REAL,
    ended_at REAL,
    generation INTEGER GENERATED ALWAYS AS (event >> 40) VIRTUAL,
    seq INTEGER GENERATED ALWAYS AS ((event >> 8) & 0xffffffff) VIRTUAL,
    part INTEGER GENERATED ALWAYS AS (event & 0xff) VIRTUAL,
    PRIMARY KEY (hook, event)
) WITHOUT ROWID;
CREATE INDEX hook_runs_due ON hook_runs (hook, due_at) WHERE state = 'due';

-- How far into each generation a hook's events were looked for: the last event, and the offset that was committed then.
-- Generation 0 is there since the hook was first configured.
CREATE TABLE hook_watermarks (
    hook TEXT NOT NULL,
    generation INTEGER NOT NULL,
    event INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    PRIMARY KEY (hook, generation)
) WITHOUT ROWID;

-- Full-text search, filled behind a watermark of its own: see ../search_index.py. A generation's events are indexed up to
-- `event`, which is events.id; "offset" is how much of its bytes that is.
CREATE TABLE search_watermarks (
    generation INTEGER PRIMARY KEY REFERENCES generations (id),
    event INTEGER NOT NULL,
    "offset" INTEGER NOT NULL
);

-- What the index holds: of a long message its begin. (The function ends a text at a NUL.)
CREATE VIEW searchable AS
SELECT e.id, CASE WHEN e.length <= 262144 THEN e.message ELSE substr(e.message, 1, 262144) END AS message
FROM events AS e
JOIN search_watermarks AS w ON w.generation = e.generation AND e.id <= w.event;

CREATE VIRTUAL TABLE search_index USING fts5 (
    message, content = 'searchable', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);

-- Segments are merged when it is asked for, sixteen at a time, and never within the transaction that fills.
INSERT INTO search_index (search_index, rank)
VALUES ('automerge', 0), ('usermerge', 16), ('crisismerge', 1500), ('hashsize', 8388608);

-- What looks like a secret, and where: bytes ["offset", "offset" + length) of a generation; `hash` is of the secret, with
-- a key that is in no table. See ../../findings.py.
CREATE TABLE secrets (
    generation INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    length INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    rule TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (generation, "offset")
) WITHOUT ROWID;

-- How far each generation was scanned: its bytes, and its events, which is events.id.
CREATE TABLE secret_watermarks (
    generation INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    "offset" INTEGER NOT NULL
);

-- The generations that something was taken out of later, how long they were, and the keyed hash of the chain that they
-- had, then those of the times before. Their own chain is of what is there now. See ../redactions.py.
CREATE TABLE redactions (
    generation INTEGER PRIMARY KEY REFERENCES generations (id),
    secrets INTEGER NOT NULL,
    length INTEGER NOT NULL,
    proof BLOB NOT NULL,
    redacted_at REAL NOT NULL
);

-- Bytes ["offset", "offset" + length) of a generation that were recorded without what they said: its segments have filler
-- there, its rows a placeholder of `rule` and `hash`. `proof` is a hash of what they said, with a key that is in no
-- table. See ../spans.py.
CREATE TABLE redacted_spans (
    generation INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    length INTEGER NOT NULL,
    rule TEXT NOT NULL,
    hash TEXT NOT NULL,
    proof BLOB NOT NULL,
    redacted_at REAL NOT NULL,
    PRIMARY KEY (generation, "offset")
) WITHOUT ROWID;

-- How far each sink has each generation, as it last told: the last event's and reject's id, and the chain at an offset
-- up to which all was sent. The sink's own copy counts: this one is for those who ask without it.
CREATE TABLE forward_watermarks (
    sink TEXT NOT NULL,
    generation INTEGER NOT NULL,
    event INTEGER NOT NULL,
    reject INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (sink, generation)
) WITHOUT ROWID;

-- When a sink last took something, and what keeps it from taking more. Times are epoch seconds.
CREATE TABLE forward_sinks (
    sink TEXT PRIMARY KEY,
    sent_at REAL,
    error TEXT,
    error_at REAL
) WITHOUT ROWID;
