"""Replacing a page's chunks: exactly the newest set, once."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest

from include.gleaner.load.rows import text_hash
from include.gleaner.models import LoadCounts, Usage
from tests.support.chunks import DIMENSIONS, add_page, chunk, page_of, vector_of
from tests.support.stored import store_on, stored

TEXTS = [f"Chunk number {number} of the page." for number in range(10)]


@pytest.fixture
def page(conn: psycopg.Connection) -> uuid.UUID:
    return add_page(conn, "acme", "https://example.com/a")


def physical(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Where each row lies and who wrote it: equal means that nothing was written."""
    return conn.execute(
        "SELECT source_id, chunk_index, ctid::text, xmin::text, updated_at FROM gleaner.tenant_knowledge ORDER BY 1, 2"
    ).fetchall()


def test_ten_chunks_of_one_page_are_ten_rows(conn: psycopg.Connection, page: uuid.UUID) -> None:
    outcome = store_on(conn).replace_pages([page_of(page, TEXTS)])
    assert outcome.counts == LoadCounts(created=10)
    assert outcome.loaded == (page,)
    assert stored(conn, page) == TEXTS
    row = conn.execute(
        "SELECT embedding::real[], text_hash, search_vector @@ 'number', metadata->>'page_url', token_count"
        " FROM gleaner.tenant_knowledge WHERE chunk_index = 3"
    ).fetchone()
    assert row is not None
    assert np.array(row[0], "<f4").tobytes() == vector_of(TEXTS[3])
    assert row[1:] == (text_hash(chunk(3, TEXTS[3])), True, "https://example.com/", 6)


def test_the_same_again_writes_nothing(conn: psycopg.Connection, page: uuid.UUID) -> None:
    store = store_on(conn)
    store.replace_pages([page_of(page, TEXTS)])
    before = physical(conn)
    assert store.replace_pages([page_of(page, TEXTS)]).counts == LoadCounts(unchanged=10)
    # Newer bytes that say the same, and another policy that gives the same chunks: still no row is written.
    assert store.replace_pages([page_of(page, TEXTS, generation=2)]).counts == LoadCounts(unchanged=10)
    assert store.replace_pages([page_of(page, TEXTS, generation=2, fingerprint="b")]).counts.unchanged == 10
    assert physical(conn) == before


def written(conn: psycopg.Connection) -> tuple[int, ...]:
    """Rows inserted, updated and deleted in tenant_knowledge, as the server counts them."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    return (
        conn.execute(
            "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = 'tenant_knowledge'"
        ).fetchone()
        or ()
    )


def test_an_identical_reload_writes_no_log_and_no_row(conn: psycopg.Connection, page: uuid.UUID) -> None:
    """By the server's own statistics: rows of the table, and bytes of the write-ahead log that this session wrote."""
    store = store_on(conn)
    store.replace_pages([page_of(page, TEXTS)])
    conn.execute("VACUUM ANALYZE gleaner.tenant_knowledge")
    store.replace_pages([page_of(page, TEXTS)])  # sets hint bits, once
    counted, logged = written(conn), wal_bytes(conn)
    assert counted[0] == 10
    assert logged > 2_000
    assert store.replace_pages([page_of(page, TEXTS)]).counts == LoadCounts(unchanged=10)
    assert wal_bytes(conn) == logged
    assert written(conn) == counted


def wal_bytes(conn: psycopg.Connection) -> int:
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute("SELECT wal_bytes FROM pg_stat_get_backend_wal(pg_backend_pid())").fetchone()
    return int(row[0]) if row else -1


def test_rows_that_vanished_behind_the_fence_are_written_again(conn: psycopg.Connection, page: uuid.UUID) -> None:
    store = store_on(conn)
    store.replace_pages([page_of(page, TEXTS)])
    conn.execute("DELETE FROM gleaner.tenant_knowledge WHERE chunk_index IN (3, 4)")
    assert store.replace_pages([page_of(page, TEXTS)]).counts == LoadCounts(created=2, unchanged=8)
    assert stored(conn, page) == TEXTS


def test_only_what_differs_is_written_and_the_rest_goes(conn: psycopg.Connection, page: uuid.UUID) -> None:
    store = store_on(conn)
    store.replace_pages([page_of(page, TEXTS)])
    before = {row[1]: row[2:] for row in physical(conn)}
    changed = [*TEXTS[:4], "Something else.", *TEXTS[5:8]]
    outcome = store.replace_pages([page_of(page, changed, generation=2)])
    assert outcome.counts == LoadCounts(updated=1, unchanged=7, deleted=2)
    assert stored(conn, page) == changed
    after = {row[1]: row[2:] for row in physical(conn)}
    assert [index for index in after if after[index] != before[index]] == [4]
    assert store.replace_pages([page_of(page, [], generation=3)]).counts == LoadCounts(deleted=8)


def test_an_older_generation_is_refused(conn: psycopg.Connection, page: uuid.UUID) -> None:
    store = store_on(conn)
    store.replace_pages([page_of(page, ["new"], generation=7)])
    outcome = store.replace_pages([page_of(page, TEXTS, generation=6)])
    assert (outcome.counts, outcome.loaded, outcome.stale) == (LoadCounts(stale_pages=1), (), (page,))
    assert stored(conn, page) == ["new"]


def test_models_and_tenants_stand_side_by_side(conn: psycopg.Connection, page: uuid.UUID) -> None:
    other = add_page(conn, "other", "https://example.com/a")
    store_on(conn).replace_pages([page_of(page, TEXTS)])
    store_on(conn, model="second").replace_pages([page_of(page, TEXTS[:3])])
    store_on(conn, tenant="other").replace_pages([page_of(other, ["theirs"])])
    store_on(conn).replace_pages([page_of(page, ["ours"], generation=2)])
    assert stored(conn, page) == ["ours"]
    assert stored(conn, page, model="second") == TEXTS[:3]
    assert stored(conn, other, tenant="other") == ["theirs"]
    hashes = [text_hash(chunk(0, "theirs"))]
    assert store_on(conn, tenant="other").known_vectors(hashes) == {hashes[0]: vector_of("theirs")}
    assert store_on(conn).known_vectors(hashes) == {}


@pytest.mark.parametrize(
    "bad",
    [
        "NUL \x00 inside",
        "a lone surrogate \ud800",
        "",
    ],
)
def test_a_chunk_that_postgres_would_refuse_costs_itself_only(
    conn: psycopg.Connection, page: uuid.UUID, bad: str
) -> None:
    second = add_page(conn, "acme", "https://example.com/b")
    outcome = store_on(conn).replace_pages([page_of(page, ["good", bad, "fine"]), page_of(second, ["second"])])
    assert stored(conn, page) == ["good", "fine"]
    assert stored(conn, second) == ["second"]
    assert [(refusal.page_id, refusal.item) for refusal in outcome.refusals] == [(page, "website/1")]
    assert "NUL \x00" not in outcome.refusals[0].reason


@pytest.mark.parametrize(
    "bad",
    [
        vector_of("x", 7),
        np.array([np.nan] * DIMENSIONS, "<f4").tobytes(),
        np.array([np.inf] + [0] * 7, "<f4").tobytes(),
        b"12345",
    ],
)
def test_a_bad_vector_costs_itself_only(conn: psycopg.Connection, page: uuid.UUID, bad: bytes) -> None:
    made = page_of(page, TEXTS[:3])
    outcome = store_on(conn).replace_pages([replace(made, vectors=(made.vectors[0], bad, made.vectors[2]))])
    assert stored(conn, page) == TEXTS[:3]
    row = conn.execute(
        "SELECT array_agg(embedding IS NULL ORDER BY chunk_index) FROM gleaner.tenant_knowledge"
    ).fetchone()
    assert row == ([False, True, False],)
    assert [refusal.item for refusal in outcome.refusals] == ["website/1"]


def test_a_missing_vector_is_filled_in_later(conn: psycopg.Connection, page: uuid.UUID) -> None:
    made = page_of(page, TEXTS[:2])
    store = store_on(conn)
    store.replace_pages([replace(made, vectors=(made.vectors[0], None))])
    assert store.replace_pages([made]).counts == LoadCounts(updated=1, unchanged=1)
    assert conn.execute("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL").fetchone() == (0,)


def test_paid_vectors_are_kept_until_they_are_loaded(conn: psycopg.Connection, page: uuid.UUID) -> None:
    store = store_on(conn)
    paid = {text_hash(chunk(index, text)): vector_of(text) for index, text in enumerate(TEXTS)}
    store.keep_vectors(paid, Usage(requests=1, inputs=len(paid), tokens=7))
    store.keep_vectors(paid, Usage(requests=1, inputs=len(paid), tokens=7))  # a retry may do it again
    assert store.known_vectors(paid) == paid
    store.replace_pages([page_of(page, TEXTS)])
    assert conn.execute("SELECT count(*) FROM gleaner.pending_embedding").fetchone() == (0,)
    assert store.known_vectors(paid) == paid
