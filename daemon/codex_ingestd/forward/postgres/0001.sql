-- The shared record of many hosts. The tables stand in `codex_sink`, and are the forwarders'; what readers query stands
-- in `codex`, under the names that the local database has. Times are epoch seconds, offsets and lengths bytes, as there.
CREATE SCHEMA codex;

-- One row per local database: `machine` is a hash of the machine's id.
CREATE TABLE codex_sink.hosts (
    host_id uuid PRIMARY KEY,
    machine text,
    name text,
    username text,
    database text,
    version text,
    first_seen double precision NOT NULL,
    last_seen double precision NOT NULL
);

-- `local` is the number that a stream, or a generation, has on its host; `id` is the one that it has here. The sequences
-- are nobody's default: each node would count for itself.
CREATE SEQUENCE codex_sink.streams_id_seq;
CREATE SEQUENCE codex_sink.generations_id_seq MAXVALUE 8388607;
CREATE TABLE codex_sink.streams (
    id bigint PRIMARY KEY,
    host_id uuid NOT NULL,
    local bigint NOT NULL,
    root text NOT NULL,
    path text NOT NULL,
    session_id text NOT NULL,
    parent_session_id text,
    format text NOT NULL,
    state text NOT NULL,
    error text,
    error_at double precision,
    forked_from text,
    UNIQUE (host_id, local)
);
CREATE INDEX streams_by_session ON codex_sink.streams (session_id);

-- The watermark of a generation: the local events.id and ingest_rejects.id of the last rows that are here; the local
-- record's chain at an offset behind which no row of these lies; `ledger` tells which state of the ledger is here.
CREATE TABLE codex_sink.generations (
    id bigint PRIMARY KEY,
    host_id uuid NOT NULL,
    local bigint NOT NULL,
    stream bigint NOT NULL,
    began double precision NOT NULL,
    "offset" bigint NOT NULL,
    seq bigint NOT NULL,
    lines bigint NOT NULL,
    chain bytea NOT NULL,
    committed_at double precision NOT NULL,
    ended double precision,
    how text,
    superseded_by_local bigint,
    sent_event bigint NOT NULL DEFAULT 0,
    sent_reject bigint NOT NULL DEFAULT 0,
    sent_offset bigint NOT NULL DEFAULT 0,
    sent_chain bytea,
    ledger text NOT NULL DEFAULT '',
    UNIQUE (host_id, local)
);
CREATE INDEX generations_by_stream ON codex_sink.generations (stream);

-- `generation` is generations.id; `id` is what readers page by, as in the local database. `at` is ts, or when the
-- generation began where an event has none: a row that comes again meets itself in the same partition.
CREATE TABLE codex_sink.events (
    session_id text NOT NULL,
    host_id uuid NOT NULL,
    generation bigint NOT NULL,
    "offset" bigint NOT NULL,
    part smallint NOT NULL,
    at double precision NOT NULL,
    seq bigint NOT NULL,
    length bigint NOT NULL,
    ts double precision,
    role text NOT NULL,
    kind text NOT NULL,
    message text NOT NULL,
    meta text,
    tool text,
    model text,
    call_id text,
    parent text,
    inherited smallint,
    id bigint NOT NULL GENERATED ALWAYS AS ((generation << 40) | (seq << 8) | part) STORED,
    PRIMARY KEY (id, session_id, at)
) PARTITION BY RANGE (at);

-- What has a time that no partition is made for: wild clocks.
CREATE TABLE codex_sink.events_elsewhen PARTITION OF codex_sink.events DEFAULT;

CREATE TABLE codex_sink.ingest_rejects (
    session_id text NOT NULL,
    host_id uuid NOT NULL,
    generation bigint NOT NULL,
    "offset" bigint NOT NULL,
    seq bigint NOT NULL,
    length bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (session_id, host_id, generation, "offset")
);

CREATE TABLE codex_sink.summaries (
    generation bigint PRIMARY KEY,
    "offset" bigint NOT NULL,
    cwd text,
    branch text,
    commit text,
    title text,
    models text NOT NULL,
    started double precision,
    last_event double precision,
    ended double precision,
    events bigint NOT NULL,
    turns bigint NOT NULL,
    tool_calls bigint NOT NULL,
    errors bigint NOT NULL,
    state text
);

-- `event_seq` and `event_part` name the event, which is of the same generation.
CREATE TABLE codex_sink.usage (
    generation bigint NOT NULL,
    key bigint NOT NULL,
    event_seq bigint NOT NULL,
    event_part smallint NOT NULL,
    ts double precision,
    model text,
    input bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    output bigint NOT NULL,
    reasoning bigint NOT NULL,
    repeated bigint NOT NULL,
    inherited smallint NOT NULL,
    PRIMARY KEY (generation, key)
);
CREATE INDEX usage_by_key ON codex_sink.usage (key, generation, inherited);

-- What was purged on its host. Its rows are here until codex_sink.erase() is run; the views don't show them.
CREATE TABLE codex_sink.tombstones (
    generation bigint PRIMARY KEY,
    session_id text NOT NULL,
    length bigint NOT NULL,
    lines bigint NOT NULL,
    chain bytea NOT NULL,
    purged_at double precision NOT NULL
);

-- Bytes that say no more what they said: rows that lie in them were sent before that.
CREATE TABLE codex_sink.redacted_spans (
    generation bigint NOT NULL,
    "offset" bigint NOT NULL,
    length bigint NOT NULL,
    rule text NOT NULL,
    redacted_at double precision NOT NULL,
    PRIMARY KEY (generation, "offset")
);

-- Spread over the nodes where there are some: the events by session, the ledger on each, so that every join is local.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_reference_table(format('codex_sink.%I', name)::regclass)
        FROM unnest(ARRAY['hosts', 'streams', 'generations', 'summaries', 'usage', 'tombstones', 'redacted_spans'])
             AS name;
        PERFORM create_distributed_table('codex_sink.events', 'session_id');
        PERFORM create_distributed_table('codex_sink.ingest_rejects', 'session_id', colocate_with => 'codex_sink.events');
    END IF;
END $$;

-- A partition for the month that holds this time, unless it is no likely one, or rows of it lie elsewhen already.
CREATE FUNCTION codex_sink.make_partition(at double precision) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp;
    name text;
    first double precision;
    behind double precision;
BEGIN
    IF at IS NULL OR NOT (at >= 1577836800 AND at < extract(epoch FROM now()) + 86400 * 31) THEN
        RETURN;
    END IF;
    month := date_trunc('month', to_timestamp(at) AT TIME ZONE 'UTC');
    name := 'events_' || to_char(month, 'YYYY_MM');
    IF to_regclass('codex_sink.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(1129530417);
    -- by a query: what to_regclass found missing before the lock, it may go on finding so
    PERFORM 1 FROM pg_class AS c WHERE c.relname = name AND c.relnamespace = 'codex_sink'::regnamespace;
    IF FOUND THEN
        RETURN;
    END IF;
    first := extract(epoch FROM month);
    behind := extract(epoch FROM month + interval '1 month');
    PERFORM 1 FROM codex_sink.events_elsewhen AS e WHERE e.at >= first AND e.at < behind LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE codex_sink.%I PARTITION OF codex_sink.events FOR VALUES FROM (%s) TO (%s)',
                   name, first, behind);
END $$;

-- A host tells of itself.
CREATE FUNCTION codex_sink.arrive(host uuid, machine text, name text, username text, database text, version text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment double precision := extract(epoch FROM now());
BEGIN
    INSERT INTO codex_sink.hosts (host_id, machine, name, username, database, version, first_seen, last_seen)
    VALUES (arrive.host, arrive.machine, arrive.name, arrive.username, arrive.database, arrive.version, moment, moment)
    ON CONFLICT (host_id) DO UPDATE SET
        machine = excluded.machine, name = excluded.name, username = excluded.username, database = excluded.database,
        version = excluded.version, last_seen = excluded.last_seen;
END $$;

-- What is here of a host: the watermark of each of its generations.
CREATE FUNCTION codex_sink.watermarks(host uuid)
RETURNS TABLE (local bigint, id bigint, began double precision, event bigint, reject bigint, "offset" bigint,
               chain bytea, ledger text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT g.local, g.id, g.began, g.sent_event, g.sent_reject, g.sent_offset, g.sent_chain, g.ledger
    FROM codex_sink.generations AS g WHERE g.host_id = host;
END $$;

-- Take a batch's ledger, and move its watermarks, in the transaction that copies its rows. Raises CX001, and nothing is
-- done, where a watermark isn't the one that the batch begins at. Each statement names one table, and values beside it:
-- so it serves where the tables lie on several nodes too, and numbers are taken on this one.
CREATE FUNCTION codex_sink.advance(host uuid, batch jsonb) RETURNS TABLE (local bigint, id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    x record;
    number bigint;
    locals bigint[] := '{}';
    numbers bigint[] := '{}';
BEGIN
    FOR x IN
        SELECT * FROM jsonb_to_recordset(batch -> 'streams') AS r (
            local bigint, root text, path text, session_id text, parent_session_id text, format text, state text,
            error text, error_at double precision, forked_from text)
    LOOP
        PERFORM 1 FROM codex_sink.streams AS s
        WHERE s.host_id = host AND s.local = x.local
          AND (s.root, s.path, s.session_id, s.parent_session_id, s.format, s.state, s.error, s.error_at, s.forked_from)
              IS NOT DISTINCT FROM (x.root, x.path, x.session_id, x.parent_session_id, x.format, x.state, x.error,
                                    x.error_at, x.forked_from);
        CONTINUE WHEN FOUND;
        number := nextval('codex_sink.streams_id_seq');
        INSERT INTO codex_sink.streams (id, host_id, local, root, path, session_id, parent_session_id, format, state,
                                        error, error_at, forked_from)
        VALUES (number, host, x.local, x.root, x.path, x.session_id, x.parent_session_id, x.format, x.state, x.error,
                x.error_at, x.forked_from)
        ON CONFLICT (host_id, local) DO UPDATE SET
            root = excluded.root, path = excluded.path, session_id = excluded.session_id,
            parent_session_id = excluded.parent_session_id, format = excluded.format, state = excluded.state,
            error = excluded.error, error_at = excluded.error_at, forked_from = excluded.forked_from;
    END LOOP;

    FOR x IN
        SELECT * FROM jsonb_to_recordset(batch -> 'generations') AS r (
            local bigint, stream bigint, began double precision, "offset" bigint, seq bigint, lines bigint, chain text,
            committed_at double precision, ended double precision, how text, superseded_by bigint, from_event bigint,
            from_reject bigint, event bigint, reject bigint, sent_offset bigint, sent_chain text, ledger text)
        ORDER BY r.local
    LOOP
        PERFORM 1 FROM codex_sink.generations AS g WHERE g.host_id = host AND g.local = x.local;
        IF NOT FOUND THEN
            SELECT s.id INTO STRICT x.stream FROM codex_sink.streams AS s WHERE s.host_id = host AND s.local = x.stream;
            number := nextval('codex_sink.generations_id_seq');
            INSERT INTO codex_sink.generations (id, host_id, local, stream, began, "offset", seq, lines, chain,
                                                committed_at)
            VALUES (number, host, x.local, x.stream, x.began, 0, 0, 0, '', 0)
            ON CONFLICT (host_id, local) DO NOTHING;
        END IF;
        UPDATE codex_sink.generations AS g SET
            "offset" = x."offset", seq = x.seq, lines = x.lines, chain = decode(x.chain, 'hex'),
            committed_at = x.committed_at, ended = x.ended, how = x.how, superseded_by_local = x.superseded_by,
            sent_event = x.event, sent_reject = x.reject, sent_offset = x.sent_offset,
            sent_chain = decode(x.sent_chain, 'hex'), ledger = x.ledger
        WHERE g.host_id = host AND g.local = x.local AND g.began = x.began
          AND g.sent_event = x.from_event AND g.sent_reject = x.from_reject
        RETURNING g.id INTO number;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a watermark was moved by somebody else' USING ERRCODE = 'CX001';
        END IF;
        locals := locals || x.local;
        numbers := numbers || number;
    END LOOP;

    INSERT INTO codex_sink.summaries
    SELECT n.id, x."offset", x.cwd, x.branch, x.commit, x.title, x.models, x.started, x.last_event, x.ended, x.events,
           x.turns, x.tool_calls, x.errors, x.state
    FROM jsonb_to_recordset(batch -> 'summaries') AS x (
        generation bigint, "offset" bigint, cwd text, branch text, commit text, title text, models text,
        started double precision, last_event double precision, ended double precision, events bigint, turns bigint,
        tool_calls bigint, errors bigint, state text)
    JOIN unnest(locals, numbers) AS n (local, id) ON n.local = x.generation
    ON CONFLICT (generation) DO UPDATE SET
        "offset" = excluded."offset", cwd = excluded.cwd, branch = excluded.branch, commit = excluded.commit,
        title = excluded.title, models = excluded.models, started = excluded.started, last_event = excluded.last_event,
        ended = excluded.ended, events = excluded.events, turns = excluded.turns, tool_calls = excluded.tool_calls,
        errors = excluded.errors, state = excluded.state;

    INSERT INTO codex_sink.usage
    SELECT n.id, x.key, x.event_seq, x.event_part, x.ts, x.model, x.input, x.cache_read, x.cache_write, x.output,
           x.reasoning, x.repeated, x.inherited
    FROM jsonb_to_recordset(batch -> 'usage') AS x (
        generation bigint, key bigint, event_seq bigint, event_part smallint, ts double precision, model text,
        input bigint, cache_read bigint, cache_write bigint, output bigint, reasoning bigint, repeated bigint,
        inherited smallint)
    JOIN unnest(locals, numbers) AS n (local, id) ON n.local = x.generation
    ON CONFLICT (generation, key) DO UPDATE SET
        event_seq = excluded.event_seq, event_part = excluded.event_part, ts = excluded.ts, model = excluded.model,
        input = excluded.input, cache_read = excluded.cache_read, cache_write = excluded.cache_write,
        output = excluded.output, reasoning = excluded.reasoning, repeated = excluded.repeated,
        inherited = excluded.inherited;

    INSERT INTO codex_sink.tombstones
    SELECT n.id, x.session_id, x.length, x.lines, decode(x.chain, 'hex'), x.purged_at
    FROM jsonb_to_recordset(batch -> 'tombstones') AS x (
        generation bigint, session_id text, length bigint, lines bigint, chain text, purged_at double precision)
    JOIN unnest(locals, numbers) AS n (local, id) ON n.local = x.generation
    ON CONFLICT (generation) DO NOTHING;

    INSERT INTO codex_sink.redacted_spans
    SELECT n.id, x."offset", x.length, x.rule, x.redacted_at
    FROM jsonb_to_recordset(batch -> 'redacted_spans') AS x (
        generation bigint, "offset" bigint, length bigint, rule text, redacted_at double precision)
    JOIN unnest(locals, numbers) AS n (local, id) ON n.local = x.generation
    ON CONFLICT (generation, "offset") DO UPDATE SET
        length = excluded.length, rule = excluded.rule, redacted_at = excluded.redacted_at;

    RETURN QUERY SELECT n.local, n.id FROM unnest(locals, numbers) AS n (local, id);
END $$;

-- Who may write only adds, and moves watermarks by the functions above; who may read sees the views alone.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'codex_writer') THEN
        CREATE ROLE codex_writer NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'codex_reader') THEN
        CREATE ROLE codex_reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- somebody made them in another database meanwhile
END $$;
REVOKE ALL ON FUNCTION codex_sink.make_partition, codex_sink.arrive, codex_sink.watermarks, codex_sink.advance
    FROM PUBLIC;
GRANT USAGE ON SCHEMA codex_sink TO codex_writer;
GRANT SELECT ON codex_sink.steps TO codex_writer;
GRANT INSERT ON codex_sink.events, codex_sink.ingest_rejects TO codex_writer;
GRANT EXECUTE ON FUNCTION codex_sink.make_partition, codex_sink.arrive, codex_sink.watermarks, codex_sink.advance
    TO codex_writer;
GRANT USAGE ON SCHEMA codex TO codex_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA codex GRANT SELECT ON TABLES TO codex_reader;
