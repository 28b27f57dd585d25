"""The task of refresh_websites: which websites are due."""

from __future__ import annotations

import logging
from typing import Any

from include.gleaner.config import MAX_BATCHES

log = logging.getLogger(__name__)


def find_due_websites() -> list[dict[str, Any]]:
    """For each website that is due, tenants in fair turns: the conf of its ingest, and the id of the run to trigger.

    The id says the website, its last crawl and the day: whoever finds it due before it is crawled again triggers the
    same run, and one that never got as far as a crawl is triggered anew on the next day. Raises SetupError.
    """
    from include.gleaner.pipeline.connections import knowledge_connection
    from include.gleaner.sql import queries

    with knowledge_connection() as conn:
        rows = conn.execute(queries("sources")["due"], {"tenant_id": None, "most": MAX_BATCHES}).fetchall()
    log.info("%d websites of %d tenants are due", len(rows), len({row[0] for row in rows}))
    return [
        {"conf": params, "trigger_run_id": f"refresh__{tenant_id}__{source_id}__{day:%Y-%m-%d}__{last_job}"}
        for tenant_id, source_id, params, last_job, day in rows
    ]
