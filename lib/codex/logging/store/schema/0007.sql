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
