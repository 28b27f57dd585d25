"""From which share of new rows on a load is quicker without the vector index, and a build of it at the end.

Both ways are gone, from the same table of 20,000 chunks with 384 dimensions and a built index, for several shares.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import psycopg

from benchmarks.search import DIMENSIONS, MODEL, Tenant, load, made
from benchmarks.server import DATABASE, own_server
from include.gleaner.load.vector_index import DEFER_SHARE, defer_index, ensure_index
from include.gleaner.local.postgres import EmbeddedPostgres

Row = tuple[str, str, str, bool]

ROWS = 20_000
SHARES = (0.1, 0.25, 0.5, 1.0)
ANY_SHARE = 10**9  # so many new rows are above it


def defer() -> Iterator[Row]:
    """Seconds of both ways, and whether the share that is used is one at which to defer is quicker."""
    random = np.random.default_rng(7)
    old = made(random, "old", ROWS)
    gains: dict[float, float] = {}
    with own_server(shared_buffers="512MB") as server:
        with psycopg.connect(server.dsn(DATABASE), autocommit=True, prepare_threshold=None) as conn:
            load(conn, old)
            conn.execute("VACUUM ANALYZE gleaner.tenant_knowledge")
            ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind="vector")
        for share in SHARES:
            new = made(random, "new", round(share * ROWS))
            live, deferred = (_seconds(server, new, deferred=way) for way in (False, True))
            gains[share] = live / deferred
            yield (
                f"{len(new.vectors):,} new chunks into {ROWS:,} with an index of vector",
                f"{live:.1f} s into the live index, {deferred:.1f} s without it and a build at the end", "", True,
            )  # fmt: skip
    quicker = min((share for share in SHARES if gains[share] >= 1), default=float("inf"))
    yield (
        "To defer is quicker from this share of new rows on",
        f"{quicker:g}",
        f"≤ {DEFER_SHARE:g}",
        quicker <= DEFER_SHARE,
    )


def _seconds(server: EmbeddedPostgres, new: Tenant, *, deferred: bool) -> float:
    """From the table as it was; the other one has no connections now."""
    server.drop_database("copy")
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE copy TEMPLATE {DATABASE}".encode())
    with psycopg.connect(server.dsn("copy"), autocommit=True, prepare_threshold=None) as conn:
        conn.execute("CHECKPOINT")
        began = time.monotonic()
        if deferred and not defer_index(conn, model=MODEL, new_rows=ANY_SHARE):
            raise RuntimeError("the index was not taken away")
        load(conn, new)
        outcome = ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind="vector")
        if outcome != ("built" if deferred else "there"):
            raise RuntimeError(f"the index is {outcome}")
        return time.monotonic() - began
