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
