"""Who may ask, and what a browser may do with the answer: the outermost layer, around every page and file.

A page on this machine is within reach of every site that its user visits, so that being on 127.0.0.1 protects from
nothing by itself. Checked are the Host (a hostile name that resolves to 127.0.0.1), where a request comes from
(Origin, Sec-Fetch-Site), the method, and the token. What is answered carries a policy that lets no script run but our
files, in case that an escape is ever forgotten.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Our scripts put text into the page and never HTML; datasette's one script, on its own pages, does both.
OWN_POLICY = f"{POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "x-dns-prefetch-control": "off",  # a link's name in a message is to reach no name server by itself
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_NAMES = ("localhost",)


class Refusal(NamedTuple):
    """Why a request gets nothing."""

    status: int
    words: str


class Guard:
    """The application behind these checks. `port` is the one that is listened on; without a token every local program
    may read. `exposed`: numeric addresses of this machine are names for it as well."""

    def __init__(self, app: App, port: int, *, token: str | None, exposed: bool = False, foreign: str = "") -> None:
        self._app = app
        self._port = port
        self._token = token
        self._exposed = exposed
        self._foreign = foreign
        self._cookie = f"codex_logs_{port}"  # a browser shares cookies among all ports of a host
        self._pass = secrets.token_urlsafe(32)  # not the token itself: that one is in the terminal and the history

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _guarded(send, self._policy(scope["path"])))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        refusal = self._of_stranger(scope["method"], headers)
        if refusal is None and self._token is not None and not self._is_known(headers):
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = [value for name, value in query if name == "token"]
            if given and _same(given[-1], self._token):
                await self._admit(scope["path"], [pair for pair in query if pair[0] != "token"], send)
                return
            refusal = Refusal(403, "Open the address that `codex-logs web` printed: it holds the token.")
        if refusal is not None:
            await _reply(send, refusal.status, refusal.words)
            return
        await self._app({**scope, "method": "GET", "headers": [*headers]}, receive, send)

    def _of_stranger(self, method: str, headers: Headers) -> Refusal | None:
        """Why the request isn't from a page of ours, or from its user's address bar."""
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or not self._is_here(hosts[0]):
            return Refusal(421, "This page answers to 127.0.0.1 and localhost alone.")
        if method not in {"GET", "HEAD"}:
            return Refusal(405, "Nothing can be written here.")
        if any(origin != f"http://{hosts[0]}" for origin in _values(headers, b"origin")):
            return Refusal(403, "Another site asked for this.")
        if any(site not in {"same-origin", "none"} for site in _values(headers, b"sec-fetch-site")):
            return Refusal(403, "Another site led here. Put the address into the browser's own address bar.")
        return None

    def _is_here(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or port != str(self._port):
            return False
        name = name.lower()
        if name in _NAMES:
            return True
        try:
            address = ipaddress.ip_address(name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name)
        except ValueError:
            return False
        return self._exposed or address in _OWN

    def _is_known(self, headers: Headers) -> bool:
        for line in _values(headers, b"cookie"):
            try:
                found = SimpleCookie(line).get(self._cookie)
            except CookieError:
                continue
            if found is not None and _same(found.value, self._pass):
                return True
        bearers = (value.removeprefix("Bearer ") for value in _values(headers, b"authorization"))
        return any(_same(bearer, self._token or "") for bearer in bearers)

    async def _admit(self, path: str, query: Iterable[tuple[str, str]], send: Send) -> None:
        """Give the browser its cookie, and the same page without the token in its address."""
        rest = urlencode([*query])
        # Quoted: a browser drops tabs and line ends from an address, and may find another host's name behind them.
        target = "/" + quote(path.lstrip("/\\"), safe="/:@~", errors="replace") + (f"?{rest}" if rest else "")
        cookie = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Strict"
        headers = [
            (b"location", target.encode()),
            (b"set-cookie", cookie.encode()),
            (b"cache-control", b"no-store"),
        ]
        await _reply(send, 303, "", headers)

    def _policy(self, path: str) -> str:
        return POLICY if self._foreign and path.startswith(self._foreign) else OWN_POLICY


_OWN = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


def _guarded(send: Send, policy: str) -> Send:
    """With the policy and its companions on each answer, whatever the application says of them."""
    ours = {**_ALWAYS, "content-security-policy": policy}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", ()) if name.decode().lower() not in ours]
            added = [(name.encode(), value.encode()) for name, value in ours.items()]
            message = {**message, "headers": [*kept, *added]}
        await send(message)

    return sending


async def _reply(send: Send, status: int, words: str, headers: Headers | None = None) -> None:
    kind = [(b"content-type", b"text/plain; charset=utf-8"), *([(b"allow", b"GET, HEAD")] if status == 405 else [])]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *(headers or [])]})
    await send({"type": "http.response.body", "body": f"{words}\n".encode()})


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for given, value in headers if given.lower() == name]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
