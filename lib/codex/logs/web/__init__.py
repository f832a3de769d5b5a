"""`codex-logs web`: a page of one's own to read the record with; nothing here writes."""
