"""One path is one stream, whatever folder it is looked at from, and through whatever link."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from codex.logging.ingest.sources import Location


class Roots:
    """The roots that a ledger's streams were found under, with their real paths."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def know(self, roots: Iterable[str]) -> None:
        """These are all of them."""
        self._folders = {root: _folder(root) for root in roots}

    def overlapping(self, root: str) -> list[str]:
        """The known roots at, above or below this one."""
        mine = _folder(root)
        return [root for root, folder in self._folders.items() if folder.startswith(mine) or mine.startswith(folder)]

    def synonyms(self, location: Location) -> Iterator[Location]:
        """The same path under the other roots that it lies under."""
        if self._folders.keys() <= {location.root}:
            return
        path = self._folders.get(location.root, _folder(location.root)) + location.key
        for root, folder in self._folders.items():
            if root != location.root and path.startswith(folder):
                yield Location(root, path[len(folder) :], location.number)


def _folder(root: str) -> str:
    return os.path.join(os.path.realpath(root), "")
