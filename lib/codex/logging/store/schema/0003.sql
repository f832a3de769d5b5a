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
