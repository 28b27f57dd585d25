"""The Airflow assets that Gleaner's runs produce, so that other DAGs can wait for them.

A DAG that is to run after anybody's ingest takes `schedule=[TENANT_KNOWLEDGE]`, one that waits for a single tenant
`schedule=[knowledge_of("acme")]`. The events carry the run's report. Both are announced through one alias: a dry run
announces nothing, and tenants need not be known when the DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from airflow.sdk import Asset, AssetAlias

TENANT_KNOWLEDGE = Asset(name="tenant_knowledge", uri="gleaner://tenant_knowledge")
ANNOUNCED = AssetAlias("tenant_knowledge_announced")
TABLE: Final = "gleaner.tenant_knowledge"


def knowledge_of(tenant: str) -> Asset:
    """The asset of one tenant's knowledge."""
    return Asset(name=f"tenant_knowledge/{tenant}", uri=f"gleaner://tenant_knowledge/{tenant}")


def announce(events: Any, tenant: str, report: Mapping[str, Any]) -> None:
    """Tell those who wait that the tenant's knowledge is up to date; `events` are the task's `outlet_events`.

    The extra says from which website (`source`) into which table how many rows went (`work`), and when.
    """
    if "dry_run" in report:
        return
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for asset in (TENANT_KNOWLEDGE, knowledge_of(tenant)):
        events[ANNOUNCED].add(asset, extra={"tenant": tenant, "table": TABLE, "at": at, **report})
