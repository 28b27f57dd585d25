"""A database of which `verify` is asked, and ways to break it."""

from __future__ import annotations

import psycopg

from include.gleaner.load.store import KnowledgeStore
from include.gleaner.load.vector_index import ensure_index
from include.gleaner.ops.verify import Verification
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of

CHUNKS = 6  # two pages of two for acme, one of two for zeta
DROP = "ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT unique_chunk_per_source CASCADE"
COPY_ONE = (
    "INSERT INTO gleaner.tenant_knowledge SELECT * FROM gleaner.tenant_knowledge"
    " WHERE tenant_id = 'acme' ORDER BY source_id, chunk_index LIMIT 1"
)


def fill(conn: psycopg.Connection) -> None:
    """Two tenants, in which nothing is off."""
    for tenant, urls in (("acme", ("/a", "/b")), ("zeta", ("/z",))):
        store = KnowledgeStore(conn, tenant_id=tenant, model=MODEL, dimensions=DIMENSIONS)
        for url in urls:
            page_id = add_page(conn, tenant, f"https://example.com{url}")
            store.replace_pages([page_of(page_id, [f"first of {url}", f"second of {url}"])])
    conn.execute("UPDATE gleaner.website_page SET state = 'chunked', generation = 1")
    conn.execute("UPDATE gleaner.tenant SET search_model = %s", (MODEL,))
    ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind="vector", least_rows=1)


def found(verification: Verification) -> dict[str, str | int]:
    return {check.name: check.found for check in verification.checks}


def other_model(conn: psycopg.Connection) -> None:
    """A model that was given up halfway, long ago."""
    (page_id,) = conn.execute("SELECT page_id FROM gleaner.website_page WHERE tenant_id = 'zeta'").fetchone() or (None,)
    store = KnowledgeStore(conn, tenant_id="zeta", model="given-up", dimensions=DIMENSIONS)
    assert page_id is not None
    store.replace_pages([page_of(page_id, ["first", "second", "third"])])
    conn.execute(
        "UPDATE gleaner.knowledge_generation SET updated_at = now() - interval '31 days'"
        " WHERE embedding_model = 'given-up'"
    )
