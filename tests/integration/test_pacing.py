"""Pace and jitter: batches are spread over time by giving the slot back, never by sleeping on it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from include.gleaner import pipeline
from include.gleaner.pipeline import pacing
from include.gleaner.pipeline.accounting import BatchTally
from tests.support.articles import website
from tests.support.tenant import Tenant

RUN = "run-x"


def planned(tenant: Tenant, pages: int, **params: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    tenant.site.routes = website(*[f"page{number}" for number in range(pages - 1)])
    asked = tenant.params(batch_size=8, **params)
    pipeline.crawl_website(asked, RUN)
    return asked, pipeline.plan_batches(asked, RUN)


def delay(task: Any, params: dict[str, Any], batch: dict[str, Any], attempt: int = 1) -> float:
    """Seconds for which the task gives its slot back; 0 when it did its work. It never sleeps."""
    began = time.time()
    try:
        task(params, RUN, batch, attempt)
    except AirflowRescheduleException as reschedule:
        assert time.time() - began < 4  # the shortest wait of these tests is five seconds
        return max(float(reschedule.reschedule_date.timestamp() - began), 0.001)
    return 0.0


def test_without_a_pace_nothing_waits(tenant: Tenant) -> None:
    params, batches = planned(tenant, 24)
    assert [delay(pipeline.process_pages, params, batch) for batch in batches] == [0.0] * 3


def test_batches_wait_for_their_turn_over_all_workers_without_a_slot(tenant: Tenant) -> None:
    params, batches = planned(tenant, 24, pages_per_minute=240)  # four a second: eight pages are two seconds
    waits = [delay(pipeline.process_pages, params, batch) for batch in batches]
    assert waits[0] == 0.0  # ten seconds' worth are there from the start: 40 pages
    assert waits[1:] == [0.0, 0.0]
    slow = {**params, "pages_per_minute": 48}  # eight a bucket
    loads = pipeline.survey_site(slow, RUN)
    began = time.monotonic()
    first = [delay(pipeline.load_chunks, slow, batch) for batch in loads]
    assert first[0] == 0.0
    spent = time.monotonic() - began
    assert spent < 9, "too busy a machine to tell"
    assert all(9.9 - spent <= wait <= 11 for wait in first[1:])  # eight pages at 48 a minute are ten seconds
    tenant.conn.execute("UPDATE gleaner.endpoint_state SET state = jsonb_set(state::jsonb, '{bucket,at}', '0')")
    assert delay(pipeline.load_chunks, slow, loads[1]) == 0.0


def test_a_batch_larger_than_the_bucket_goes_and_leaves_a_debt(tenant: Tenant) -> None:
    params, batches = planned(tenant, 16, pages_per_minute=6)  # one page a bucket
    assert delay(pipeline.process_pages, params, batches[0]) == 0.0
    assert 60 < delay(pipeline.process_pages, params, batches[1]) <= 81  # eight pages at six a minute


def test_the_pace_of_one_website_is_not_that_of_another(tenant: Tenant) -> None:
    params, batches = planned(tenant, 16, pages_per_minute=6)
    assert delay(pipeline.process_pages, params, batches[0]) == 0.0
    other = Tenant(site=tenant.site, endpoint=tenant.endpoint, conn=tenant.conn, name="other")
    params, batches = planned(other, 16, pages_per_minute=6)
    assert delay(pipeline.process_pages, params, batches[0]) == 0.0


def test_jitter_spreads_batches_and_waits_once(tenant: Tenant) -> None:
    params, batches = planned(tenant, 40, jitter_seconds=600.0)
    waits = [delay(pipeline.process_pages, params, batch) for batch in batches]
    assert all(0 < wait <= 600 for wait in waits)
    assert max(waits) - min(waits) > 60
    tenant.conn.execute("UPDATE gleaner.batch_report SET started_at = started_at - interval '10 minutes'")
    assert delay(pipeline.process_pages, params, batches[0], 2) == 0.0  # a retry of one that was killed
    assert [delay(pipeline.process_pages, params, batch) for batch in batches] == [0.0] * len(batches)


@pytest.mark.parametrize("most", [0.0, 60.0])
def test_jitter_is_the_same_for_a_batch_and_even_over_many(most: float) -> None:
    def tally(number: int) -> BatchTally:
        return BatchTally(tenant_id="acme", job_id=1, stage="load", batch_index=number, try_number=1)

    drawn = [pacing.jitter(tally(number), most) for number in range(1_000)]
    assert drawn == [pacing.jitter(tally(number), most) for number in range(1_000)]
    assert all(0 <= seconds <= most for seconds in drawn)
    assert sum(drawn) / 1_000 == pytest.approx(most / 2, rel=0.06)
