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
