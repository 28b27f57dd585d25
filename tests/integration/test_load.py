"""Replacing a page's chunks: exactly the newest set, once, whatever races or dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from include.gleaner.load.rows import text_hash
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.models import LoadCounts, Usage
from tests.support.chunks import DIMENSIONS, MODEL, add_page, chunk, page_of, vector_of

ROOT = Path(__file__).parents[2]
TEXTS = [f"Chunk number {number} of the page." for number in range(10)]


def store_on(conn: psycopg.Connection, tenant: str = "acme", model: str = MODEL) -> KnowledgeStore:
    return KnowledgeStore(conn, tenant_id=tenant, model=model, dimensions=DIMENSIONS)


@pytest.fixture
def page(conn: psycopg.Connection) -> uuid.UUID:
    return add_page(conn, "acme", "https://example.com/a")


def stored(conn: psycopg.Connection, page: uuid.UUID, tenant: str = "acme", model: str = MODEL) -> list[str]:
    rows = conn.execute(
        "SELECT full_text FROM gleaner.tenant_knowledge"
        " WHERE tenant_id = %s AND source_id = %s AND embedding_model = %s ORDER BY chunk_type, chunk_index",
        (tenant, page, model),
    ).fetchall()
    return [text for (text,) in rows]


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


def test_racing_writers_leave_exactly_the_newest_set(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    """8 writers load random generations of 6 pages in random order while a reader looks: no torn set, no deadlock."""
    pages = [add_page(conn, "acme", f"https://example.com/{number}") for number in range(6)]

    def texts(number: int, generation: int) -> list[str]:
        return [f"page {number} generation {generation} chunk {index}" for index in range(3 + (generation * 7) % 9)]

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(knowledge_dsn, autocommit=True, prepare_threshold=None) as own:
            store = store_on(own)
            for _ in range(25):
                chosen = chance.sample(range(6), 4)
                store.replace_pages(
                    [
                        page_of(pages[number], texts(number, generation), generation=generation)
                        for number in chosen
                        for generation in [chance.randint(1, 100)]
                    ]
                )

    torn: list[set[str]] = []
    done = threading.Event()

    def read() -> None:
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            while not done.is_set():
                for number, page in enumerate(pages):
                    found = stored(own, page)
                    generations = {text.split()[3] for text in found}
                    if len(generations) > 1 or (found and found != texts(number, int(generations.pop()))):
                        torn.append(set(found))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    finally:
        done.set()
        reader.join()
    assert not torn
    for number, page in enumerate(pages):
        row = conn.execute(
            "SELECT generation FROM gleaner.knowledge_generation WHERE source_id = %s", (page,)
        ).fetchone()
        assert row is not None
        assert stored(conn, page) == texts(number, row[0])
        assert row[0] > 50  # of 100 random draws per page the newest is far up: the fence lets newer ones pass


WRITER = """
import sys, uuid, psycopg
from include.gleaner.load.store import KnowledgeStore
from tests.support.chunks import DIMENSIONS, MODEL, page_of
dsn, generation, *pages = sys.argv[1:]
with psycopg.connect(dsn, autocommit=True) as conn:
    store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    number = int(generation)
    print("ready", flush=True)
    while True:
        texts = [f"generation {number} chunk {index}" for index in range(200 + number % 50)]
        store.replace_pages([page_of(uuid.UUID(page), texts, generation=number) for page in pages])
        number += 1
"""


def test_a_writer_that_is_killed_leaves_the_old_or_the_new_set(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    pages = [add_page(conn, "acme", f"https://example.com/{number}") for number in range(4)]
    generation = 1
    for round_ in range(16):
        if round_ >= 6 and generation > 1:
            break
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, knowledge_dsn, str(generation), *map(str, pages)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.15 + 0.037 * round_ + 0.5 * max(0, round_ - 5))  # a slow machine is given more
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        wait_until(lambda: not others(conn))
        found = [stored(conn, page) for page in pages]
        assert found[0] == found[1] == found[2] == found[3]  # one call, one transaction
        if found[0]:
            number = int(found[0][0].split()[1])
            assert found[0] == [f"generation {number} chunk {index}" for index in range(200 + number % 50)]
            generation = number + 1
    assert generation > 1, "no writer ever finished a set; the test has shown nothing"


def others(conn: psycopg.Connection) -> int:
    """Sessions beside ours that are doing something: the server needs a moment to notice a dead client."""
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchone()
    return int(row[0]) if row else 0


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
