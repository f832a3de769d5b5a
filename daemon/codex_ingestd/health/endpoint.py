"""`/metrics`, `/healthz` and `/readyz` over HTTP, in threads of their own; loaded only where somebody wants them."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from codex.logging.errors import ConfigError
from codex_ingestd.health.judge import Health, judge, judge_life
from codex_ingestd.health.meter import Meter
from codex_ingestd.health.metrics import registry
from codex_ingestd.settings.address import Address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from codex_ingestd.service import Service

_REQUEST_SECONDS = 10.0

log = logging.getLogger(__name__)


def expose(address: Address, service: Service, database: str) -> AbstractContextManager[int]:
    """A service's metrics and health at that address. Raises ConfigError where it can't be had."""
    service.meter = Meter()
    shown = registry(service, service.meter, database)

    def live() -> Health:
        return judge_life(service.facts, time.monotonic())

    def ready() -> Health:
        return judge(service.facts, time.monotonic())

    return serving(address, application(shown, live, ready))


@contextmanager
def serving(address: Address, application: WSGIApplication) -> Iterator[int]:
    """Answers at that address within its context; gives the port. Raises ConfigError where it can't be had."""
    try:
        server = _Server(address)
    except OSError as error:
        raise ConfigError(
            f"--metrics {address}: {error.strerror or error}", hint="Choose another port, or stop who has this one."
        ) from error
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        port = int(server.server_address[1])
        log.info("metrics", extra={"address": str(address._replace(port=port))})
        if not address.is_loopback:
            log.warning("metrics and paths are open to other hosts", extra={"address": str(address)})
        yield port
    finally:
        _stop(server)
        thread.join()
        server.server_close()


def application(shown: CollectorRegistry, live: Callable[[], Health], ready: Callable[[], Health]) -> WSGIApplication:
    """What answers: 200, or 503 with the reasons where it isn't well; 404 for all else."""
    metrics = make_wsgi_app(shown)
    checks = {"/healthz": live, "/readyz": ready}

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answered: Iterable[bytes] = metrics(environ, start)
            return answered
        check = checks.get(path)
        if check is None:
            start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"there are /metrics, /healthz, /readyz\n"]
        health = check()
        start("200 OK" if health.is_well else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps(health.as_dict(), ensure_ascii=False).encode() + b"\n"]

    return answer


def _stop(server: WSGIServer) -> None:
    """End its loop at once: by itself it looks only twice a second whether it is to end."""
    asking = threading.Thread(target=server.shutdown, name="metrics end", daemon=True)
    asking.start()
    with suppress(OSError):
        socket.create_connection((server.server_name, server.server_port), timeout=1.0).close()
    asking.join()


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        log.debug("asked", extra={"request": format % arguments})


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: Address) -> None:
        place = (address.host, address.port)
        found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """Without asking the name service for this host's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """One who hangs up is no news."""
        log.debug("not answered", exc_info=True)
