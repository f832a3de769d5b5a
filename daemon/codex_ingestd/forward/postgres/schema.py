"""The shared schema, brought up to date by numbered steps; each is one transaction with the note that it was taken."""

from __future__ import annotations

import re
from importlib import resources

import psycopg

_LOCK = 1129530417  # of everybody who makes tables there
_IS_THERE = "SELECT to_regclass('codex_sink.steps') IS NOT NULL"
_BEGIN = """
CREATE SCHEMA IF NOT EXISTS codex_sink;
CREATE TABLE codex_sink.steps (number integer PRIMARY KEY, taken_at timestamptz NOT NULL DEFAULT now())"""
_VERSION = "SELECT coalesce(max(number), 0) FROM codex_sink.steps"
# Of Citus, and elsewhere of no meaning: what follows the making of a distributed table in its transaction, needs it so.
_ONE_BY_ONE = "SELECT set_config('citus.multi_shard_modify_mode', 'sequential', true)"
_NOTE = "INSERT INTO codex_sink.steps (number) VALUES (%s)"


def steps() -> list[str]:
    """The SQL of the numbered steps, in order."""
    folder = resources.files(__package__)
    names = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}\.sql", entry.name))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def version(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """How many steps were taken there; 0 where nothing is yet. Raises psycopg.Error."""
    (is_there,) = connection.execute(_IS_THERE).fetchone() or (False,)
    return _scalar(connection, _VERSION) if is_there else 0


def migrate(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Take each step that is lacking there; how many there were. Raises psycopg.Error.

    Any number of hosts may try at once. The connection must be in autocommit mode, and its role an owner.
    """
    lacking = 0
    for number, sql in enumerate(steps(), 1):
        with connection.transaction():
            connection.execute(_ONE_BY_ONE)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if not version(connection) and number == 1:
                connection.execute(_BEGIN)
            if version(connection) < number:
                connection.execute(sql)
                connection.execute(_NOTE, (number,))
                lacking += 1
    return lacking


def _scalar(connection: psycopg.Connection[tuple[object, ...]], query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(str(row[0])) if row else 0
