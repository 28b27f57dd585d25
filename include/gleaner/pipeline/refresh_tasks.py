"""The task of refresh_websites: which websites are due."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

from include.gleaner.config import MAX_BATCHES

log = logging.getLogger(__name__)

_TELLING: Final = 12  # hex digits of the run's hash; two runs of one website must not share an id


def find_due_websites(run_id: str) -> list[dict[str, Any]]:
    """For each website that is due, tenants in fair turns: the conf of its ingest, and the id of the run to trigger.

    The ids depend on `run_id` and website alone, so a task that is cleared triggers no run twice. Raises SetupError.
    """
    from include.gleaner.pipeline.connections import knowledge_connection
    from include.gleaner.sql import queries

    with knowledge_connection() as conn:
        rows = conn.execute(queries("sources")["due"], {"tenant_id": None, "most": MAX_BATCHES}).fetchall()
    log.info("%d websites of %d tenants are due", len(rows), len({row[0] for row in rows}))
    run = hashlib.sha256(run_id.encode()).hexdigest()[:_TELLING]
    return [
        {"conf": params, "trigger_run_id": f"refresh__{tenant_id}__{source_id}__{run}"}
        for tenant_id, source_id, params in rows
    ]
