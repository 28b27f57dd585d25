"""What /gleaner/metrics tells of the knowledge: all of the list, and read without counting rows."""

from __future__ import annotations

import json
import re
import time

import psycopg
import pytest

from include.gleaner import pipeline
from include.gleaner.errors import KnowledgeDamagedError
from include.gleaner.ops.tenants import set_quota
from include.gleaner.report.metric_names import KNOWLEDGE, METRICS
from include.gleaner.report.metrics import BOUNDS, MOST_KINDS_OF_FAILURE, Samples, exposition, read_knowledge
from include.gleaner.sql import queries
from tests.support.articles import NAMES, website
from tests.support.chunks import add_page
from tests.support.counted import parsed, scrape
from tests.support.tenant import Tenant

MODEL = "text-embedding-3-small"


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
    ((folded,),) = conn.execute(queries("metrics")["fold"]).fetchall()
    assert folded > 0
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
