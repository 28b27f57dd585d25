"""Runs beside each other: of one tenant that end together, and of a long website and short ones."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from include.gleaner.local.airflow import DATABASE
from include.gleaner.pools import LOAD
from tests.acceptance.conftest import DAG, Gleaner
from tests.acceptance.waiting import conf, wait, wait_for
from tests.support.static_site import StaticSite


def test_two_first_runs_of_a_tenant_that_end_together_are_both_green(
    gleaner: Gleaner, handbook: StaticSite, connection: None
) -> None:
    """Airflow makes an asset that it does not know when a task that announces it ends; only one of two can."""
    sites = (gleaner.stack.website_url, handbook.url)
    runs = [gleaner.api.trigger(DAG, {**conf(gleaner, "twice", max_pages=2), "url": site}) for site in sites]

    def ended() -> int:
        tasks = [task for run in runs for task in gleaner.api.task_instances(DAG, run)]
        return sum(task["task_id"] == "reconcile" and task["state"] in ("success", "failed") for task in tasks)

    with psycopg.connect(gleaner.stack.postgres.dsn(DATABASE)) as airflow:
        wait(
            gleaner,
            lambda: all(gleaner.api.dag_run(DAG, run)["state"] == "running" for run in runs),
            "the runs have not started",
        )
        # Whoever wants to make an asset waits, as when both ask at the same moment.
        airflow.execute("LOCK TABLE asset, asset_alias_asset IN SHARE MODE")
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'"
            " AND relation = ANY('{asset,asset_alias_asset}'::regclass[])"
        )
        wait(
            gleaner,
            lambda: ended() == 2 or (airflow.execute(waiting).fetchone() or (0,))[0] >= 2,
            "the runs have not ended",
        )
        airflow.rollback()
    assert [wait_for(gleaner, DAG, run) for run in runs] == ["success", "success"]
    events = gleaner.api.asset_events("tenant_knowledge/twice")
    assert {event["extra"]["source"] for event in events} == set(sites)


def test_a_long_site_does_not_hold_up_short_ones(gleaner: Gleaner, handbook: StaticSite, connection: None) -> None:
    """Three tenants at once: the short ones are loaded while the long one still is, and no pool is overfull.

    The long one is started as by Airflow's form: with a logical date, which is what equal weights are ordered by.
    """
    long = gleaner.api.trigger(
        DAG, {"tenant": "long", "url": handbook.url, "delay_seconds": 0, "max_pages": 400, "batch_size": 8},
        logical_date=datetime.now(UTC).isoformat(),
    )  # fmt: skip
    wait(
        gleaner,
        lambda: any(
            task["task_id"] == "process" and task["state"] == "running"
            for task in gleaner.api.task_instances(DAG, long)
        ),
        "the long site is not processed",
    )
    short = [gleaner.api.trigger(DAG, conf(gleaner, name, max_pages=10)) for name in ("short-1", "short-2")]
    for run_id in (*short, long):
        assert wait_for(gleaner, DAG, run_id) == "success"
    ends = {run_id: datetime.fromisoformat(gleaner.api.dag_run(DAG, run_id)["end_date"]) for run_id in (*short, long)}
    assert max(ends[run_id] for run_id in short) < ends[long]
    tasks = [task for run_id in (*short, long) for task in gleaner.api.task_instances(DAG, run_id)]
    pools = {pool.name: pool for pool in gleaner.stack.airflow.pools}
    slots = pools[LOAD.name].slots  # as many as those of process
    for pool in pools.values():
        events = sorted(
            (datetime.fromisoformat(moment), change)
            for task in tasks
            if task["pool"] == pool.name and task["start_date"] and task["end_date"]
            for moment, change in ((task["start_date"], 1), (task["end_date"], -1))
        )
        running = peak = 0
        for _, change in events:
            running += change
            peak = max(peak, running)
        assert peak <= pool.slots, pool.name
    # What a short one waits for when its own turn has come: each slot is freed once at most by the long one.
    others = gleaner.api.task_instances(DAG, long)
    weights = {task["map_index"]: task["priority_weight"] for task in others if task["task_id"] == "load"}
    assert len(weights) > 2 * slots
    assert all(weights[number] == weights[0] - number for number in weights)
    for run_id in short:
        own = gleaner.api.task_instances(DAG, run_id)
        for stage, before in (("process", "plan"), ("load", "survey")):
            ready = max(datetime.fromisoformat(task["end_date"]) for task in own if task["task_id"] == before)
            began = min(datetime.fromisoformat(task["start_date"]) for task in own if task["task_id"] == stage)
            starts = [datetime.fromisoformat(task["start_date"]) for task in others if task["task_id"] == stage]
            assert sum(ready < start < began for start in starts) <= 2 * slots, stage
