"""Reading: `codex-logs`, one module a command."""
