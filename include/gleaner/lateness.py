"""Tells when a run of one of Gleaner's DAGs is late, while it still runs or waits: a deadline that Airflow watches.

The scheduler counts the miss (`deadline_alerts.deadline_missed` in Airflow's metrics) and hands `tell` to the
triggerer, which works with every executor; what it returns is kept with the callback in Airflow's database.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

log = logging.getLogger(__name__)

VARIABLE: Final = "GLEANER_LATE_AFTER_MINUTES"
DEFAULT_MINUTES: Final = 120.0


def deadline(environ: Mapping[str, str] | None = None) -> DeadlineAlert | None:
    """For `@dag(deadline=...)`: a run is late so many minutes after it was queued as GLEANER_LATE_AFTER_MINUTES says.

    0 is never. What is no such number counts as not said: a DAG file must not fail to parse for it.
    """
    minutes = _minutes((os.environ if environ is None else environ).get(VARIABLE, ""))
    if not minutes:
        return None
    return DeadlineAlert(
        name="late",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=minutes),
        callback=AsyncCallback(tell),
    )


async def tell(context: Mapping[str, Any] | None = None) -> str:
    """Log that a run is late, in one line; the line. Called in the triggerer.

    `context` is what the scheduler knows: the run as the API shows it, and the deadline. Of the Params only the tenant
    is repeated.
    """
    run = (context or {}).get("dag_run") or {}
    tenant = (run.get("conf") or {}).get("tenant")
    whose = f" of tenant {tenant!r}" if isinstance(tenant, str) else ""
    line = (
        f"{run.get('dag_id', 'a DAG')}: run {run.get('dag_run_id', '?')}{whose} is late; it is "
        f"{run.get('state', '?')}, queued at {run.get('queued_at', '?')}. Look at its tasks and at the pools"
    )
    log.warning(line)
    _count(str(run.get("dag_id", "")))
    return line


def _count(dag_id: str) -> None:
    from airflow.sdk.observability import stats

    stats.incr("gleaner.late_runs", tags={"dag_id": dag_id})


def _minutes(value: str) -> float:
    try:
        minutes = float(value)
    except ValueError:
        minutes = -1.0
    if 0 <= minutes <= 60 * 24 * 365:
        return minutes
    if value.strip():
        log.warning("%s needs a number of minutes, 0 for never; %g is taken", VARIABLE, DEFAULT_MINUTES)
    return DEFAULT_MINUTES
