-- A table that gathers inserts in memory does so whatever an insert says; and the more hosts insert, the sooner a token
-- is forgotten.
ALTER TABLE sink_events MODIFY SETTING non_replicated_deduplication_window = 10000, async_insert = 0;
