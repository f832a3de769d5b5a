"""Our scripts and style sheets, served by ourselves from memory."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from functools import cache

from datasette.utils.asgi import Request, Response

_STATIC = os.path.join(os.path.dirname(__file__), "static")


async def static(request: Request) -> Response:
    """A file of ours. The browser asks each time whether it is still the same."""
    found = _files().get(request.url_vars["name"])
    if found is None:
        return Response.text("There is no such file.\n", status=404)
    body, kind, tag = found
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response("", status=304, headers=headers)
    return Response(body, headers=headers, content_type=kind)


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    files = {}
    for name in os.listdir(_STATIC):
        with open(os.path.join(_STATIC, name), "rb") as file:
            body = file.read()
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "text/plain"
        kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        files[name] = body, kind, f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
    return files
