"""`codex-ingestd doctor`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from codex.logging import config, config_file
from codex.logging.config import test_mode
from codex.logging.plain import counted
from codex.logging.terminal import json_option, tell, tell_json
from codex_ingestd.doctor import trial
from codex_ingestd.doctor.checks import Finding, configuration, look
from codex_ingestd.instance import told
from codex_ingestd.settings.command import setting_options
from codex_ingestd.settings.keys import KEYS
from codex_ingestd.settings.values import examine

_COLOURS = {"fine": "green", "note": None, "warning": "yellow", "problem": "red"}


@click.command(epilog="\b\nExamples:\n  codex-ingestd doctor\n  codex-ingestd doctor --json | jq '.findings[0]'")
@setting_options(*KEYS)
@click.option("--append/--no-append", default=True, help="Let a test append travel all the way.  [default: yes]")
@json_option
def doctor(file: str | None, append: bool, as_json: bool, **flags: Any) -> int:
    """Check all that a daemon with these settings lives on, and say what to do.

    Folders, permissions, locks, watches, disk, clock, SQLite, database, git, the daemon that runs; and one test append
    through it, which stays in the session `codex-doctor`. Where none runs, one is started for the test alone.

    Exit codes: 0 no problem, 1 a problem, 2 bad usage.
    """
    findings: list[Finding] = []
    for finding in _findings(file, append, flags):
        findings.append(finding)
        if not as_json:
            _show(finding)
    counts = Counter(finding.level for finding in findings)
    if as_json:
        rows = [finding._asdict() for finding in findings]
        tell_json({"well": not counts["problem"], "findings": rows})
    else:
        tell(f"{counted(counts['problem'], 'problem')}, {counted(counts['warning'], 'warning')}")
    return int(counts["problem"] > 0)


def _findings(file: str | None, append: bool, flags: dict[str, Any]) -> Iterator[Finding]:
    (settings, _), problems = examine(flags, file)
    files = [source.path for source in config_file.sources(config.absolute(os.curdir), file)]
    yield from configuration(problems, files)
    facts = told(settings.db)
    yield from look(settings, facts)
    if append and not test_mode():
        yield from trial.alone(settings) if facts is None else trial.through(settings, facts)


def _show(finding: Finding) -> None:
    level = f"{finding.level:8}"
    start = level if os.environ.get("NO_COLOR") else click.style(level, fg=_COLOURS[finding.level])
    tell(f"{finding.check:13} {finding.message}", start=start + " ")
    if finding.hint:
        tell(f"{'':22} {finding.hint}")
