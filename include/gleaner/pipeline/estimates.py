"""Has the planner look at a table again where it takes a tenant for much smaller than it is.

Autovacuum makes statistics a minute late at best, and of a large table only when a tenth of it has changed. Until then
the planner takes a tenant that came today for a few rows, and reads all of them to find one: work that grows with the
square of a website. What goes wrong here is logged and stops nobody; the answers are the same without it.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final, Literal

import psycopg

from include.gleaner.sql import queries

log = logging.getLogger(__name__)

LEAST_ROWS: Final = 1_000  # below, any plan is good
MOST_TIMES: Final = 10  # more rows than the planner believes


def look_at_pages(conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID) -> bool:
    """Before a run's batches are cut; whether a new look was asked for, which who holds the table or lacks the right
    to ANALYZE prevents. `conn` is outside of a transaction."""
    key = {"tenant_id": tenant_id, "source_id": source_id}
    row = conn.execute(queries("estimates")["pages_there"], key).fetchone()
    return _look(conn, "pages", key, row[0] if row else 0)


def look_at_chunks(conn: psycopg.Connection, *, tenant_id: str, model: str, rows: int) -> bool:
    """While a batch is loaded; `rows` are those that are known to be there. As `look_at_pages`."""
    return _look(conn, "chunks", {"tenant_id": tenant_id, "model": model}, rows)


def _look(conn: psycopg.Connection, what: Literal["pages", "chunks"], key: dict[str, Any], rows: int) -> bool:
    if rows < LEAST_ROWS:
        return False
    try:
        plan = (conn.execute(queries("estimates")[what], key).fetchone() or ([],))[0]
        believed = int(plan[0]["Plan"]["Plan Rows"])
        if believed * MOST_TIMES >= rows:
            return False
        conn.execute(queries("estimates")[f"analyze_{what}"])
    except psycopg.Error as error:
        if conn.closed:
            raise
        log.warning("the statistics of %s could not be brought up to date (%s)", what, error.sqlstate)
        return False
    log.info("the planner took the tenant for %d %s of %d or more; new statistics are asked for", believed, what, rows)
    return True
