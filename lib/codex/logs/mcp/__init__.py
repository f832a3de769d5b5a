"""The record for an agent's own use: `codex-logs mcp`, tools over the Model Context Protocol."""
