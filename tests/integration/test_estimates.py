"""What the planner does not know of a tenant costs nothing: each page's rows are looked up, not found among all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from include.gleaner.models import source_id_of
from include.gleaner.pipeline.estimates import look_at_chunks, look_at_pages
from include.gleaner.sql import queries
from tests.support.chunks import MODEL, ROOT_URL, add_page, page_of
from tests.support.stored import store_on, stored

ROWS = 3_000  # of the tenant
SOURCE = source_id_of("acme", ROOT_URL)
KEY = {"tenant_id": "acme", "source_id": SOURCE}


def fill(conn: psycopg.Connection, tenant: str, rows: int) -> None:
    """So many pages with one chunk each, behind the back of the planner."""
    add_page(conn, tenant, ROOT_URL)
    source = source_id_of(tenant, ROOT_URL)
    conn.execute(
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job, state, generation)"
        " SELECT %s, gen_random_uuid(), %s, %s || n, 1, 1, 'fetched', n FROM generate_series(1, %s) n",
        (tenant, source, ROOT_URL, rows),
    )
    conn.execute(
        "INSERT INTO gleaner.tenant_knowledge (tenant_id, source_id, chunk_type, chunk_index, embedding_model,"
        " section_title, full_text, language, token_count, word_count, text_hash, content_hash, search_vector,"
        " metadata) SELECT tenant_id, page_id, 'website', 0, %s, '', url, 'en', 1, 1, sha256(url::bytea),"
        " sha256(url::bytea), '', '{}' FROM gleaner.website_page WHERE tenant_id = %s AND generation IS NOT NULL",
        (MODEL, tenant),
    )
    conn.execute(
        "INSERT INTO gleaner.knowledge_generation (tenant_id, source_id, embedding_model, generation, fingerprint,"
        " set_hash, chunk_count) SELECT tenant_id, page_id, %s, generation, '', '', 1 FROM gleaner.website_page"
        " WHERE tenant_id = %s AND generation IS NOT NULL",
        (MODEL, tenant),
    )


@pytest.fixture(params=["of nobody", "of others"])
def unknown(conn: psycopg.Connection, request: pytest.FixtureRequest) -> psycopg.Connection:
    """A tenant that the planner knows nothing of: of nobody at all, or of twenty others that came before."""
    for table in ("website_page", "tenant_knowledge", "knowledge_generation"):
        conn.execute(f"ALTER TABLE gleaner.{table} SET (autovacuum_enabled = off)".encode())
    if request.param == "of others":
        for number in range(20):
            fill(conn, f"other-{number}", 200)
        conn.execute("ANALYZE")
    fill(conn, "acme", ROWS)
    return conn


@contextmanager
def reads_at_most(conn: psycopg.Connection, most: int, table: str) -> Iterator[None]:
    """Index entries and rows that this session reads of the table, as the server counts them."""

    def read() -> int:
        conn.execute("SELECT pg_stat_force_next_flush()")
        row = conn.execute(
            "SELECT coalesce(sum(i.idx_tup_read), 0)::bigint + max(t.seq_tup_read) FROM pg_stat_user_tables t"
            " JOIN pg_stat_user_indexes i USING (relid) WHERE t.relname = %s",
            (table,),
        ).fetchone()
        return int(row[0]) if row else 0

    before = read()
    yield
    assert 0 < read() - before <= most


def some_pages(conn: psycopg.Connection, number: int = 10) -> list[tuple[uuid.UUID, int]]:
    return conn.execute(
        "SELECT page_id, generation FROM gleaner.website_page WHERE tenant_id = 'acme' AND generation IS NOT NULL"
        " ORDER BY page_id LIMIT %s",
        (number,),
    ).fetchall()


def test_a_load_reads_the_rows_of_its_pages(unknown: psycopg.Connection) -> None:
    pages = some_pages(unknown, 100)
    sets = [page_of(page, [f"Text {generation}.", "More."], generation=generation) for page, generation in pages]
    with reads_at_most(unknown, 10 * len(pages), "tenant_knowledge"):
        counts = store_on(unknown).replace_pages(sets).counts
    assert (counts.created, counts.updated, counts.deleted) == (100, 100, 0)
    shorter = [page_of(page, ["Text."], generation=generation + ROWS) for page, generation in pages]
    with reads_at_most(unknown, 20 * len(pages), "tenant_knowledge"):
        counts = store_on(unknown).replace_pages(shorter).counts
    assert (counts.updated, counts.deleted, counts.unchanged) == (100, 100, 0)
    assert stored(unknown, pages[0][0]) == ["Text."]


def test_known_vectors_are_looked_up_once_the_planner_has_looked(unknown: psycopg.Connection) -> None:
    assert look_at_chunks(unknown, tenant_id="acme", model=MODEL, rows=ROWS)
    hashes = [number.to_bytes(32) for number in range(200)]
    page = page_of(some_pages(unknown)[0][0], ["A text."], generation=ROWS + 1)
    store_on(unknown).replace_pages([page])
    row = unknown.execute("SELECT text_hash FROM gleaner.tenant_knowledge WHERE full_text = 'A text.'").fetchone()
    assert row is not None
    with reads_at_most(unknown, 50, "tenant_knowledge"):
        assert store_on(unknown).known_vectors([*hashes, row[0]]) == {row[0]: page.vectors[0]}


def test_aliases_are_looked_up(unknown: psycopg.Connection) -> None:
    (page, _), *_ = some_pages(unknown)
    unknown.execute("UPDATE gleaner.website_page SET state = 'chunked' WHERE tenant_id = 'acme'")
    unknown.execute(
        "UPDATE gleaner.website_page SET state = 'skipped', reason = 'redirect', alias_of = %s WHERE page_id = %s",
        (ROOT_URL, page),
    )
    with reads_at_most(unknown, 4 * ROWS, "website_page"):
        assert unknown.execute(queries("reconcile")["moved_pages"], KEY).fetchall() == [(page, True)]


@pytest.mark.parametrize(("query", "state"), [("mark_completed", "fetched"), ("mark_chunked", "completed")])
def test_pages_are_marked_by_their_keys(unknown: psycopg.Connection, query: str, state: str) -> None:
    """Also where the planner looked when all pages were in another state."""
    unknown.execute("UPDATE gleaner.website_page SET state = 'gone' WHERE generation IS NOT NULL")
    assert look_at_pages(unknown, tenant_id="acme", source_id=SOURCE)
    unknown.execute("UPDATE gleaner.website_page SET state = %s WHERE generation IS NOT NULL", (state,))
    pages = some_pages(unknown)
    key = {"tenant_id": "acme", "page_ids": [page for page, _ in pages], "generations": [at for _, at in pages]}
    with reads_at_most(unknown, 200, "website_page"):
        assert unknown.execute(queries("plan")[query], key).rowcount == len(pages)


def test_the_planner_looks_again_only_where_it_is_wrong(unknown: psycopg.Connection) -> None:
    assert not look_at_chunks(unknown, tenant_id="acme", model=MODEL, rows=ROWS // 10)
    assert look_at_chunks(unknown, tenant_id="acme", model=MODEL, rows=ROWS)
    assert not look_at_chunks(unknown, tenant_id="acme", model=MODEL, rows=ROWS)
    assert look_at_pages(unknown, tenant_id="acme", source_id=SOURCE)
    assert not look_at_pages(unknown, tenant_id="acme", source_id=SOURCE)


def test_a_table_that_somebody_holds_is_left(unknown: psycopg.Connection, knowledge_dsn: str) -> None:
    unknown.execute("SET lock_timeout = '5s'")
    with psycopg.connect(knowledge_dsn) as other:
        other.execute("LOCK TABLE gleaner.tenant_knowledge IN SHARE UPDATE EXCLUSIVE MODE")
        assert look_at_chunks(unknown, tenant_id="acme", model=MODEL, rows=ROWS)
        assert look_at_chunks(unknown, tenant_id="acme", model=MODEL, rows=ROWS)  # neither has waited, nor done it
