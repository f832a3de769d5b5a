-- Full-text search, filled behind a watermark of its own: to fill it with the events would make them three times as slow.
-- Of a generation the events up to search_watermarks.event, which is events.id, are in it, if they have any word: so many
-- `events`, with so many `words` in all; "offset" is where the last of them ends. `length` is the count of a message's
-- words.
CREATE TABLE codex_sink.words (
    session_id text NOT NULL,
    id bigint NOT NULL,
    length integer NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (id, session_id)
);
CREATE INDEX words_by_word ON codex_sink.words USING gin (words);
CREATE TABLE codex_sink.search_watermarks (
    generation bigint PRIMARY KEY,
    event bigint NOT NULL,
    "offset" bigint NOT NULL,
    events bigint NOT NULL,
    words bigint NOT NULL
);

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table('codex_sink.words', 'session_id', colocate_with => 'codex_sink.events');
        PERFORM create_reference_table('codex_sink.search_watermarks');
    END IF;
END $$;

-- The words of a text with one blank between them, as SQLite's index has them: runs of letters and digits in lower case
-- without accents. Each has an x before it, so that the server's parser takes none for a number or a name of anything.
CREATE FUNCTION codex.words_of(message text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text;
BEGIN
    IF octet_length(message) = length(message) THEN
        found := regexp_replace(lower(message COLLATE "C"), '[^a-z0-9]+', ' x', 'g');
    ELSE
        found := normalize(lower(message COLLATE "und-x-icu"), NFD);
        found := normalize(regexp_replace(found, '[\u0300-\u0331]', '', 'g'), NFC);
        found := regexp_replace(found COLLATE "und-x-icu", '[^[:alnum:]]+', ' x', 'g');
    END IF;
    found := CASE WHEN starts_with(found, ' ') THEN substr(found, 2) ELSE 'x' || found END;
    found := CASE WHEN right(found, 2) = ' x' THEN left(found, -2) ELSE found END;
    RETURN CASE WHEN found = 'x' THEN '' ELSE found END;
END $$;

-- What a text is found by; of one with more different words than an index takes, those of its begin.
CREATE FUNCTION codex_sink.vector_of(words text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN to_tsvector('simple', words);
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN to_tsvector('simple', left(words, 65536));
END $$;

-- Bring the search up to what is here, about so many events; how many it took. 0 also where somebody else is at it.
CREATE FUNCTION codex_sink.index_words(count integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
#variable_conflict use_variable
DECLARE
    behind record;
    taken bigint;
    last bigint;
    ends bigint;
    total bigint;
    done bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(1129530418) THEN
        RETURN 0;
    END IF;
    FOR behind IN
        SELECT g.id, s.session_id, coalesce(w.event, g.id << 40) AS event,
               (g.id << 40) | (g.sent_event & 1099511627775) AS sent, g.sent_offset
        FROM codex_sink.generations AS g
        JOIN codex_sink.streams AS s ON s.id = g.stream
        LEFT JOIN codex_sink.search_watermarks AS w ON w.generation = g.id
        WHERE (g.id << 40) | (g.sent_event & 1099511627775) > coalesce(w.event, g.id << 40)
          AND g.how IS DISTINCT FROM 'purged'
        ORDER BY g.id
    LOOP
        SELECT count(*), max(e.id), max(e."offset" + e.length) INTO taken, last, ends
        FROM (SELECT e.id, e."offset", e.length FROM codex_sink.events AS e
              WHERE e.id > behind.event AND e.id <= behind.sent AND e.session_id = behind.session_id
              ORDER BY e.id LIMIT count - done) AS e;
        INSERT INTO codex_sink.words (session_id, id, length, words)
        SELECT t.session_id, t.id, cardinality(string_to_array(t.words, ' ')), codex_sink.vector_of(t.words)
        FROM (SELECT e.session_id, e.id, codex.words_of(left(e.message, 262144)) AS words FROM codex_sink.events AS e
              WHERE e.id > behind.event AND e.id <= last AND e.session_id = behind.session_id OFFSET 0) AS t
        WHERE t.words <> ''
        ON CONFLICT DO NOTHING;
        SELECT coalesce(sum(w.length), 0) INTO total FROM codex_sink.words AS w
        WHERE w.id > behind.event AND w.id <= last AND w.session_id = behind.session_id;
        done := done + taken;
        IF done < count THEN
            last := behind.sent;
            ends := behind.sent_offset;
        END IF;
        INSERT INTO codex_sink.search_watermarks AS w (generation, event, "offset", events, words)
        VALUES (behind.id, last, ends, taken, total)
        ON CONFLICT (generation) DO UPDATE SET
            event = excluded.event, "offset" = excluded."offset", events = w.events + excluded.events,
            words = w.words + excluded.words;
        EXIT WHEN done >= count;
    END LOOP;
    RETURN done;
END $$;
REVOKE ALL ON FUNCTION codex_sink.vector_of, codex_sink.index_words FROM PUBLIC;
GRANT EXECUTE ON FUNCTION codex_sink.index_words TO codex_writer;

-- What readers ask: the words of the events that stand; how much of that there is; and the generations that stand of which
-- some events aren't indexed, with the last one that is, the last one that is to be, and the bytes between them.
CREATE VIEW codex.words AS
SELECT w.id, w.length, w.words, g.host_id, w.session_id AS home
FROM codex_sink.words AS w JOIN codex_sink.generations AS g ON g.id = w.id >> 40 AND g.superseded_by_local IS NULL
WHERE g.host_id = ANY(ARRAY(SELECT h.host_id FROM codex_sink.hosts AS h WHERE codex.is_shown(h.host_id)))
  AND g.id <> ALL(ARRAY(SELECT t.generation FROM codex_sink.tombstones AS t));

CREATE VIEW codex.indexed AS
SELECT g.id AS generation, w.events, w.words, g.host_id
FROM codex_sink.search_watermarks AS w
JOIN codex_sink.generations AS g ON g.id = w.generation AND g.superseded_by_local IS NULL
WHERE g.host_id = ANY(ARRAY(SELECT h.host_id FROM codex_sink.hosts AS h WHERE codex.is_shown(h.host_id)))
  AND g.id <> ALL(ARRAY(SELECT t.generation FROM codex_sink.tombstones AS t));

CREATE VIEW codex.unindexed AS
SELECT g.id AS generation, coalesce(w.event, g.id << 40) AS after,
       (g.id << 40) | (g.sent_event & 1099511627775) AS last, g.sent_offset - coalesce(w."offset", 0) AS length
FROM codex_sink.generations AS g
LEFT JOIN codex_sink.search_watermarks AS w ON w.generation = g.id
WHERE g.superseded_by_local IS NULL AND g.how IS DISTINCT FROM 'purged'
  AND (g.id << 40) | (g.sent_event & 1099511627775) > coalesce(w.event, g.id << 40)
  AND g.host_id = ANY(ARRAY(SELECT h.host_id FROM codex_sink.hosts AS h WHERE codex.is_shown(h.host_id)));

-- What a phrase is searched by; with is_prefix its last word stands for all that begin like it.
CREATE FUNCTION codex.phrase(phrase text, is_prefix boolean) RETURNS tsquery
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (phraseto_tsquery('simple', codex.words_of(phrase))::text || CASE WHEN is_prefix THEN ':*' ELSE '' END)::tsquery;

-- Whether a value is the wish, whatever its case, or begins like it where that ends in an asterisk.
CREATE FUNCTION codex.is_like(value text, wish text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN right(wish, 1) = '*' THEN starts_with(lower(coalesce(value, '')), lower(left(wish, -1)))
            ELSE lower(coalesce(value, '')) = lower(wish) END;

-- Whether it is like one of the wishes.
CREATE FUNCTION codex.is_like_any(value text, wishes text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(bool_or(codex.is_like(value, w)), false) FROM unnest(wishes) AS w
$$;

-- Whether it holds one of these texts, whatever its case.
CREATE FUNCTION codex.holds_any(value text, texts text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(bool_or(strpos(lower(coalesce(value, '')), rtrim(lower(t), '*')) > 0), false) FROM unnest(texts) AS t
$$;

-- Where in a message its words stand: those that are `whole`, and those that begin like one of `begun`.
CREATE FUNCTION codex.places(words tsvector, whole text[], begun text[]) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT json_object_agg(t.lexeme, t.positions) FROM unnest(words) AS t
    WHERE t.lexeme = ANY(whole) OR EXISTS (SELECT 1 FROM unnest(begun) AS b WHERE starts_with(t.lexeme, b))
$$;

-- Spread over nodes, a query asks each of them as the very user who asks here, and not as the views' owner.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') THEN
        GRANT USAGE ON SCHEMA codex_sink TO codex_reader;
        GRANT SELECT ON codex_sink.hosts, codex_sink.streams, codex_sink.generations, codex_sink.summaries,
            codex_sink.usage, codex_sink.tombstones, codex_sink.redacted_spans, codex_sink.events,
            codex_sink.ingest_rejects, codex_sink.words, codex_sink.search_watermarks TO codex_reader;
    END IF;
END $$;
