"""The HNSW index of each model: built after its first big load, beside readers and writers, and never trusted unseen.

A live index makes loads several times slower, and tenants of up to ten thousand chunks do not need one: searches
compare their chunks one by one. So a model gets its index when it has more rows than that, at the end of a run; a load
that multiplies a small table takes it away first. `gleaner.vector_index` says which indexes searches may use.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql

from include.gleaner.sql import queries

log = logging.getLogger(__name__)

LEAST_ROWS: Final = 10_000  # of a model; below, no tenant has more than a search compares one by one
# A load of more new rows than this share of the old ones is faster without the index and a build at its end
# (benchmarks/README.md); but only while the old ones are few enough to be compared one by one meanwhile.
DEFER_SHARE: Final = 0.25
DEFER_MOST_ROWS: Final = 50_000
LOCK_SECONDS: Final = 10.0
MEMORY: Final = "512MB"  # for the build; a graph that does not fit is built on, slower
WORKERS: Final = "2"

Kind = Literal["vector", "halfvec"]
Outcome = Literal["too small", "there", "built", "busy", "no index"]


def kind_for(dimensions: int, wanted: str | None = None) -> Kind | None:
    """The type whose HNSW index takes so many dimensions: pgvector allows 2,000 of vector, 4,000 of halfvec.

    `wanted` is "vector", "halfvec" or "none", where somebody chose. None: the model is searched without an index.
    """
    if wanted == "none" or dimensions > 4_000:
        return None
    return "halfvec" if wanted == "halfvec" or dimensions > 2_000 else "vector"


def index_name(model: str, dimensions: int, kind: Kind) -> str:
    """One name for each combination: another type or length is another index."""
    digest = hashlib.sha256(f"{model}/{dimensions}/{kind}".encode()).hexdigest()[:16]
    return f"tenant_knowledge_hnsw_{digest}"


def ensure_index(
    conn: psycopg.Connection, *, model: str, dimensions: int, kind: Kind | None, least_rows: int = LEAST_ROWS
) -> Outcome:
    """Build the model's index if it has enough rows and none that is valid; safe to kill and to run again.

    `conn` is outside of a transaction. Readers and writers go on meanwhile. Another kind than before replaces the old
    index after the new one is there. "busy": another process builds.
    """
    statements = queries("vector_index")
    if kind is None:
        return "no index"
    name = index_name(model, dimensions, kind)
    key: dict[str, Any] = {"model": model, "dimensions": dimensions, "kind": kind, "index_name": name}
    if _is_known(conn, key) and _is_valid(conn, name):
        return "there"
    row = conn.execute(statements["rows_of_model"], key).fetchone()
    if row is None or row[0] < least_rows:
        return "too small"
    with _only_builder(conn) as alone:
        if not alone:
            return "busy"
        known = conn.execute(statements["known"], key).fetchone()
        old = known[2] if known is not None and known[2] != name else None
        valid = _is_valid(conn, name)
        if valid is False:
            log.warning("%s is not valid, an earlier build was interrupted: it is built again", name)
            _run(conn, "drop_index", index_name=sql.Identifier(name))
        began = time.monotonic()
        if not valid:
            _run(
                conn,
                "create_index",
                index_name=sql.Identifier(name),
                kind=sql.Identifier(kind),
                operators=sql.Identifier(f"{kind}_cosine_ops"),
                dimensions=sql.Literal(dimensions),
                model=sql.Literal(model),
            )
        if not _is_valid(conn, name):
            raise psycopg.errors.ObjectNotInPrerequisiteState(f"{name} was built and is not valid; run again")
        with conn.transaction():
            conn.execute(statements["announce"], key)
            conn.execute(statements["confirm"], key)
        if old is not None:
            _run(conn, "drop_index", index_name=sql.Identifier(old))
        log.info("index of %s: %d rows in %.1f s", model, row[0], time.monotonic() - began)
        return "built"


def analyze_once(conn: psycopg.Connection) -> None:
    """After the very first load: searches weigh words by statistics, which the server makes a minute later at best."""
    statements = queries("vector_index")
    row = conn.execute(statements["was_analyzed"]).fetchone()
    if row is not None and not row[0]:
        conn.execute(statements["analyze"])


def defer_index(conn: psycopg.Connection, *, model: str, new_rows: int) -> bool:
    """Take a small table's index away before a load that multiplies it; whether that was done.

    Searches compare one by one from before the index goes until `ensure_index` has built it again.
    """
    statements = queries("vector_index")
    key = {"model": model}
    known = conn.execute(statements["known"], key).fetchone()
    if known is None or not known[3]:
        return False
    row = conn.execute(statements["rows_of_model"], key).fetchone()
    rows = int(row[0]) if row else 0
    if rows > DEFER_MOST_ROWS or new_rows <= DEFER_SHARE * max(rows, LEAST_ROWS):
        return False
    with _only_builder(conn) as alone:
        if not alone:
            return False
        conn.execute(statements["retract"], key)
        _run(conn, "drop_index", index_name=sql.Identifier(known[2]))
    log.info(
        "index of %s: dropped, because about %d rows come to %d; the end of the run builds it", model, new_rows, rows
    )
    return True


def drop_unused(conn: psycopg.Connection) -> list[str]:
    """Drop the indexes of models without rows; the models."""
    statements = queries("vector_index")
    dropped: list[str] = []
    for model, name in conn.execute(statements["all_known"]).fetchall():
        row = conn.execute(statements["rows_of_model"], {"model": model}).fetchone()
        if row is not None and row[0] == 0:
            with _only_builder(conn) as alone:
                if not alone:
                    break
                conn.execute(statements["retract"], {"model": model})
                _run(conn, "drop_index", index_name=sql.Identifier(name))
                conn.execute(statements["forget"], {"model": model})
                dropped.append(model)
    return dropped


def _is_known(conn: psycopg.Connection, key: dict[str, Any]) -> bool:
    known = conn.execute(queries("vector_index")["known"], key).fetchone()
    return known is not None and known[2] == key["index_name"] and bool(known[3])


def _is_valid(conn: psycopg.Connection, name: str) -> bool | None:
    """None: there is no such index."""
    row = conn.execute(queries("vector_index")["is_valid"], {"index_name": name}).fetchone()
    return None if row is None else bool(row[0])


def _run(conn: psycopg.Connection, query: LiteralString, **parts: sql.Composable) -> None:
    conn.execute(sql.SQL(queries("vector_index")[query]).format(**parts))


@contextmanager
def _only_builder(conn: psycopg.Connection) -> Iterator[bool]:
    """Whether this is the only builder; if so, the session has the settings of a build until the end."""
    statements = queries("vector_index")
    deadline = time.monotonic() + LOCK_SECONDS
    while not (row := conn.execute(statements["try_lock"]).fetchone()) or not row[0]:
        if time.monotonic() > deadline:
            yield False
            return
        time.sleep(0.25)
    before = conn.execute(statements["timeouts"]).fetchone() or ("0", "0")
    conn.execute(statements["build_settings"], {"memory": MEMORY, "workers": WORKERS})
    try:
        yield True
    finally:
        if not conn.closed:
            conn.execute(statements["usual_settings"], {"statement_timeout": before[0], "lock_timeout": before[1]})
            conn.execute(statements["unlock"])
