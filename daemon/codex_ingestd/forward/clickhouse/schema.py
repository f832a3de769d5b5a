"""The shared schema, brought up to date by numbered steps. Each may be taken again: hosts that come at once, or an end
in the middle of one, leave it as it should be.

Where the database copies its own definitions (engine Replicated), or the server has the macros `shard` and `replica`,
the tables get the replicated engine of their kind. With macros alone nobody copies definitions: the steps are taken at
each replica, which remembers its own.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

_IS_THERE = "EXISTS TABLE sink_steps"
_BEGIN = """
CREATE TABLE IF NOT EXISTS sink_steps (number UInt32, taken_at DateTime DEFAULT now())
ENGINE = ReplacingMergeTree ORDER BY number"""
_VERSION = "SELECT max(number) FROM sink_steps"
_DATABASE = "SELECT engine FROM system.databases WHERE name = currentDatabase()"
_MACROS = "SELECT count() FROM system.macros WHERE macro IN ('shard', 'replica')"
_ENGINE = re.compile(r"ENGINE = (\w*)MergeTree(?:\((\w+)\))?")
_DENIED = 497
_PLACE = ("'/clickhouse/tables/{shard}/{database}/{table}'", "'{replica}'")


def steps() -> list[list[str]]:
    """The statements of the numbered steps, in order."""
    folder = resources.files(__package__)
    names = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}\.sql", entry.name))
    return [(folder / name).read_text(encoding="utf-8").strip().split(";\n") for name in names]


def version(client: Client) -> int:
    """How many steps were taken there; 0 where nothing is yet. Raises clickhouse-connect's errors."""
    return _scalar(client, _VERSION) if _scalar(client, _IS_THERE) else 0


def bring_up_to_date(client: Client) -> None:
    """Take the steps that are lacking, where the user may; an older schema serves as well, a newer one too."""
    former = version(client)
    if former < len(steps()):
        try:
            migrate(client)
        except DatabaseError as error:
            if not former or error.code != _DENIED:
                raise


def migrate(client: Client) -> int:
    """Take each step that is lacking there; how many there were. Raises clickhouse-connect's errors."""
    place = _place(client)
    client.command(replicated(_BEGIN, () if place == () else None))
    taken = version(client)
    lacking = steps()[taken:]
    for number, statements in enumerate(lacking, taken + 1):
        for statement in statements:
            client.command(replicated(statement.removesuffix(";"), place))
        client.insert("sink_steps", [[number]], column_names=["number"])
    return len(lacking)


def replicated(statement: str, place: tuple[str, ...] | None) -> str:
    """A statement with replicated engines for plain ones, at a place or where the database says; None for plain."""
    if place is None:
        return statement

    def named(found: re.Match[str]) -> str:
        arguments = ", ".join([*place, *filter(None, [found[2]])])
        return f"ENGINE = Replicated{found[1]}MergeTree" + (f"({arguments})" if arguments else "")

    return _ENGINE.sub(named, statement)


def _place(client: Client) -> tuple[str, ...] | None:
    if _scalar(client, _DATABASE) == "Replicated":
        return ()
    return _PLACE if _scalar(client, _MACROS) == 2 else None


def _scalar(client: Client, query: str) -> Any:
    rows = client.query(query).result_rows
    return rows[0][0] if rows else None
