-- What an upgraded database has beside the numbered schema: see ../legacy.py. Each table is a forerunner's own, renamed,
-- with its columns and indexes as they were and those columns that legacy.py adds; one that was lacking is made empty.
CREATE TABLE IF NOT EXISTS legacy_session_events (
    session_id TEXT, seq INTEGER, ts REAL, role TEXT, message TEXT, meta TEXT,
    epoch REAL, number INTEGER, found INTEGER NOT NULL DEFAULT 0, behind INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS legacy_session_ingest_watermark (session_id TEXT PRIMARY KEY, seq INTEGER);
CREATE TABLE IF NOT EXISTS legacy_codex_actions (
    id INTEGER PRIMARY KEY, session_id TEXT, ts TEXT, action TEXT, statement TEXT, metadata TEXT, epoch REAL
);
CREATE TABLE IF NOT EXISTS legacy_codex_log (session_id TEXT, event TEXT, summary TEXT, ts TEXT, epoch REAL);

CREATE INDEX IF NOT EXISTS legacy_session_events_by_session ON legacy_session_events (session_id);
CREATE INDEX IF NOT EXISTS legacy_session_events_to_find
ON legacy_session_events (session_id, coalesce(epoch, -number)) WHERE NOT found;

-- Lines of a session that the forerunner knew have come: its rows that they are leave the view, and the others take
-- their place behind the last line that isn't later. Rows without a time are found by their number, as -number.
CREATE TRIGGER IF NOT EXISTS legacy_session_events_met AFTER INSERT ON segments
WHEN EXISTS (
    SELECT 1 FROM generations AS g JOIN streams AS s ON s.id = g.stream
    JOIN legacy_session_events AS l ON l.session_id = s.session_id AND NOT l.found
    WHERE g.id = NEW.id >> 40)
BEGIN
    UPDATE legacy_session_events SET found = 1 WHERE rowid IN (
        SELECT l.rowid
        FROM generations AS g JOIN streams AS s ON s.id = g.stream
        JOIN events AS e
            ON e.id BETWEEN (g.id << 40) + (NEW.first_seq << 8)
                        AND (g.id << 40) + ((NEW.first_seq + NEW.lines) << 8) + 255
        CROSS JOIN legacy_session_events AS l ON l.session_id = s.session_id AND NOT l.found
            AND coalesce(l.epoch, -l.number) BETWEEN coalesce(e.ts - 1, -e.seq) AND coalesce(e.ts + 1, -e.seq)
        WHERE g.id = NEW.id >> 40 AND l.role = e.role AND l.message = e.message);
    UPDATE legacy_session_events SET behind = max(behind, place.line)
    FROM (
        SELECT id, max(line) OVER (ORDER BY ts, line DESC ROWS UNBOUNDED PRECEDING) AS line FROM (
            SELECT NULL AS id, e.ts, e.seq AS line
            FROM generations AS g JOIN events AS e
                ON e.id BETWEEN (g.id << 40) + (NEW.first_seq << 8)
                            AND (g.id << 40) + ((NEW.first_seq + NEW.lines) << 8) + 255
            WHERE g.id = NEW.id >> 40 AND e.ts IS NOT NULL
            UNION ALL
            SELECT l.rowid, l.epoch, 0
            FROM generations AS g JOIN streams AS s ON s.id = g.stream
            JOIN legacy_session_events AS l ON l.session_id = s.session_id AND NOT l.found
                AND coalesce(l.epoch, -l.number) >= (
                    SELECT min(e.ts) FROM events AS e
                    WHERE e.id BETWEEN (g.id << 40) + (NEW.first_seq << 8)
                                   AND (g.id << 40) + ((NEW.first_seq + NEW.lines) << 8) + 255)
            WHERE g.id = NEW.id >> 40)
    ) AS place
    WHERE legacy_session_events.rowid = place.id;
END;

-- What is purged on purpose is purged here as well.
CREATE TRIGGER IF NOT EXISTS legacy_purged AFTER INSERT ON tombstones
BEGIN
    DELETE FROM legacy_session_events WHERE session_id = NEW.session_id;
    DELETE FROM legacy_session_ingest_watermark WHERE session_id = NEW.session_id;
    DELETE FROM legacy_codex_actions WHERE session_id = NEW.session_id;
    DELETE FROM legacy_codex_log WHERE session_id = NEW.session_id;
END;
