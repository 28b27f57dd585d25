"""When a run builds the index of its model, and when it takes it away first. Neither ever makes a run red."""

from __future__ import annotations

import logging
from typing import Final

import psycopg

from include.gleaner.config import EmbedPolicy
from include.gleaner.load.vector_index import analyze_once, defer_index, drop_unused, ensure_index, kind_for

log = logging.getLogger(__name__)

CHUNKS_PER_PAGE: Final = 5  # of websites in general


def index_model(conn: psycopg.Connection, policy: EmbedPolicy) -> None:
    """Build what is missing, drop what nobody needs. What fails is tried again by the next run; searches are right
    without it, only slower."""
    try:
        analyze_once(conn)
        kind = kind_for(policy.dimensions, policy.vector_index)
        ensure_index(conn, model=policy.model, dimensions=policy.dimensions, kind=kind)
        drop_unused(conn)
    except psycopg.Error as error:
        if conn.closed:
            raise
        log.warning("the index of %s is not there (%s); the next run tries again", policy.model, error.sqlstate)


def defer_for(conn: psycopg.Connection, policy: EmbedPolicy, *, pages: int) -> None:
    """Before a load of so many pages: take the index away if building it anew is faster."""
    try:
        defer_index(conn, model=policy.model, new_rows=pages * CHUNKS_PER_PAGE)
    except psycopg.Error as error:
        if conn.closed:
            raise
        log.warning("the index of %s stays (%s)", policy.model, error.sqlstate)
