"""The tasks of rebuild_knowledge, in their order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.gleaner.errors import RunFailedError
from include.gleaner.pipeline.batches import BatchData
from include.gleaner.rebuild_request import RebuildRequest

if TYPE_CHECKING:
    from include.gleaner.config import EmbedPolicy

log = logging.getLogger(__name__)

Interval = tuple[datetime | None, datetime | None]


def find_pages_of_interval(params: Mapping[str, Any], run_id: str, interval: Interval) -> list[BatchData]:
    """Batches of pages whose newest content was fetched in the interval and is to be read again; none on an empty day.

    Raises InvalidParamError, UnknownParamError, SetupError.
    """
    request = RebuildRequest.from_params(params, interval)
    parts, policy = _parts(request, run_id)
    log.info("%d pages fetched from %s to %s are done again from %s on with %s, in %d parts", sum(part["pages"] for
             batch in parts for part in batch["parts"]), request.since, request.until, request.stage, policy.model,
             sum(len(batch["parts"]) for batch in parts))  # fmt: skip
    return parts if request.stage == "process" and not request.dry_run else []


def reprocess_pages(params: Mapping[str, Any], interval: Interval, batch: BatchData, try_number: int) -> dict[str, int]:
    """Read the batch's pages again from their stored bytes; counts. A page that changed meanwhile is left alone."""
    request = RebuildRequest.from_params(params, interval)
    from include.gleaner.pipeline import rework
    from include.gleaner.pipeline.collecting import spare_modules
    from include.gleaner.pipeline.connections import knowledge_connection
    from include.gleaner.sql import queries

    spare_modules()
    counts = {"pages": 0, "skipped": 0, "failed": 0}
    with knowledge_connection() as conn:
        for part in map(rework.Part.from_data, batch["parts"]):
            tally = rework.process_part(
                conn, part, try_number, snapshots=queries("rebuild")["snapshots_of_interval"], where=_where(request)
            )
            counts["pages"] += tally.pages
            counts["skipped"] += tally.skipped
            counts["failed"] += tally.failed
    return counts


def find_documents_of_interval(params: Mapping[str, Any], run_id: str, interval: Interval) -> list[BatchData]:
    """Batches of pages to cut, embed and load again; what their sites repeat is looked at anew before."""
    request = RebuildRequest.from_params(params, interval)
    from include.gleaner.pipeline.connections import knowledge_connection
    from include.gleaner.pipeline.surveying import survey

    if request.stage == "process" and not request.dry_run:
        batches, _ = _parts(request, run_id)
        sources = dict.fromkeys((part["tenant"], part["source"]) for batch in batches for part in batch["parts"])
        with knowledge_connection() as conn:
            for tenant_id, source_id in sources:
                survey(conn, tenant_id=tenant_id, source_id=source_id)
    batches, _ = _parts(request, run_id, documents=True)
    return batches


def reload_chunks(params: Mapping[str, Any], interval: Interval, batch: BatchData, try_number: int) -> dict[str, int]:
    """Cut, embed and load the batch's documents again; counts. Reschedules and raises like `load_chunks`."""
    request = RebuildRequest.from_params(params, interval)
    from include.gleaner.embed import open_embedder
    from include.gleaner.pipeline import rework
    from include.gleaner.pipeline.collecting import spare_modules
    from include.gleaner.pipeline.connections import embedding, endpoint_gate, knowledge_connection
    from include.gleaner.sql import queries

    spare_modules()
    policy, api_key = embedding(request.model, request.dimensions)
    counts = dict.fromkeys(("pages", "chunks", "embedded", "created", "updated", "unchanged", "deleted"), 0)
    with knowledge_connection() as conn:
        for part in map(rework.Part.from_data, batch["parts"]):
            tally = rework.load_part(
                conn, part, try_number, policy=policy, dry_run=request.dry_run, where=_where(request),
                embedder=open_embedder(policy, api_key, endpoint_gate(conn, policy, part.tenant_id)),
                documents=queries("rebuild")["documents_of_interval"], is_beside=policy.model != embedding()[0].model,
            )  # fmt: skip
            for name in counts:
                counts[name] += getattr(tally, name, 0) or getattr(tally.stored, name, 0)
    return counts


def report_rebuild(params: Mapping[str, Any], run_id: str, interval: Interval) -> dict[str, Any]:
    """Index the model, let readers see it where it is complete, store the report and return it.

    Raises RunFailedError when pages of the interval were left undone.
    """
    request = RebuildRequest.from_params(params, interval)
    from include.gleaner.pipeline.connections import embedding, knowledge_connection
    from include.gleaner.pipeline.rebuilding import report

    policy, _ = embedding(request.model, request.dimensions)
    with knowledge_connection() as conn:
        told = report(conn, request, run_id, policy, is_of_connection=policy.model == embedding()[0].model)
    log.info("report: %s", told)
    if told["not_rebuilt"] and not request.dry_run:
        raise RunFailedError(
            f"{told['not_rebuilt']} pages of the interval are not loaded with {policy.model}; see the failed tasks"
        )
    return told


def _parts(request: RebuildRequest, run_id: str, *, documents: bool = False) -> tuple[list[BatchData], EmbedPolicy]:
    from include.gleaner.pipeline import rebuilding, rework
    from include.gleaner.pipeline.connections import embedding, knowledge_connection

    policy, _ = embedding(request.model, request.dimensions)
    with knowledge_connection() as conn:
        return rework.to_batches(rebuilding.find_parts(conn, request, run_id, policy, documents=documents)), policy


def _where(request: RebuildRequest) -> dict[str, Any]:
    return {"since": request.since, "until": request.until}
