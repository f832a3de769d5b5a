"""A server and a database with the shared schema, for every test here."""

from tests.postgres import server, sink

__all__ = ["server", "sink"]
