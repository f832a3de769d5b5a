-- The shared record of many hosts. The tables, sink_*, are the forwarders'; what readers query are views, under the names
-- that the local database has. Times are epoch seconds, offsets and lengths bytes, as there; `chain` is in hexadecimal.
-- Where the server is one of several replicas each engine here is the replicated one of its kind: see schema.py.

-- One row per local database: `machine` is a hash of the machine's id.
CREATE TABLE IF NOT EXISTS sink_hosts (
    host_id UUID,
    machine String,
    name String,
    username String,
    database String,
    version String,
    first_seen Float64,
    last_seen Float64
) ENGINE = ReplacingMergeTree(last_seen) ORDER BY host_id;

-- Of the rows that change the last `batch` counts: it is the number of the batch that told of them, which only grows on a
-- host. `local` is the number that a stream, or a generation, has on its host.
CREATE TABLE IF NOT EXISTS sink_streams (
    host_id UUID,
    local Int64,
    root String,
    path String,
    session_id String,
    parent_session_id Nullable(String),
    format LowCardinality(String),
    state LowCardinality(String),
    error Nullable(String),
    error_at Nullable(Float64),
    forked_from Nullable(String),
    batch UInt64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (host_id, local);

-- `id` is the generation's number here: when it began, in microseconds, and a hash of host and local number, so that
-- nobody hands numbers out, and later ones are greater. The watermark is told last of all that a batch has: the local
-- events.id and ingest_rejects.id of the last rows that are here; the local record's chain at an offset behind which no
-- row of these lies; `ledger` tells which state of the ledger is here.
CREATE TABLE IF NOT EXISTS sink_generations (
    host_id UUID,
    local Int64,
    id UInt128,
    stream Int64,
    began Float64,
    offset Int64,
    seq Int64,
    lines Int64,
    chain String,
    committed_at Float64,
    ended Nullable(Float64),
    how LowCardinality(Nullable(String)),
    superseded_by_local Nullable(Int64),
    sent_event Int64,
    sent_reject Int64,
    sent_offset Int64,
    sent_chain String,
    ledger String,
    batch UInt64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (host_id, local);

-- `generation` is sink_generations.id; `id` is what readers page by, as in the local database. `at` is ts, or when the
-- generation began where an event has none: a row that comes again meets itself in the same partition. One partition, that
-- of 1970, is for wild clocks. `sent_at` is when the host read the row to send it.
CREATE TABLE IF NOT EXISTS sink_events (
    host_id UUID,
    session_id String,
    generation UInt128,
    offset Int64 CODEC(Delta, ZSTD),
    part UInt8,
    at Float64 CODEC(ZSTD),
    seq Int64 CODEC(Delta, ZSTD),
    length Int64 CODEC(ZSTD),
    ts Nullable(Float64) CODEC(ZSTD),
    role LowCardinality(String),
    kind LowCardinality(String),
    message String CODEC(ZSTD),
    meta Nullable(String) CODEC(ZSTD),
    tool LowCardinality(Nullable(String)),
    model LowCardinality(Nullable(String)),
    call_id Nullable(String) CODEC(ZSTD),
    parent Nullable(String) CODEC(ZSTD),
    inherited Nullable(Int8),
    sent_at Float64 CODEC(ZSTD),
    id UInt128 ALIAS bitShiftLeft(generation, 40) + toUInt128(seq * 256 + part)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(toDateTime(if(at >= 1577836800 AND at < 2208988800, at, 0), 'UTC'))
ORDER BY (host_id, session_id, generation, offset, part)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS sink_rejects (
    host_id UUID,
    session_id String,
    generation UInt128,
    offset Int64,
    seq Int64,
    length Int64,
    reason String,
    detail String
) ENGINE = ReplacingMergeTree ORDER BY (host_id, session_id, generation, offset);

CREATE TABLE IF NOT EXISTS sink_summaries (
    host_id UUID,
    generation UInt128,
    offset Int64,
    cwd Nullable(String),
    branch Nullable(String),
    commit Nullable(String),
    title Nullable(String),
    models String,
    started Nullable(Float64),
    last_event Nullable(Float64),
    ended Nullable(Float64),
    events Int64,
    turns Int64,
    tool_calls Int64,
    errors Int64,
    state Nullable(String),
    batch UInt64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (host_id, generation);

-- `event_seq` and `event_part` name the event, which is of the same generation.
CREATE TABLE IF NOT EXISTS sink_usage (
    host_id UUID,
    generation UInt128,
    key Int64,
    event_seq Int64,
    event_part UInt8,
    ts Nullable(Float64),
    model LowCardinality(Nullable(String)),
    input Int64,
    cache_read Int64,
    cache_write Int64,
    output Int64,
    reasoning Int64,
    repeated Int64,
    inherited Int8,
    batch UInt64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (host_id, generation, key);

-- What was purged on its host. Its rows are here until somebody deletes them; the views don't show them.
CREATE TABLE IF NOT EXISTS sink_tombstones (
    host_id UUID,
    generation UInt128,
    session_id String,
    length Int64,
    lines Int64,
    chain String,
    purged_at Float64
) ENGINE = ReplacingMergeTree ORDER BY (host_id, generation);

-- Bytes that say no more what they said: of rows that lie in them and were sent before that, the views show no text.
CREATE TABLE IF NOT EXISTS sink_redacted_spans (
    host_id UUID,
    session_id String,
    generation UInt128,
    offset Int64,
    length Int64,
    rule String,
    redacted_at Float64,
    batch UInt64
) ENGINE = ReplacingMergeTree(batch) ORDER BY (host_id, session_id, generation, offset);
