"""What can be set: each key's name, kind, default, variables, and words for `--help`."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from codex.logging import config
from codex_ingestd import log
from codex_ingestd.hooks.hook import COMMAND_SECONDS
from codex_ingestd.housekeeping import VERIFY_BYTES_PER_MINUTE

OFF = "off"


class Key(NamedTuple):
    """One setting: its name in the file, and as a flag with `--` before it; `kind` is what a value must be.

    `variables` name it in the environment, the strongest first. A `live` one takes effect without a restart.
    """

    name: str
    kind: click.ParamType[Any]
    default: Any
    variables: tuple[str, ...]
    live: bool
    help: str
    metavar: str | None = None
    several: bool = False

    @property
    def field(self) -> str:
        """Its name in Settings."""
        return self.name.replace("-", "_")


KEYS = {
    key.name: key
    for key in (
        Key(
            "watch",
            click.STRING,
            (config.DEFAULT_LOG_DIR,),
            ("CODEX_SESSION_LOG_DIR",),
            True,
            "Folder of logs, with all below it; may be given again. Links in it are not followed. With FORMAT= (native,"
            " codex, claude) its logs are all of that one, else each log's first line tells.",
            "[FORMAT=]FOLDER",
            several=True,
        ),
        Key(
            "db",
            click.STRING,
            config.DEFAULT_DATABASE,
            ("CODEX_LOG_DB_PATH", "CODEX_DB_PATH", "GH_COPILOT_WORKSPACE"),
            False,
            "Database.",
            "FILE",
        ),
        Key(
            "writable-by-others",
            click.BOOL,
            False,
            (config.WRITABLE_BY_OTHERS,),
            False,
            "Go on where others than this user may write the database, its key or its folder.",
        ),
        Key("finalize", click.BOOL, False, ("CODEX_FINALIZE",), True, "The same as --hook finalize."),
        Key(
            "hook",
            click.STRING,
            (),
            ("CODEX_HOOK",),
            True,
            "Run this when a session has ended; may be given again. A COMMAND gets details as JSON.",
            "finalize|archive|COMMAND",
            several=True,
        ),
        Key(
            "hook-seconds",
            click.FloatRange(min=0, min_open=True),
            COMMAND_SECONDS,
            ("CODEX_HOOK_SECONDS",),
            True,
            "Time limit of a COMMAND.",
        ),
        Key(
            "verify-rate",
            click.FloatRange(min=0),
            VERIFY_BYTES_PER_MINUTE / (1 << 20),
            ("CODEX_VERIFY_MIB_PER_MINUTE",),
            True,
            "MiB a minute to verify when there is nothing else to do; 0 for none.",
        ),
        Key(
            "redact",
            click.Choice(config.REDACT),
            OFF,
            ("CODEX_REDACT",),
            True,
            "With ingest, take secrets out of what is read before any of it is written. Where nobody says it: as the"
            " database was filled before.",
        ),
        Key(
            "allow-secrets",
            click.BOOL,
            False,
            ("CODEX_ALLOW_SECRETS",),
            True,
            "Let finalize look for no secrets, and stage them; forward what is known to be one.",
        ),
        Key(
            "log-level",
            click.Choice(log.LEVELS),
            "info",
            ("CODEX_LOG_LEVEL",),
            True,
            "What to tell on standard error.",
        ),
        Key(
            "metrics",
            click.STRING,
            OFF,
            ("CODEX_METRICS",),
            False,
            "Answer /metrics, /healthz and /readyz there over HTTP, for this host alone unless another HOST is named.",
            "[HOST:]PORT|off",
        ),
        Key(
            "forward-to",
            click.STRING,
            (),
            ("CODEX_FORWARD_TO",),
            True,
            "Ship what is committed to this PostgreSQL or ClickHouse; may be given again. A password comes from a file"
            " or the environment, never from here.",
            "URL",
            several=True,
        ),
        Key(
            "forward-rate",
            click.FloatRange(min=0),
            0.0,
            ("CODEX_FORWARD_MIB_PER_SECOND",),
            True,
            "MiB a second to ship at most; 0 for no limit.",
        ),
        Key(
            "forward-host-id",
            click.STRING,
            "",
            ("CODEX_FORWARD_HOST_ID",),
            True,
            "What this database is known by at a sink, in the place of a hash of machine and database.",
            "NAME",
        ),
        Key(
            "forward-timeout",
            click.FloatRange(min=0, min_open=True),
            60.0,
            ("CODEX_FORWARD_TIMEOUT",),
            True,
            "Seconds to wait for a sink's answer.",
        ),
    )
}
