-- For an administrator, and granted to nobody: what hosts told to be gone goes; how many events that were.
CREATE FUNCTION codex_sink.erase() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
    changed bigint;
BEGIN
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    DELETE FROM codex_sink.words AS w USING codex_sink.tombstones AS t WHERE w.id >> 40 = t.generation;
    DELETE FROM codex_sink.ingest_rejects AS r USING codex_sink.tombstones AS t WHERE r.generation = t.generation;
    DELETE FROM codex_sink.summaries AS s USING codex_sink.tombstones AS t WHERE s.generation = t.generation;
    DELETE FROM codex_sink.usage AS u USING codex_sink.tombstones AS t WHERE u.generation = t.generation;
    DELETE FROM codex_sink.events AS e USING codex_sink.tombstones AS t WHERE e.generation = t.generation;
    GET DIAGNOSTICS gone = ROW_COUNT;
    DELETE FROM codex_sink.words AS w USING codex_sink.events AS e, codex_sink.redacted_spans AS r
    WHERE w.id = e.id AND w.session_id = e.session_id AND e.generation = r.generation
      AND r."offset" < e."offset" + e.length AND e."offset" < r."offset" + r.length;
    UPDATE codex_sink.events AS e SET message = '[REDACTED:' || r.rule || ']', meta = NULL
    FROM codex_sink.redacted_spans AS r
    WHERE e.generation = r.generation AND r."offset" < e."offset" + e.length AND e."offset" < r."offset" + r.length;
    GET DIAGNOSTICS changed = ROW_COUNT;
    DELETE FROM codex_sink.redacted_spans;
    RETURN gone + changed;
END $$;

-- Forget a host: all that it ever sent.
CREATE FUNCTION codex_sink.forget(host uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO codex_sink.tombstones
    SELECT g.id, '', 0, 0, '', 0 FROM codex_sink.generations AS g WHERE g.host_id = host
    ON CONFLICT (generation) DO NOTHING;
    PERFORM codex_sink.erase();
    DELETE FROM codex_sink.tombstones AS t USING codex_sink.generations AS g
    WHERE g.id = t.generation AND g.host_id = host;
    DELETE FROM codex_sink.search_watermarks AS w USING codex_sink.generations AS g
    WHERE g.id = w.generation AND g.host_id = host;
    DELETE FROM codex_sink.generations WHERE host_id = host;
    DELETE FROM codex_sink.streams WHERE host_id = host;
    DELETE FROM codex_sink.hosts WHERE host_id = host;
END $$;
REVOKE ALL ON FUNCTION codex_sink.erase, codex_sink.forget FROM PUBLIC;
