"""The numbers of /gleaner/metrics against the tables: the same after each step, kill, rollback and race."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import psycopg

from include.gleaner import pipeline
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from include.gleaner.sql import queries
from tests.integration.test_load_kills import forker, prepared
from tests.support.articles import NAMES, website
from tests.support.chunks import add_page
from tests.support.counted import scrape, told, truth
from tests.support.sessions import wait_until_alone
from tests.support.tenant import Tenant

MODEL = "text-embedding-3-small"


def fold(conn: psycopg.Connection) -> int:
    ((folded,),) = conn.execute(queries("metrics")["fold"]).fetchall()
    return int(folded)


def test_each_number_is_what_the_tables_have_after_each_step_of_runs_that_fail_and_change(tenant: Tenant) -> None:
    def agree() -> None:
        assert told(tenant.conn) == truth(tenant.conn) != {}

    tenant.site.routes = website(*NAMES)
    params = tenant.params()
    pipeline.crawl_website(params, "run-a")
    agree()
    for batch in pipeline.plan_batches(params, "run-a"):
        pipeline.process_pages(params, "run-a", batch, 1)
    agree()
    tenant.endpoint.configure(error_every=1, error_status=503)
    for batch in pipeline.survey_site(params, "run-a"):
        pipeline.load_chunks(params, "run-a", batch, 1)
    agree()
    found = scrape(tenant.conn)
    assert found["gleaner_gap", "chunks_without_vector"] == found["gleaner_texts_postponed_total", "breaker"] == 5
    pipeline.reconcile(params, "run-a")
    tenant.endpoint.configure(error_every=0)
    tenant.conn.execute("DELETE FROM gleaner.endpoint_state")
    for batch in pipeline.find_missing_vectors():
        pipeline.fill_vectors(batch, 1)
    agree()
    tenant.site.routes = website("apples", "quinces")  # one stays, one is new, the others go
    tenant.run()
    tenant.run()
    agree()
    assert scrape(tenant.conn)["gleaner_pages", "gone"] > 0
    tenant.name = "zeta"
    tenant.run()
    agree()
    before = scrape(tenant.conn)
    fold(tenant.conn)  # of what came after the last task's own
    assert fold(tenant.conn) == 0
    after = scrape(tenant.conn)
    moving = {"gleaner_collect_seconds", "gleaner_database_bytes", "gleaner_table_bytes"}
    assert {key: value for key, value in after.items() if key[0] not in moving} == {
        key: value for key, value in before.items() if key[0] not in moving
    }


def test_a_tenant_that_is_erased_leaves_the_counters_and_takes_its_gauges_along(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.name = "zeta"
    tenant.run()
    before = scrape(tenant.conn)
    for table in ("dead_letter", "tenant_knowledge", "knowledge_generation", "page_document", "page_snapshot"):
        tenant.conn.execute(f"DELETE FROM gleaner.{table} WHERE tenant_id = 'acme'".encode())
    tenant.conn.execute("DELETE FROM gleaner.website_page WHERE tenant_id = 'acme'")
    fold(tenant.conn)
    after = scrape(tenant.conn)
    assert after["gleaner_pages", "chunked"] == before["gleaner_pages", "chunked"] / 2 > 0
    assert after["gleaner_chunks", MODEL] == before["gleaner_chunks", MODEL] / 2 > 0
    assert {key: value for key, value in after.items() if key[0].endswith("_total")} == {
        key: value for key, value in before.items() if key[0].endswith("_total")
    }
    assert tenant.rows("SELECT count(*) FROM gleaner.metric_total WHERE tenant_id = 'acme'") == [(0,)]


def test_loads_that_are_killed_and_run_again_are_counted_once(tenant: Tenant) -> None:
    params, batch = prepared(tenant)
    tenant.endpoint.configure(latency_ms=40)
    chance = random.Random(4)
    killed = 0
    with forker(params, batch) as start:
        for number in range(1, 7):
            child, wait = start(number)
            time.sleep(chance.uniform(0.05, 0.35))
            os.kill(child, signal.SIGKILL)
            killed += wait() != 0
            wait_until_alone(tenant.conn)  # else something may come between the two looks
            assert told(tenant.conn) == truth(tenant.conn)
        assert start(20)[1]() == 0
    assert killed > 3
    assert told(tenant.conn) == truth(tenant.conn)
    found = scrape(tenant.conn)
    assert found["gleaner_page_transitions_total", "chunked"] == found["gleaner_pages", "chunked"] == 25
    assert found["gleaner_chunk_writes_total", "created"] <= found["gleaner_chunks", MODEL]  # killed before it said so


def test_what_is_rolled_back_is_not_counted(conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        add_page(conn, "acme", "https://example.com/a")
        assert told(conn) != {}
    assert told(conn) == truth(conn) == {}
    add_page(conn, "acme", "https://example.com/a")
    assert told(conn) == truth(conn) != {}


def test_writers_and_those_who_add_up_side_by_side_lose_nothing(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    for number in range(8):
        add_page(conn, "acme", f"https://example.com/{number}")
    pages = [row[0] for row in conn.execute("SELECT page_id FROM gleaner.website_page ORDER BY page_id")]
    stop = threading.Event()
    sums: set[float] = set()

    def write(page_id: Any) -> None:
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            for number in range(60):
                state = ("fetched", "completed", "chunked")[number % 3]
                own.execute("UPDATE gleaner.website_page SET state = %s WHERE page_id = %s", (state, page_id))

    def add_up() -> None:
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            while not stop.is_set():
                fold(own)
                found = scrape(own)
                sums.add(sum(value for key, value in found.items() if key[0] == "gleaner_pages"))

    adders = [threading.Thread(target=add_up) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(page_id,)) for page_id in pages]
    for thread in (*adders, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in adders:
        thread.join()
    assert sums == {8.0}  # no scrape saw a page twice, or not at all
    assert told(conn) == truth(conn)
    assert scrape(conn)["gleaner_page_transitions_total", "completed"] == 8 * 20


def test_the_migration_counts_what_is_there(knowledge_dsn: str, tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE chunk_index = 0")
    expected = {key: value for key, value in told(tenant.conn).items() if not key[0].endswith("_total")}
    (version,) = (migration.version for migration in migrations() if migration.name == "metrics")
    rollback(knowledge_dsn, version - 1, lose_data=True)
    migrate(knowledge_dsn)
    assert told(tenant.conn) == expected
    assert expected["gleaner_chunks_without_vector", MODEL] == 5
