"""The Postgres of a benchmark that needs no other server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.gleaner.local.postgres import EmbeddedPostgres, standalone
from include.gleaner.ops.migrate import migrate

DATABASE = "bench"


@contextmanager
def own_server(**settings: str) -> Iterator[EmbeddedPostgres]:
    """A server of its own with a migrated DATABASE, without fsync and with these settings; gone with the context."""
    with tempfile.TemporaryDirectory() as folder:
        server, processes = standalone(Path(folder), settings={"fsync": "off", **settings})
        try:
            server.start()
            server.create_database(DATABASE)
            migrate(server.dsn(DATABASE))
            yield server
        finally:
            processes.close()
