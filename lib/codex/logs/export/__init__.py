"""Sessions as files for other tools and for people: `codex-logs export`."""
