CREATE TABLE secrets (
    generation INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    length INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    rule TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (generation, "offset")
) WITHOUT ROWID;

CREATE TABLE secret_watermarks (
    generation INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    "offset" INTEGER NOT NULL
);

CREATE TABLE redactions (
    generation INTEGER PRIMARY KEY REFERENCES generations (id),
    secrets INTEGER NOT NULL,
    length INTEGER NOT NULL,
    proof BLOB NOT NULL,
    redacted_at REAL NOT NULL
);
