"""`codex-logs web`: who may ask, what a browser shows, and the picture of it."""
