"""What the agents' model calls cost: `codex-logs usage`."""

from __future__ import annotations

import time

import click

from codex.logging.listing import after_option, before_option, print_json
from codex.logging.store.connection import translated
from codex.logging.terminal import db_option, json_option, tell
from codex.logs.chosen import SESSION
from codex.logs.database import host_option, reading
from codex.logs.prices import read_prices, spent
from codex.logs.read.sessions import find
from codex.logs.read.usage import BY, read_usage
from codex.logs.shown.tables import print_table

_COLUMNS = ("calls", "input", "cache read", "cache write", "output", "inherited", "repeated", "cost")


@click.command(
    "usage", epilog="\b\nExamples:\n  codex-logs usage --by model\n  codex-logs usage --after 2026-01-01 --json"
)
@click.option("--by", type=click.Choice(BY), default="day", show_default=True, help="What the rows are.")
@click.option(
    "--session-id", type=SESSION, metavar="ID", help="Only this session: its id, the beginning of it, or last."
)
@click.option("--agent", metavar="NAME", help="Only this agent: claude, codex, native.")
@after_option
@before_option
@click.option("--prices", type=click.Path(), help="Another price list.  [env: CODEX_PRICES]")
@db_option
@host_option
@json_option
def command(
    by: str,
    session_id: str | None,
    agent: str | None,
    after: float | None,
    before: float | None,
    prices: str | None,
    db: str | None,
    host: str | None,
    as_json: bool,
) -> int:
    """Show the tokens that model calls took, and their cost where the model's price is known.

    A call that several lines tell of counts once. Inherited tokens were spent by the session that this one was forked
    from, repeated ones are told again: neither is in the other columns.
    """
    listed = read_prices(prices)
    with reading(db, host=host) as opened, translated(opened.path):
        session_id = session_id and find(opened.connection, session_id)
        tokens = read_usage(opened.connection, by, after=after, before=before, agent=agent, session=session_id)
        rows = list(spent(tokens, listed))
    if as_json:
        print_json(row.as_dict(by, listed.currency) for row in rows)
        return 0
    heading = f"{by} ({time.strftime('%Z')})" if by in ("day", "hour") else by
    figures = ([row.key or "unknown", *row[1:6], row.inherited, row.repeated, row.cost] for row in rows)
    print_table((heading, *_COLUMNS), figures)
    unpriced = sorted({model for row in rows for model in row.unpriced})
    tell(f"Cost in {listed.currency} by the prices of {listed.dated}.", err=True)
    if unpriced:
        tell(f"No price is known for {', '.join(unpriced)}: name a list that has one with --prices.", err=True)
    return 0
