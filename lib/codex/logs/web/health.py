"""How ingestion is: what `codex-ingestd status` says, asked in a process of its own.

That one judges for everybody, and it opens the database by apsw, which may not happen in this process: see server.py.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

_SECONDS = 20.0
_FRESH_SECONDS = 1.5
_STREAMS = 200


class Health:
    """Asks at most one process at a time, and gives all that ask meanwhile the same answer."""

    def __init__(self, database: str) -> None:
        self._command = (sys.executable, "-m", "codex_ingestd.cli", "status", "--json", "--db", database)
        self._asking = asyncio.Lock()
        self._known: dict[str, Any] = {}
        self._until = 0.0

    async def told(self) -> dict[str, Any]:
        """The status; `error` is in it, and nothing else, where it can't be had."""
        async with self._asking:
            if time.monotonic() >= self._until:
                self._known = await self._ask()
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._known

    async def _ask(self) -> dict[str, Any]:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        try:
            said, wrong = await asyncio.wait_for(child.communicate(), _SECONDS)
            return _shown(json.loads(said)) if said else {"error": wrong.decode(errors="replace").strip()}
        except TimeoutError:
            return {"error": f"`codex-ingestd status` gave no answer within {_SECONDS:.0f} s"}
        except ValueError:
            return {"error": "`codex-ingestd status` gave an answer that is no JSON"}
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()


def _shown(status: dict[str, Any]) -> dict[str, Any]:
    """With those streams alone that have something to tell, or are the latest."""
    streams = status.pop("streams", [])
    telling = sorted(streams, key=lambda one: (_is_quiet(one), _descending(one["committed_at"]), one["path"]))
    return {**status, "count": len(streams), "streams": telling[:_STREAMS]}


def _is_quiet(stream: dict[str, Any]) -> bool:
    return not (stream["lag"] or stream["rejects"] or stream["error"])


def _descending(text: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text)
