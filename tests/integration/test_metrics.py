"""What /gleaner/metrics tells of the knowledge is exact, whatever happens, and is read without counting rows."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from typing import Any

import psycopg
import pytest

from include.gleaner import pipeline
from include.gleaner.errors import KnowledgeDamagedError
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from include.gleaner.ops.tenants import set_quota
from include.gleaner.report.metric_names import KNOWLEDGE, METRICS
from include.gleaner.report.metrics import BOUNDS, MOST_KINDS_OF_FAILURE, Samples, exposition, read_knowledge
from include.gleaner.sql import queries
from tests.integration.test_load_kills import forker, prepared
from tests.support.articles import NAMES, website
from tests.support.chunks import add_page
from tests.support.counted import parsed, scrape, told, truth
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


def test_no_page_or_chunk_is_looked_at(conn: psycopg.Connection) -> None:
    """The big tables are not read from one end to the other, and of their indexes only the first entry is."""
    conn.execute(
        "INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme');"
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)"
        " VALUES ('acme', gen_random_uuid(), 'https://example.com/');"
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, state, depth, found_job, fetched_at)"
        " SELECT 'acme', gen_random_uuid(), source_id, 'https://example.com/' || n,"
        "   CASE WHEN n % 2 = 0 THEN 'fetched' ELSE 'chunked' END, 1, 1, now() - n * interval '1 second'"
        " FROM gleaner.website_source, generate_series(1, 3000) AS n;"
        "ANALYZE gleaner.website_page"
    )
    big = "('website_page', 'tenant_knowledge', 'page_snapshot', 'page_document', 'knowledge_generation')"
    reads = (
        "SELECT relname, seq_scan, coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables"
        f" WHERE schemaname = 'gleaner' AND relname IN {big} ORDER BY relname"
    ).encode()
    with conn.transaction():
        before = conn.execute(reads).fetchall()
        found = scrape(conn)
        after = conn.execute(reads).fetchall()
    assert [(name, scans) for name, scans, _ in after] == [(name, scans) for name, scans, _ in before]
    assert sum(fetched for *_, fetched in after) - sum(fetched for *_, fetched in before) <= 1
    assert found["gleaner_pages", "fetched"] == 1_500
    assert 2_900 < found["gleaner_oldest_unchunked_page_seconds",] < 3_100


def test_the_endpoint_s_moods_are_counted(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.endpoint.configure(rate_limit_first=2, retry_after="0.01", error_first=0)
    tenant.run()
    found = scrape(tenant.conn)
    assert found["gleaner_endpoint_throttled_total",] == 2
    assert found["gleaner_vectors_reused_total",] == 0
    assert found["gleaner_embedding_requests_total", MODEL] == 1
    tenant.endpoint.configure(rate_limit_first=0, error_first=1, error_status=500)
    tenant.endpoint.reset()
    tenant.site.routes = website(*NAMES, "melons")
    tenant.run()
    assert scrape(tenant.conn)["gleaner_endpoint_failures_total",] == 1


def test_runs_and_what_they_took_are_counted_once(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    pipeline.reconcile(tenant.params(), "run-1")  # cleared, and run again
    found = scrape(tenant.conn)
    assert found["gleaner_runs_total", "crawl", "complete"] == 1
    assert found["gleaner_run_seconds_count", "crawl"] == 1
    assert 0 < found["gleaner_run_seconds_sum", "crawl"] < 60
    assert found["gleaner_run_seconds_bucket", "crawl", "+Inf"] == 1
    batches = dict(tenant.rows("SELECT stage, count(*) FROM gleaner.batch_report GROUP BY stage"))
    for stage in ("process", "load"):
        assert found["gleaner_stage_seconds_count", stage] == batches[stage]
    assert found["gleaner_stage_seconds_count", "crawl"] == 1
    assert found["gleaner_active_runs", "crawl"] == 0
    pipeline.crawl_website(tenant.params(), "run-2")
    tenant.conn.execute("UPDATE gleaner.crawl_job SET started_at = now() - interval '5 hours' WHERE run_id = 'run-2'")
    found = scrape(tenant.conn)
    assert found["gleaner_active_runs", "crawl"] == 1
    assert found["gleaner_oldest_active_run_seconds", "crawl"] > 4 * 3600
    pipeline.crawl_website(tenant.params(), "run-3")  # the source has a newer one: nobody waits for the old one
    assert scrape(tenant.conn)["gleaner_oldest_active_run_seconds", "crawl"] < 3600


@pytest.mark.parametrize("seconds", [0, 1, 1.01, 59, 60, 86_400, 86_401])
def test_the_buckets_are_those_of_the_database(conn: psycopg.Connection, seconds: float) -> None:
    ((bucket,),) = conn.execute("SELECT gleaner.duration_bucket(%s)", (seconds,)).fetchall()
    assert bucket == next((str(bound) for bound in BOUNDS if seconds <= bound), "+Inf")


def test_sources_that_are_overdue_and_quotas_that_are_spent(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    set_quota(tenant.conn, tenant.name, 10)
    tenant.run()
    found = scrape(tenant.conn)
    assert (found["gleaner_sources", "refreshed"], found["gleaner_sources_overdue",]) == (1, 0)
    assert (found["gleaner_tenants",], found["gleaner_tenants_over_quota",]) == (1, 0)
    set_quota(tenant.conn, tenant.name, 0)
    tenant.conn.execute("UPDATE gleaner.website_source SET created_at = now() - interval '9 days'")
    tenant.conn.execute("UPDATE gleaner.crawl_job SET started_at = now() - interval '47 hours'")
    assert scrape(tenant.conn)["gleaner_sources_overdue",] == 0
    tenant.conn.execute("UPDATE gleaner.crawl_job SET started_at = now() - interval '49 hours'")
    found = scrape(tenant.conn)
    assert (found["gleaner_sources_overdue",], found["gleaner_tenants_over_quota",]) == (1, 1)
    tenant.conn.execute("UPDATE gleaner.website_source SET paused = true")
    found = scrape(tenant.conn)
    assert (found["gleaner_sources", "paused"], found["gleaner_sources_overdue",]) == (1, 0)


def test_the_last_look_over_the_knowledge_is_told_also_when_it_is_damaged(tenant: Tenant) -> None:
    assert scrape(tenant.conn)["gleaner_check_timestamp_seconds",] == 0
    tenant.site.routes = website(*NAMES)
    tenant.run()
    pipeline.look_over_knowledge()
    found = scrape(tenant.conn)
    assert time.time() - found["gleaner_check_timestamp_seconds",] < 60
    assert (found["gleaner_duplicates",], found["gleaner_constraint_ok",]) == (0, 1)
    tenant.conn.execute(
        "ALTER TABLE gleaner.tenant_knowledge REPLICA IDENTITY DEFAULT;"
        "ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT unique_chunk_per_source;"
        "INSERT INTO gleaner.tenant_knowledge SELECT * FROM gleaner.tenant_knowledge LIMIT 1"
    )
    with pytest.raises(KnowledgeDamagedError):
        pipeline.look_over_knowledge()
    found = scrape(tenant.conn)
    assert (found["gleaner_duplicates",], found["gleaner_constraint_ok",]) == (1, 0)
    assert found["gleaner_disagreeing_fences",] == 1


def test_kinds_of_failures_are_bounded(conn: psycopg.Connection) -> None:
    for number in range(MOST_KINDS_OF_FAILURE + 20):
        page_id = add_page(conn, "acme", f"https://example.com/{number}")
        conn.execute(
            "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason) VALUES ('acme', %s, %s, %s)",
            (("process", "crawl", "embed")[number % 3], page_id, f'Kind{number}: words of the page, of "{number}"'),
        )
    found = {key: value for key, value in scrape(conn).items() if key[0] == "gleaner_dead_letters"}
    assert sum(found.values()) == MOST_KINDS_OF_FAILURE + 20
    assert len(found) <= MOST_KINDS_OF_FAILURE + 3
    assert not any("words" in label for key in found for label in key)
    assert found["gleaner_dead_letters", "refused", "embed"] > 1  # the endpoint's own words are no kind


def test_every_metric_of_the_list_is_told_and_no_other(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    pipeline.look_over_knowledge()
    page_id = tenant.rows("SELECT page_id FROM gleaner.website_page LIMIT 1")[0][0]
    tenant.conn.execute(
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason) VALUES ('acme', 'process', %s, 'x')",
        (page_id,),
    )
    samples = Samples()
    read_knowledge(tenant.conn, samples, capacity=1e9)
    text = exposition(samples).decode()
    names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    by_router = {"gleaner_breaker_state", "gleaner_shared_state_up"}
    assert names == {metric.name for metric in KNOWLEDGE} - by_router
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = re.sub(r"_(bucket|sum|count)$", "", line.partition("{")[0].partition(" ")[0])
            assert set(re.findall(r'(\w+)="', line)) - {"le"} == labels.get(name, set()), line
    assert not any("acme" in label or tenant.site.host in label for key in parsed(text) for label in key)


def test_workers_who_do_not_own_the_tables_count_and_read_too(conn: psycopg.Connection) -> None:
    conn.execute("SET ROLE gleaner_writer")
    add_page(conn, "acme", "https://example.com/a")
    conn.execute("UPDATE gleaner.website_page SET state = 'fetched', fetched_at = now()")
    conn.execute(
        "INSERT INTO gleaner.embedding_usage (tenant_id, embedding_model, month, requests, inputs, tokens)"
        " VALUES ('acme', 'm', '2026-01-01', 1, 2, 3)"
    )
    conn.execute(queries("metrics")["store_check"], {"report": json.dumps({"duplicates": 0})})
    assert fold(conn) > 0
    conn.execute("SELECT gleaner.recount_metrics()")
    assert scrape_totals(conn) == {"pages": 1, "embedding_tokens": 3}
    conn.execute("RESET ROLE")
    conn.execute("SET ROLE gleaner_reader")
    assert conn.execute("SELECT * FROM gleaner.metric_total").fetchall() == []  # it named no tenant
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT gleaner.recount_metrics()")


def scrape_totals(conn: psycopg.Connection) -> dict[str, float]:
    found = conn.execute(queries("metrics")["totals"]).fetchall()
    return {
        name: amount
        for name, label, amount in found
        if (name, label) in {("pages", "fetched"), ("embedding_tokens", "m")}
    }
