"""An endpoint that fails or asks for patience: what was paid for stays, nobody waits on a slot, the gap is filled."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from include.gleaner import pipeline
from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.client import EndpointEmbedder
from include.gleaner.errors import ConnectionMissingError, EmbeddingQuotaError, EmbeddingRefusedError, SetupError
from include.gleaner.pipeline import patience
from include.gleaner.report.run_report import lines
from include.gleaner.shared import breaker
from tests.support.articles import NAMES, website
from tests.support.embedding_server import API_KEY
from tests.support.rework import end_of_pause
from tests.support.tenant import Tenant


def connect(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    told = {"model": "text-embedding-3-small", "dimensions": 1_536, **extra}
    entry = {"conn_type": "generic", "host": tenant.endpoint.url, "password": API_KEY, "extra": told}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(entry))


def prepared(tenant: Tenant, **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crawled and processed, as run "run-x"; what is to be loaded."""
    params = tenant.params(**more)
    pipeline.crawl_website(params, "run-x")
    for batch in pipeline.plan_batches(params, "run-x"):
        pipeline.process_pages(params, "run-x", batch, 1)
    return params, pipeline.survey_site(params, "run-x")


def test_an_endpoint_that_fails_for_all_leaves_chunks_without_vectors_and_the_run_green(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.endpoint.configure(error_every=1, error_status=503)
    report = tenant.run()
    assert tenant.endpoint.stats().calls == breaker.FAILURES
    assert len(tenant.knowledge()) == 5
    assert (report["gap"]["chunks_without_vector"], report["paused"]) == (5, 5)
    assert (report["failures"], report["gap"]["pages_not_chunked"]) == ([], 0)
    assert any(label == "Endpoint" and "5 texts wait" in text for label, text in lines(report))
    report = tenant.run()  # the breaker is still open: it costs the endpoint nothing
    assert (tenant.endpoint.stats().calls, report["paused"]) == (breaker.FAILURES, 5)
    tenant.endpoint.configure(error_every=0)
    end_of_pause(tenant)
    report = tenant.run()
    assert (report["gap"]["chunks_without_vector"], report["paused"], report["work"]["updated"]) == (0, 0, 5)
    assert tenant.endpoint.stats().calls == breaker.FAILURES + 1


def test_what_was_answered_before_the_pause_is_kept(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    calls = tenant.endpoint.stats().calls
    more = tuple(f"fruit{number}" for number in range(6))
    tenant.site.routes = website(*NAMES, *more)
    params, batches = prepared(tenant, batch_size=1)
    pipeline.load_chunks(params, "run-x", batches[0], 1)
    tenant.endpoint.configure(error_every=1)
    for batch in batches[1:]:
        pipeline.load_chunks(params, "run-x", batch, 1)
    report = pipeline.reconcile(params, "run-x")
    assert report["gap"]["chunks_without_vector"] == len(batches) - 1 == report["paused"]
    assert tenant.endpoint.stats().calls == calls + 1 + breaker.FAILURES


def test_a_long_wait_is_a_reschedule_and_no_sleep(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    params, (batch,) = prepared(tenant)
    tenant.endpoint.configure(rate_limit_first=1, retry_after="300")
    began = time.monotonic()
    with pytest.raises(AirflowRescheduleException) as caught:
        pipeline.load_chunks(params, "run-x", batch, 1)
    assert time.monotonic() - began < 30
    wanted = datetime.now(UTC) + timedelta(seconds=300)
    assert abs((caught.value.reschedule_date - wanted).total_seconds()) < 60
    pipeline.load_chunks(params, "run-x", batch, 1)  # the same try
    report = pipeline.reconcile(params, "run-x")
    assert (report["work"]["embedded"], report["work"]["requests"], report["gap"]["chunks_without_vector"]) == (5, 1, 0)


def test_what_was_paid_before_a_reschedule_is_neither_paid_nor_counted_twice(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five requests two are let through by the limit of requests; the rest follows when the task begins again."""
    tenant.site.routes = website(*NAMES)
    connect(tenant, monkeypatch, requests_per_minute=12)  # two at once, then one in five seconds
    params, (batch,) = prepared(tenant)
    real = EmbedPolicy.__init__

    def hurried(self: EmbedPolicy, **values: Any) -> None:
        real(self, **{**values, "max_inputs": 1, "max_wait_seconds": 1.0})

    monkeypatch.setattr(EmbedPolicy, "__init__", hurried)
    with pytest.raises(AirflowRescheduleException):
        pipeline.load_chunks(params, "run-x", batch, 1)
    assert tenant.endpoint.stats().calls == 2
    connect(tenant, monkeypatch)
    pipeline.load_chunks(params, "run-x", batch, 1)
    report = pipeline.reconcile(params, "run-x")
    assert tenant.endpoint.stats().inputs == 5
    work = report["work"]
    assert (work["embedded"], work["requests"], work["reused"], work["tokens"]) == (
        5, 5, 0, tenant.endpoint.stats().tokens,
    )  # fmt: skip


def test_a_day_of_waiting_is_enough(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    params, (batch,) = prepared(tenant)
    tenant.endpoint.configure(rate_limit_every=1, retry_after="300")
    with pytest.raises(AirflowRescheduleException):
        pipeline.load_chunks(params, "run-x", batch, 1)
    tenant.conn.execute("UPDATE gleaner.batch_report SET started_at = now() - interval '1 day' WHERE stage = 'load'")
    with pytest.raises(EmbeddingQuotaError):
        pipeline.load_chunks(params, "run-x", batch, 1)
    assert patience.MOST_SECONDS == 24 * 3_600


def test_limits_hold_over_tasks_side_by_side(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tasks at once, a limit of 60 requests a minute with ten at once: the endpoint sees no more in any time."""
    names = tuple(f"fruit{number}" for number in range(13))
    tenant.site.routes = website(*names)
    connect(tenant, monkeypatch, requests_per_minute=60)
    params, batches = prepared(tenant, batch_size=1)
    assert len(batches) == 14
    began = time.monotonic()
    queue = list(batches)

    def work() -> None:
        while queue:
            pipeline.load_chunks(params, "run-x", queue.pop(), 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tenant.endpoint.stats().calls == 14
    assert time.monotonic() - began >= 3.5  # ten at once, four more at one a second
    assert pipeline.reconcile(params, "run-x")["gap"]["chunks_without_vector"] == 0


def test_a_model_that_cannot_be_loaded_is_no_matter_of_single_pages(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.site.routes = website(*NAMES)
    params, (batch,) = prepared(tenant)

    def broken(_: EndpointEmbedder) -> None:
        raise SetupError("the model is not installed")

    monkeypatch.setattr(EndpointEmbedder, "limit", property(broken))
    with pytest.raises(SetupError, match="not installed"):
        pipeline.load_chunks(params, "run-x", batch, 1)
    assert tenant.rows("SELECT count(*) FROM gleaner.dead_letter") == [(0,)]


def test_an_address_that_is_none_is_told_by_the_task(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*NAMES)
    params, (batch,) = prepared(tenant)
    entry = {"conn_type": "generic", "host": "http://example.com:99999/v1", "password": API_KEY}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(entry))
    for task in (lambda: pipeline.load_chunks(params, "run-x", batch, 1), pipeline.find_missing_vectors):
        with pytest.raises(EmbeddingRefusedError, match="address"):
            task()


@pytest.mark.parametrize("db", ["one", -1, True, 1.5])
def test_a_redis_database_that_is_none_is_told(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, db: Any) -> None:
    entry = {"conn_type": "redis", "host": "127.0.0.1", "extra": {"db": db}}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_REDIS", json.dumps(entry))
    with pytest.raises(ConnectionMissingError, match=r"gleaner_redis.*db"):
        pipeline.find_missing_vectors()


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
@pytest.mark.parametrize("value", [0, -1, "many", 1.5, True])
def test_a_limit_that_is_none_is_refused_by_name(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    tenant.site.routes = website("apples")
    connect(tenant, monkeypatch, **{name: value})
    with pytest.raises(ConnectionMissingError, match=name):
        pipeline.crawl_website(tenant.params(), "run-x")
