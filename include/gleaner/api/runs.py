"""Runs with how fast they went, and what is wrong at a glance."""

from __future__ import annotations

import logging
import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query

from include.gleaner.api.access import may_read
from include.gleaner.api.charts import Batch, depth, pace
from include.gleaner.api.database import knowledge, rows
from include.gleaner.api.sources import SCREENFUL, Tenant
from include.gleaner.errors import GleanerError
from include.gleaner.pipeline.connections import embedding, endpoint_name, endpoint_state
from include.gleaner.pipeline.maintaining import REPLAYS

log = logging.getLogger(__name__)
router: Final = APIRouter(prefix="/api", dependencies=[may_read], tags=["runs"])

STEPS: Final = 60  # of a chart
MOST_COUNTED: Final = 10_000
NEWEST: Final = 2**62

RUN: Final = (
    "job", "source", "url", "run_id", "kind", "state", "reason", "planned_pages", "started_at", "crawled_at",
    "finished_at",
)  # fmt: skip
BATCH: Final = (
    "stage", "index", "try", "pages", "failed", "skipped", "chunks", "embedded", "reused", "started_at", "finished_at",
)  # fmt: skip
GAP: Final = ("pages_not_chunked", "chunks_without_vector", "failures", "given_up")


@router.get("/runs")
def runs(
    tenant: Tenant, source: uuid.UUID | None = None, after: Annotated[int, Query(ge=1, le=NEWEST)] = NEWEST
) -> dict[str, Any]:
    """Runs, the newest first."""
    key = {"tenant_id": tenant, "source_id": source, "after": after, "limit": SCREENFUL}
    with knowledge() as conn:
        found = rows(conn, "runs", key, RUN)
    return {"runs": found, "next": found[-1]["job"] if len(found) == SCREENFUL else None}


@router.get("/run")
def run(tenant: Tenant, job: Annotated[int, Query(ge=1, le=NEWEST)]) -> dict[str, Any]:
    """One run with its report, its batches, and the series of its charts: pages a second and batches at work."""
    key = {"tenant_id": tenant, "job_id": job}
    with knowledge() as conn:
        found = rows(conn, "run", key, (*RUN, "report", "now"))
        if not found:
            raise HTTPException(404, "the tenant has no such run")
        batches = rows(conn, "batches", key, BATCH)
        told = found[0]
        ends = [batch["finished_at"] or told["now"] for batch in batches]
        end = max([told["finished_at"] or (told["now"] if told["state"] == "running" else told["crawled_at"]), *ends],
                  key=lambda at: (at is not None, at)) or told["now"]  # fmt: skip
        step = max((end - told["started_at"]).total_seconds() / STEPS, 1.0)
        visited = int(((told["report"] or {}).get("crawl") or {}).get("visited") or 0)
        is_large = visited > MOST_COUNTED and told["crawled_at"] is not None
        crawled = [] if is_large else rows(conn, "crawl_pace", {**key, "step": step}, ("at", "pages"))
    work = [
        Batch(
            stage=batch["stage"],
            pages=batch["pages"],
            start=(batch["started_at"] - told["started_at"]).total_seconds(),
            end=((batch["finished_at"] or told["now"]) - told["started_at"]).total_seconds(),
        )
        for batch in batches
    ]
    paces = pace(work, step)
    if is_large:  # to look at each page's moment would take too long: as if the crawl had gone evenly
        seconds = (told["crawled_at"] - told["started_at"]).total_seconds()
        paces |= pace([Batch(stage="crawl", pages=visited, start=0.0, end=seconds)], step)
    else:
        paces["crawl"] = [[point["at"] * step, point["pages"] / step] for point in crawled]
    return {
        **told,
        "batches": batches,
        "step": step,
        "pace": paces,
        "depth": depth(work, step),
    }


@router.get("/glance")
def glance(tenant: Tenant = "") -> dict[str, Any]:
    """The gap and the failures, of one tenant or of all; the endpoint's breaker. Given up is counted up to `most`."""
    key = {"tenant_id": tenant or None, "most": MOST_COUNTED, "last_attempt": REPLAYS["last_attempt"]}
    with knowledge() as conn:
        gap = rows(conn, "gap", key, GAP)[0]
        try:
            policy, _ = embedding()
            if policy.is_local:
                endpoint: dict[str, Any] = {"name": policy.model, "state": "local"}
            else:
                name = endpoint_name(policy)
                state, seconds = endpoint_state(conn).change(
                    name, lambda known, now: (known.breaker.state(now), max(0.0, known.breaker.open_until - now))
                )
                endpoint = {"name": name, "state": state, "seconds": seconds}
        except GleanerError as error:
            endpoint = {"name": "", "state": "unknown", "problem": str(error)}
    return {**gap, "most": MOST_COUNTED, "endpoint": endpoint}
