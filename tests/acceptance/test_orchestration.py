"""Backfills, refreshes, repairs and several tenants at once on real Airflow, through its API."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.gleaner.errors import RequestError
from include.gleaner.local.airflow import VIEWER
from include.gleaner.pools import CRAWL
from tests.acceptance.conftest import DAG, Gleaner, Run
from tests.acceptance.test_ingest import KNOWLEDGE
from tests.acceptance.waiting import TENANT, conf, wait, wait_for

REBUILD = "rebuild_knowledge"
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 7
EMPTY = 3  # the day, from 0, on which nothing was fetched


@pytest.fixture(scope="module")
def ingested(gleaner: Gleaner) -> Run:
    run = gleaner.ingest(conf(gleaner))
    assert run.state == "success"
    return run


@pytest.fixture(scope="module")
def days(gleaner: Gleaner, ingested: Run) -> list[int]:
    """Pages of the tenant as if fetched on the days of a week, but one; how many on each."""
    pages = gleaner.rows(
        "SELECT page_id FROM gleaner.website_page WHERE tenant_id = %s AND generation IS NOT NULL ORDER BY 1", TENANT
    )
    counts = [0] * DAYS
    with gleaner.connect() as conn:
        for number, (page_id,) in enumerate(pages):
            day = number % DAYS if number % DAYS != EMPTY else EMPTY + 1
            counts[day] += 1
            conn.execute(
                "UPDATE gleaner.website_page SET fetched_at = %s WHERE tenant_id = %s AND page_id = %s",
                (FIRST + timedelta(days=day, hours=12), TENANT, page_id),
            )
    return counts


def backfill(gleaner: Gleaner, **more: Any) -> dict[str, Any]:
    return {
        "dag_id": REBUILD, "from_date": FIRST.isoformat(), "to_date": (FIRST + timedelta(days=DAYS - 1)).isoformat(),
        "dag_run_conf": {"tenant": TENANT}, "max_active_runs": 3, **more,
    }  # fmt: skip


def test_a_backfill_of_a_week_rebuilds_each_day_once(gleaner: Gleaner, days: list[int]) -> None:
    before = gleaner.rows(KNOWLEDGE, TENANT)
    with gleaner.connect() as conn:
        conn.execute(
            "UPDATE gleaner.tenant_knowledge SET full_text = 'old', content_hash = '\\x00' WHERE tenant_id = %s",
            (TENANT,),
        )
        conn.execute("UPDATE gleaner.knowledge_generation SET set_hash = '\\x00' WHERE tenant_id = %s", (TENANT,))
    gleaner.api.unpause(REBUILD)
    dry = gleaner.api.backfill(backfill(gleaner), dry_run=True)["backfills"]
    assert len(dry) == DAYS
    assert gleaner.rows("SELECT count(*) FROM gleaner.crawl_job WHERE kind = 'rebuild'") == [(0,)]
    gleaner.api.backfill(backfill(gleaner))
    runs: list[dict[str, Any]] = []

    def over() -> bool:
        runs[:] = [
            run
            for run in gleaner.api.runs(REBUILD)
            if run["run_type"] == "backfill" and run["conf"]["tenant"] == TENANT
        ]
        return len(runs) == DAYS and all(run["state"] in ("success", "failed") for run in runs)

    wait(gleaner, over, "the backfill is not over")
    assert {run["state"] for run in runs} == {"success"}
    pages = {}
    for run in runs:
        report = gleaner.api.xcom(REBUILD, run["dag_run_id"], "report")
        day = (datetime.fromisoformat(run["data_interval_start"]) - FIRST).days
        pages[day] = report["work"]["processed"]
        tasks = gleaner.api.task_instances(REBUILD, run["dag_run_id"])
        states = {task["task_id"]: task["state"] for task in tasks}
        expected = "skipped" if day == EMPTY else "success"
        assert (states["process"], states["load"], states["report"]) == (expected, expected, "success")
    # Aliases and pages without content have no chunks, but a snapshot: what was processed is what is loaded, at least.
    assert pages[EMPTY] == 0
    assert all(0 < pages[day] <= days[day] for day in range(DAYS) if day != EMPTY)
    stable = [(row[0], row[1], row[2], row[3], row[4]) for row in before]
    assert [(row[0], row[1], row[2], row[3], row[4]) for row in gleaner.rows(KNOWLEDGE, TENANT)] == stable
    assert gleaner.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE full_text = 'old'") == [(0,)]
    events = [e for e in gleaner.api.asset_events(f"tenant_knowledge/{TENANT}") if e["source_dag_id"] == REBUILD]
    assert {event["extra"]["source"] for event in events} == {gleaner.stack.website_url}
    assert len(events) == DAYS - 1
    assert sum(event["extra"]["work"]["updated"] for event in events) == len(before)


def test_bad_conf_of_a_backfill_is_refused(gleaner: Gleaner, days: list[int]) -> None:
    with pytest.raises(RequestError, match=r"4\d\d"):
        gleaner.api.backfill(backfill(gleaner, dag_run_conf={"stage": "crawl"}))


def test_what_is_due_is_refreshed_once(gleaner: Gleaner, ingested: Run) -> None:
    with gleaner.connect() as conn:
        conn.execute("UPDATE gleaner.website_source SET paused = tenant_id <> %s", (TENANT,))
        conn.execute(
            "UPDATE gleaner.crawl_job SET started_at = started_at - interval '2 days' WHERE tenant_id = %s", (TENANT,)
        )
    before = gleaner.rows(KNOWLEDGE, TENANT)
    gleaner.api.unpause("refresh_websites")
    run_id = gleaner.api.trigger("refresh_websites", {})
    assert wait_for(gleaner, "refresh_websites", run_id) == "success"
    (triggered,) = [run for run in gleaner.api.runs(DAG) if run["dag_run_id"].startswith(f"refresh__{TENANT}__")]
    assert triggered["conf"]["url"] == gleaner.stack.website_url
    assert wait_for(gleaner, DAG, triggered["dag_run_id"]) == "success"
    # Unpausing started a run of its own; whichever came first has triggered it, and the other one was skipped.
    runs = [run["dag_run_id"] for run in gleaner.api.runs("refresh_websites")]
    tasks = [task for each in runs for task in gleaner.api.task_instances("refresh_websites", each)]
    (name,) = {
        task["rendered_map_index"] for task in tasks if (task["task_id"], task["state"]) == ("ingest", "success")
    }
    assert name == f"{TENANT} · {gleaner.stack.website_url}"
    assert gleaner.rows(KNOWLEDGE, TENANT) == before
    # Cleared, with the mapped task as it was: the run is there already.
    gleaner.api.clear("refresh_websites", run_id, ["ingest"])
    assert wait_for(gleaner, "refresh_websites", run_id) == "success"
    runs = [run for run in gleaner.api.runs(DAG) if run["dag_run_id"].startswith(f"refresh__{TENANT}__")]
    assert len(runs) == 1


@pytest.mark.parametrize("task_id", ["process", "load", "reconcile", "survey", "plan", "crawl"])
def test_any_task_may_be_cleared_and_run_again(gleaner: Gleaner, ingested: Run, task_id: str) -> None:
    """In this order, because what is done is not planned again: after `plan` there is no batch left to clear."""
    before = gleaner.rows(KNOWLEDGE, TENANT)
    report = gleaner.api.xcom(DAG, ingested.run_id, "reconcile")
    assert task_id in gleaner.api.clear(DAG, ingested.run_id, [task_id])
    assert wait_for(gleaner, DAG, ingested.run_id) == "success"
    tasks = [task for task in gleaner.api.task_instances(DAG, ingested.run_id) if task["task_id"] == task_id]
    assert min(task["try_number"] for task in tasks) > 1
    assert gleaner.rows(KNOWLEDGE, TENANT) == before
    again = gleaner.api.xcom(DAG, ingested.run_id, "reconcile")
    assert (again["gap"], again["chunks"]) == (report["gap"], report["chunks"])


def test_a_run_that_is_cancelled_and_deleted_is_done_by_the_next(gleaner: Gleaner, ingested: Run) -> None:
    run_id = gleaner.api.trigger(DAG, conf(gleaner, "cancelled", jitter_seconds=60, batch_size=5))
    wait(
        gleaner,
        lambda: any(task["state"] == "up_for_reschedule" for task in gleaner.api.task_instances(DAG, run_id)),
        "no batch waits",
    )
    gleaner.api.fail_run(DAG, run_id)
    wait(gleaner, lambda: gleaner.api.dag_run(DAG, run_id)["state"] == "failed", "the run goes on")
    gleaner.api.delete_run(DAG, run_id)
    run = gleaner.ingest(conf(gleaner, "cancelled"))
    assert (run.state, run.report is not None and run.report["gap"]["pages_not_chunked"]) == ("success", 0)
    columns = "chunk_type, chunk_index, full_text"
    query = f"SELECT {columns} FROM gleaner.tenant_knowledge WHERE tenant_id = %s ORDER BY 3, 1, 2"
    assert gleaner.rows(query, "cancelled") == gleaner.rows(query, TENANT)


def test_who_waits_for_a_tenant_is_told_of_its_runs_but_not_of_dry_ones(gleaner: Gleaner) -> None:
    run = gleaner.ingest(conf(gleaner, "announced", max_pages=3))
    assert run.state == "success"
    (event,) = gleaner.api.asset_events("tenant_knowledge/announced")
    extra = event["extra"]
    assert (extra["source"], extra["table"]) == (gleaner.stack.website_url, "gleaner.tenant_knowledge")
    assert abs(datetime.fromisoformat(extra["at"]) - datetime.now(UTC)) < timedelta(minutes=10)
    ((rows,),) = gleaner.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE tenant_id = 'announced'")
    assert (extra["work"]["created"], extra["work"]["updated"], extra["work"]["deleted"]) == (rows, 0, 0)
    assert event["uri"] == "gleaner://tenant_knowledge/announced"
    assert run.report is not None
    assert (event["extra"]["tenant"], event["extra"]["work"]) == ("announced", run.report["work"])
    assert any(event["extra"]["tenant"] == "announced" for event in gleaner.api.asset_events("tenant_knowledge"))
    assert gleaner.ingest(conf(gleaner, "announced", max_pages=3, dry_run=True)).state == "success"
    assert len(gleaner.api.asset_events("tenant_knowledge/announced")) == 1


def test_a_pool_that_is_missing_is_made_again(gleaner: Gleaner) -> None:
    gleaner.api.delete_pool(CRAWL.name)
    run = gleaner.ingest(conf(gleaner, "pooled", max_pages=3))
    assert run.state == "success"


def test_the_progress_is_told_as_a_sentence_and_as_fields(gleaner: Gleaner, ingested: Run) -> None:
    lines = gleaner.api.log(DAG, ingested.run_id, "process", map_index=0)
    told = [line for line in lines if isinstance(line, dict) and line.get("stage") == "process"]
    assert any("pages/s" in line["event"] and line["done"] <= line["of"] for line in told), lines
    assert any(line["event"].startswith("run: ") for line in told)


def test_no_task_is_the_first_to_be_served(gleaner: Gleaner, ingested: Run) -> None:
    """What they talk to is made at its first request, which takes longer than a task waits for an answer."""
    log = (gleaner.stack.airflow.password_file.parent / "api-server.log").read_text("utf-8")
    paths = re.findall(r" path=(/execution/\S+)", log)
    assert paths[0] == "/execution/health"
    assert any(path.endswith("/run") for path in paths)


def test_a_viewer_may_look_and_change_nothing(gleaner: Gleaner, ingested: Run) -> None:
    viewer = gleaner.stack.airflow.api_as(VIEWER)
    assert viewer.dag_run(DAG, ingested.run_id)["state"] == "success"
    for forbidden in (
        lambda: viewer.trigger(DAG, conf(gleaner)),
        lambda: viewer.fail_run(DAG, ingested.run_id),
        lambda: viewer.clear(DAG, ingested.run_id, ["crawl"]),
        lambda: viewer.backfill(backfill(gleaner)),
    ):
        with pytest.raises(RequestError, match="403"):
            forbidden()
