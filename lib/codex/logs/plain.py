"""What others wrote, on its way to a terminal: shown, never executed."""

from codex.logging.plain import one_line, visible

__all__ = ["one_line", "visible"]
