"""What the daemon's log says of hostile names: one line a fact, in each of its forms."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from codex_ingestd import log
from tests.daemon import Daemon, wait_for
from tests.hostile.test_terminal import FORGED, OBEYED, ORDERS

MESSAGE = f"skipped: {FORGED}\n<0>forged"


def formatted(formatter: logging.Formatter, *, trace: bool = False) -> str:
    """A record with orders in its message and its facts."""
    try:
        raise ValueError(MESSAGE)
    except ValueError:
        cause = sys.exc_info() if trace else None
    record = logging.LogRecord("codex", logging.WARNING, "", 0, "%s", (MESSAGE,), cause)
    record.path = f"/logs/{FORGED}.ndjson"
    return formatter.format(record)


@pytest.mark.parametrize("formatter", [log._Text(False), log._Journal(), log._Json()], ids=["text", "journal", "json"])
def test_a_name_forges_no_line(formatter: logging.Formatter) -> None:
    """Neither a new line nor a priority of its own, and no order to the terminal that the log is read on."""
    line = formatted(formatter)
    assert "\n" not in line
    assert OBEYED.search(line) is None
    assert OBEYED.search(formatted(formatter, trace=True).replace("\n", "")) is None
    if isinstance(formatter, log._Json):
        assert json.loads(line)["path"] == f"/logs/{FORGED}.ndjson"


def test_the_journal_gives_each_line_of_a_traceback_its_priority() -> None:
    """None of them begins with what a message says."""
    lines = formatted(log._Journal(), trace=True).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("<4>") for line in lines)


def test_a_daemon_tells_of_hostile_files_in_a_line_each(daemon: Daemon) -> None:
    """A link, and a log of bad lines, whose names hold orders and line ends."""
    (daemon.log_dir / f"{FORGED}.ndjson").symlink_to("/nowhere")
    (daemon.log_dir / f"r{ORDERS}\n.ndjson").write_bytes(f'{{"{ORDERS}\n'.encode() + b'{"message":"one"}\n')
    daemon.start()
    wait_for(lambda: daemon.told("skipped") and daemon.told("rejected"), what="word of both")
    assert daemon.stop() == 0
    text = daemon.log.read_text("utf-8")
    assert OBEYED.search(text.replace("\n", "")) is None
    assert all(isinstance(json.loads(line), dict) for line in io.StringIO(text))
