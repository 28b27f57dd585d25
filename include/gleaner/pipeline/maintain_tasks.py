"""The tasks of maintain_knowledge, in their order."""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from include.gleaner.pipeline.batches import BatchData, batch_from_data, batch_to_data

log = logging.getLogger(__name__)


def find_missing_vectors() -> list[BatchData]:
    """Batches of loaded pages whose chunks wait for vectors, tenants in fair turns; none while the endpoint fails."""
    from include.gleaner.pipeline import maintaining
    from include.gleaner.pipeline.connections import embedding, knowledge_connection

    policy, _ = embedding()
    with knowledge_connection() as conn:
        found = maintaining.find_missing(conn, policy)
    log.info("%d pages wait for vectors, in %d batches", sum(batch.pages for _, _, batch in found), len(found))
    return [
        {**batch_to_data(batch), "tenant": tenant, "source": str(source), "label": f"{tenant} · {batch.label}"}
        for tenant, source, batch in found
    ]


def fill_vectors(batch: BatchData, try_number: int) -> dict[str, int]:
    """Give the batch's chunks the vectors they lack; counts. Reschedules and raises like `load_chunks`."""
    from include.gleaner.embed import open_embedder
    from include.gleaner.pipeline import maintaining
    from include.gleaner.pipeline.connections import embedding, endpoint_gate, knowledge_connection

    policy, api_key = embedding()
    with knowledge_connection() as conn:
        tally = maintaining.fill_batch(
            conn,
            tenant_id=batch["tenant"],
            source_id=uuid.UUID(batch["source"]),
            batch=batch_from_data(batch),
            policy=policy,
            embedder=open_embedder(policy, api_key, endpoint_gate(conn, policy, batch["tenant"])),
            try_number=try_number,
        )
    return {"pages": tally.pages, "embedded": tally.embedded, "paused": tally.paused, **asdict(tally.stored)}


def find_pages_to_mend(run_id: str) -> list[BatchData]:
    """Batches of pages that a run left behind when it died, or that failed and are due for another try."""
    from include.gleaner.pipeline import maintaining
    from include.gleaner.pipeline.connections import knowledge_connection

    with knowledge_connection() as conn:
        batches = maintaining.find_to_mend(conn, run_id)
    pages = sum(part["pages"] for batch in batches for part in batch["parts"])
    log.info("%d pages with content are not loaded and no run is at it, in %d batches", pages, len(batches))
    return batches


def mend_pages(batch: BatchData, try_number: int) -> dict[str, int]:
    """Read and load the pages of the batch; counts. Reschedules and raises like `load_chunks`."""
    from include.gleaner.embed import open_embedder
    from include.gleaner.pipeline import maintaining
    from include.gleaner.pipeline.connections import embedding, endpoint_gate, knowledge_connection
    from include.gleaner.pipeline.rework import Part

    policy, api_key = embedding()
    counts = {"pages": 0, "failed": 0, "chunks": 0}
    with knowledge_connection() as conn:
        for part in map(Part.from_data, batch["parts"]):
            embedder = open_embedder(policy, api_key, endpoint_gate(conn, policy, part.tenant_id))
            tally = maintaining.mend_part(conn, part, policy=policy, embedder=embedder, try_number=try_number)
            counts["pages"] += tally.pages
            counts["failed"] += tally.failed
            counts["chunks"] += tally.chunks
    return counts


def look_over_knowledge() -> dict[str, Any]:
    """Prune, index and check; the report. Raises KnowledgeDamagedError with what mends it."""
    from include.gleaner.pipeline import maintaining
    from include.gleaner.pipeline.connections import embedding, knowledge_connection

    policy, _ = embedding()
    with knowledge_connection() as conn:
        return maintaining.look_over(conn, policy, hour=datetime.now(UTC).hour)
