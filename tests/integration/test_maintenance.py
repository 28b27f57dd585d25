"""maintain_knowledge: missing vectors are filled in once, in fair turns, and what is broken is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from include.gleaner import pipeline
from include.gleaner.errors import KnowledgeDamagedError
from include.gleaner.pipeline import maintaining
from include.gleaner.pipeline.connections import embedding
from include.gleaner.shared import breaker
from tests.support.articles import NAMES, website
from tests.support.rework import end_of_pause, without_vectors
from tests.support.tenant import Tenant

ROOT = Path(__file__).parents[2]


def missing(tenant: Tenant) -> int:
    ((count,),) = tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL")
    return int(count)


def maintain() -> list[dict[str, Any]]:
    batches = pipeline.find_missing_vectors()
    for batch in batches:
        pipeline.fill_vectors(batch, 1)
    return batches


def test_nothing_is_asked_while_the_breaker_is_open_and_all_is_filled_when_it_closes(tenant: Tenant) -> None:
    without_vectors(tenant)
    calls = tenant.endpoint.stats().calls
    assert calls == breaker.FAILURES
    assert maintain() == []
    assert (tenant.endpoint.stats().calls, missing(tenant)) == (calls, 5)
    states = tenant.states()
    end_of_pause(tenant)
    assert len(maintain()) == 1
    assert (tenant.endpoint.stats().calls, missing(tenant)) == (calls + 1, 0)
    assert tenant.states() == states
    before = tenant.physical()
    assert maintain() == []
    report = tenant.run()  # an ordinary run finds nothing to do: it is all as if nothing had failed
    assert (report["work"]["embedded"], report["gap"]["chunks_without_vector"]) == (0, 0)
    assert tenant.physical() == before
    assert tenant.endpoint.stats().calls == calls + 1
    usage = tenant.rows("SELECT requests, inputs FROM gleaner.embedding_usage")
    assert usage == [(1, 5)]


def test_a_probe_that_fails_leaves_all_as_it_is(tenant: Tenant) -> None:
    without_vectors(tenant)
    before = tenant.physical()
    tenant.endpoint.configure(error_every=1, error_status=503)
    end_of_pause(tenant)
    calls = tenant.endpoint.stats().calls
    (batch,) = pipeline.find_missing_vectors()
    assert pipeline.fill_vectors(batch, 1)["paused"] == 5
    assert tenant.endpoint.stats().calls == calls + 1  # one probe, and no try after it
    assert maintain() == []
    assert tenant.physical() == before


def test_a_quota_that_was_raised_is_used(tenant: Tenant) -> None:
    tenant.conn.execute("INSERT INTO gleaner.tenant (tenant_id, monthly_token_quota) VALUES ('acme', 0)")
    tenant.site.routes = website(*NAMES)
    tenant.run()
    assert missing(tenant) == 5
    maintain()
    assert (missing(tenant), tenant.endpoint.stats().calls) == (5, 0)
    tenant.conn.execute("UPDATE gleaner.tenant SET monthly_token_quota = NULL")
    maintain()
    assert missing(tenant) == 0


def test_what_the_endpoint_refused_for_good_is_not_asked_again(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    ((page, kind, index),) = tenant.rows(
        "SELECT source_id, chunk_type, chunk_index FROM gleaner.tenant_knowledge ORDER BY source_id LIMIT 1"
    )
    tenant.conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE source_id = %s", (page,))
    tenant.conn.execute(
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, item, reason)"
        " VALUES ('acme', 'embed', %s, %s, 'too long')",
        (page, f"{kind}/{index}"),
    )
    assert pipeline.find_missing_vectors() == []
    tenant.conn.execute("UPDATE gleaner.dead_letter SET resolved_at = now()")
    assert len(pipeline.find_missing_vectors()) == 1


def test_a_tenant_with_much_does_not_hold_up_one_with_little(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintaining, "PAGES_PER_BATCH", 2)
    without_vectors(tenant, tuple(f"fruit{number}" for number in range(11)))
    tenant.name = "zeta"
    without_vectors(tenant, ("apples",))
    end_of_pause(tenant)
    tenants = [batch["tenant"] for batch in pipeline.find_missing_vectors()]
    assert tenants == ["acme", "zeta", *["acme"] * 5]
    monkeypatch.setattr(maintaining, "MOST_BATCHES", 3)
    assert [batch["tenant"] for batch in maintain()] == ["acme", "zeta", "acme"]
    monkeypatch.setattr(maintaining, "MOST_BATCHES", 100)
    maintain()
    assert missing(tenant) == 0
    assert tenant.endpoint.stats().inputs <= 12 + 2  # equal start pages of two tenants are paid by each


@pytest.mark.parametrize("rest", [0, 5])
def test_a_spent_quota_takes_nobody_s_turn(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, rest: int) -> None:
    monkeypatch.setattr(maintaining, "MOST_BATCHES", 1)
    without_vectors(tenant)
    tenant.name = "zeta"
    without_vectors(tenant, ("apples",))
    end_of_pause(tenant)
    # The rest of a quota is nearly never nothing: the next text was too long for it.
    tenant.conn.execute("UPDATE gleaner.tenant SET monthly_token_quota = %s WHERE tenant_id = 'acme'", (rest,))
    assert [batch["tenant"] for batch in maintain()] == ["zeta"]
    assert missing(tenant) == 5


def test_a_refused_page_between_others_is_not_asked_again(tenant: Tenant) -> None:
    without_vectors(tenant)
    end_of_pause(tenant)
    pages = tenant.rows("SELECT source_id, chunk_type, chunk_index FROM gleaner.tenant_knowledge ORDER BY source_id")
    page, kind, index = pages[2]
    tenant.conn.execute(
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, item, reason)"
        " VALUES ('acme', 'embed', %s, %s, 'too long')",
        (page, f"{kind}/{index}"),
    )
    inputs = tenant.endpoint.stats().inputs
    maintain()
    assert tenant.endpoint.stats().inputs - inputs == 4
    assert tenant.rows("SELECT source_id FROM gleaner.tenant_knowledge WHERE embedding IS NULL") == [(page,)]


def test_each_maintenance_counts_and_waits_from_its_own_beginning(tenant: Tenant) -> None:
    without_vectors(tenant)
    end_of_pause(tenant)
    maintain()
    tenant.conn.execute(
        "UPDATE gleaner.batch_report SET started_at = now() - interval '25 hours' WHERE stage = 'renew'"
    )
    tenant.conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL, content_hash = ''")
    tenant.conn.execute("UPDATE gleaner.knowledge_generation SET set_hash = ''")
    tenant.endpoint.configure(rate_limit_first=1000, retry_after="600")
    (batch,) = pipeline.find_missing_vectors()
    with pytest.raises(AirflowRescheduleException):
        pipeline.fill_vectors(batch, 1)
    tenant.endpoint.configure(rate_limit_first=0)
    assert pipeline.fill_vectors(batch, 1)["embedded"] == 5


def test_a_page_that_waits_to_be_loaded_is_left_to_its_run(tenant: Tenant) -> None:
    without_vectors(tenant)
    end_of_pause(tenant)
    tenant.conn.execute("UPDATE gleaner.website_page SET state = 'completed'")
    assert pipeline.find_missing_vectors() == []


KILLED = """
import sys
from include.gleaner import pipeline
for batch in pipeline.find_missing_vectors():
    pipeline.fill_vectors(batch, 1)
"""


def test_killed_in_the_middle_and_run_again_it_pays_for_nothing_twice(
    tenant: Tenant, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"fruit{number}" for number in range(12))
    without_vectors(tenant, names)
    end_of_pause(tenant)
    inputs = tenant.endpoint.stats().inputs
    with psycopg.connect(knowledge_dsn) as blocker:  # vectors are paid for and stored, then the load waits for a lock
        blocker.execute("SELECT 1 FROM gleaner.knowledge_generation FOR UPDATE")
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        deadline = time.monotonic() + 180
        while not tenant.rows("SELECT 1 FROM gleaner.pending_embedding") and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    paid = tenant.endpoint.stats().inputs - inputs
    assert (paid, missing(tenant)) == (13, 13)
    maintain()
    assert missing(tenant) == 0
    assert tenant.endpoint.stats().inputs - inputs == paid


def test_two_at_once_leave_each_chunk_its_vector(tenant: Tenant) -> None:
    without_vectors(tenant)
    end_of_pause(tenant)
    processes = [
        subprocess.Popen([sys.executable, "-c", KILLED], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        for _ in range(2)
    ]
    assert [process.wait(240) for process in processes] == [0, 0]
    maintain()
    assert missing(tenant) == 0
    assert len(tenant.knowledge()) == 5


def test_what_must_be_true_is_looked_at(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.conn.execute(
        "INSERT INTO gleaner.pending_embedding (tenant_id, embedding_model, text_hash, embedding, created_at)"
        " VALUES ('acme', 'm', 'old', '[1]', now() - interval '15 days'), ('acme', 'm', 'new', '[1]', now())"
    )
    report = pipeline.look_over_knowledge()
    assert report == {
        "constraint": maintaining.CONSTRAINT, "duplicates": 0, "invalid_indexes": [], "disagreeing_fences": 0,
        "chunks_without_vector": 0, "tenants_without_vectors": 0, "pages_not_chunked": 0, "pruned_vectors": 1,
        "pruned_snapshots": 0, "pruned_tombstones": 0, "forgotten_websites": 0, "given_up": 0,
    }  # fmt: skip
    assert tenant.rows("SELECT text_hash FROM gleaner.pending_embedding") == [(b"new",)]
    tenant.conn.execute("DELETE FROM gleaner.tenant_knowledge WHERE full_text LIKE '%apples%'")
    policy = embedding()[0]
    assert maintaining.look_over(tenant.conn, policy, hour=7)["disagreeing_fences"] == 2
    monkeypatch.setattr(maintaining, "LARGE", 0)
    tenant.conn.execute("ANALYZE gleaner.tenant_knowledge")
    found = [maintaining.look_over(tenant.conn, policy, hour=hour)["disagreeing_fences"] for hour in range(24)]
    # Each in the hour of its id, which is a hash of its address: now and then both have the same one.
    pages = tenant.rows(
        "SELECT page_id FROM gleaner.website_page WHERE NOT EXISTS"
        " (SELECT FROM gleaner.tenant_knowledge WHERE source_id = page_id)"
    )
    hours = [page.int * 24 >> 128 for (page,) in pages]
    assert len(hours) == 2
    assert found == [hours.count(hour) for hour in range(24)]


def test_each_hour_looks_at_other_pages_and_a_day_at_all() -> None:
    ranges = [maintaining.pages_of(hour, 24) for hour in range(24)]
    assert ranges[0]["first_page"].int == 0
    assert ranges[-1]["last_page"].int == 2**128 - 1
    for before, after in pairwise(ranges):
        assert after["first_page"].int == before["last_page"].int + 1


def test_what_is_known_of_paces_and_endpoints_goes_when_it_says_nothing_any_more(tenant: Tenant) -> None:
    tenant.conn.execute(
        "INSERT INTO gleaner.endpoint_state (endpoint, state, updated_at) VALUES"
        " ('pace:acme/x/load', '', now() - interval '3 days'), ('pace:acme/y/load', '', now() - interval '1 day'),"
        " ('api.openai.com:443/m', '', now() - interval '3 days'),"
        " ('old.example:443/m', '', now() - interval '91 days')"
    )
    pipeline.look_over_knowledge()
    left = tenant.rows("SELECT endpoint FROM gleaner.endpoint_state ORDER BY 1")
    assert left == [("api.openai.com:443/m",), ("pace:acme/y/load",)]


def test_without_its_constraint_the_table_is_told_to_be_damaged(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.conn.execute("ALTER TABLE gleaner.tenant_knowledge REPLICA IDENTITY DEFAULT")
    tenant.conn.execute("ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT unique_chunk_per_source")
    tenant.conn.execute("INSERT INTO gleaner.tenant_knowledge SELECT * FROM gleaner.tenant_knowledge LIMIT 2")
    with pytest.raises(KnowledgeDamagedError, match="is gone, there are 2 duplicate keys"):
        pipeline.look_over_knowledge()


def test_an_index_that_is_not_valid_is_told(tenant: Tenant) -> None:
    tenant.conn.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'gleaner.tenant_knowledge_search'::regclass"
    )
    with pytest.raises(KnowledgeDamagedError, match="tenant_knowledge_search; run REINDEX INDEX CONCURRENTLY"):
        pipeline.look_over_knowledge()
