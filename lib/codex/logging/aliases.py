"""The import paths of gh_COPILOT, for programs that can't be edited: import this module before them.

    import codex.logging.aliases

    from utils.codex_log_db import record_codex_action  # is codex.logging.record_codex_action

Each path then names `codex.logging` itself, also where a module of that path could be imported. Only the
`from … import …` form is served: no package `utils`, `scripts` or `gh_copilot` is made up.
"""

from __future__ import annotations

import sys

import codex.logging

PATHS = (
    "utils.codex_log_db",
    "gh_copilot.automation.logging",
    "scripts.DEDICATED_CODEX_LOG_DATABASE_TASKS",
)

for path in PATHS:
    sys.modules.setdefault(path, codex.logging)
