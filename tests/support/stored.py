"""The chunks of a page, stored and read."""

from __future__ import annotations

import uuid

import psycopg

from include.gleaner.load.store import KnowledgeStore
from tests.support.chunks import DIMENSIONS, MODEL


def store_on(conn: psycopg.Connection, tenant: str = "acme", model: str = MODEL) -> KnowledgeStore:
    return KnowledgeStore(conn, tenant_id=tenant, model=model, dimensions=DIMENSIONS)


def stored(conn: psycopg.Connection, page: uuid.UUID, tenant: str = "acme", model: str = MODEL) -> list[str]:
    rows = conn.execute(
        "SELECT full_text FROM gleaner.tenant_knowledge"
        " WHERE tenant_id = %s AND source_id = %s AND embedding_model = %s ORDER BY chunk_type, chunk_index",
        (tenant, page, model),
    ).fetchall()
    return [text for (text,) in rows]
