"""Which pages of a day are done again, and what came of it."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.config import EmbedPolicy, RunPolicy
from include.gleaner.pipeline.indexing import index_model
from include.gleaner.pipeline.reconciling import allowed_deletes
from include.gleaner.pipeline.rework import PAGES_PER_BATCH, Part, open_parts
from include.gleaner.pipeline.switching import switch_model
from include.gleaner.rebuild_request import RebuildRequest
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

TOTALS = ("processed", "failed", "no_content", "loaded", "chunks", "embedded", "reused", "tokens", "created", "updated",
          "unchanged", "deleted", "stale_pages")  # fmt: skip


def find_parts(
    conn: psycopg.Connection, request: RebuildRequest, run_id: str, policy: EmbedPolicy, *, documents: bool
) -> list[Part]:
    """The pages of the request, or those of them that have `documents`, with a job for each of their sources."""
    stage = "chunk" if documents and request.stage == "process" else request.stage
    key = {**_key(request, policy), "stage": stage, "size": PAGES_PER_BATCH}
    found = conn.execute(queries("rebuild")["parts_of_interval"], key).fetchall()
    conf = {
        "stage": request.stage, "model": policy.model, "since": request.since.isoformat(),
        "until": request.until.isoformat(), "dry_run": request.dry_run,
    }  # fmt: skip
    return open_parts(conn, "rebuild", run_id, conf, found)


def report(
    conn: psycopg.Connection, request: RebuildRequest, run_id: str, policy: EmbedPolicy, *, is_of_connection: bool
) -> dict[str, Any]:
    """Index the model, switch the tenants that are complete under it, and store what was done with each source's job.

    Readers are switched only to the model of the connection: with another one the next ingest would switch them back.
    """
    sql = queries("rebuild")
    jobs = conn.execute(
        sql["jobs_of_run"], {"run_id": f"rebuild:{run_id}", "kind": "rebuild", "tenant_id": request.tenant_id}
    ).fetchall()
    told: dict[str, Any] = {
        "model": policy.model, "stage": request.stage, "since": request.since.isoformat(),
        "until": request.until.isoformat(), "sources": len(jobs), "dry_run": request.dry_run,
    }  # fmt: skip
    totals = dict.fromkeys(TOTALS, 0)
    none = {"retired": 0, "held_back": 0}
    retired = dict.fromkeys((job_id for _, _, job_id in jobs), none)
    if request.stage == "process" and not request.dry_run:
        for tenant_id, source_id, job_id in jobs:
            retired[job_id] = retire(conn, tenant_id=tenant_id, source_id=source_id, job_id=job_id)
    if jobs and not request.dry_run:
        index_model(conn, policy)  # before readers come
    for tenant_id in dict.fromkeys(job[0] for job in jobs):
        if is_of_connection and not request.dry_run:
            switch_model(conn, tenant_id=tenant_id, model=policy.model)
    for tenant_id, _, job_id in jobs:
        key = {"tenant_id": tenant_id, "job_id": job_id}
        row = conn.execute(sql["totals"], key).fetchone() or (0,) * len(TOTALS)
        work = dict(zip(TOTALS, row, strict=True))
        totals = {name: totals[name] + work[name] for name in TOTALS}
        own = {**told, "work": work, "retired": retired[job_id]}
        conn.execute(sql["finish_job"], {**key, "report": Jsonb(own)})
    left = conn.execute(sql["not_rebuilt"], _key(request, policy)).fetchone() or (0,)
    price = None if policy.price is None else round(totals["tokens"] * policy.price / 1_000_000, 6)
    sums = {name: sum(own[name] for own in retired.values()) for name in none}
    return {**told, "work": totals, "retired": sums, "cost": price, "not_rebuilt": left[0]}


def retire(conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, job_id: int) -> dict[str, int]:
    """Remove the chunks of the pages that are no content by today's rules, as far as the delete brake allows.

    The bytes are the ones that the chunks were made of, so no second crawl is asked for evidence. Returns how many
    pages were retired, and how many the brake held back: those are left to the next ingests of the website.
    """
    sql = queries("reconcile")
    key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id, "job_id": job_id}
    with conn.transaction():
        pages = [page_id for (page_id,) in conn.execute(queries("rebuild")["without_content"], key)]
        loaded = (conn.execute(sql["loaded_pages"], key).fetchone() or (0,))[0]
        if len(pages) > allowed_deletes(loaded, RunPolicy()):
            log.warning(
                "delete brake: %d of %d loaded pages of tenant %s, source %s are no content by today's rules; "
                "nothing was deleted. If that is wrong, mend the rules before the website is ingested twice.",
                len(pages), loaded, tenant_id, source_id,
            )  # fmt: skip
            return {"retired": 0, "held_back": len(pages)}
        if pages:
            conn.execute(sql["raise_fence"], {**key, "page_ids": pages})
            conn.execute(sql["delete_chunks"], {**key, "page_ids": pages})
    return {"retired": len(pages), "held_back": 0}


def _key(request: RebuildRequest, policy: EmbedPolicy) -> dict[str, Any]:
    return {
        "tenant_id": request.tenant_id, "since": request.since, "until": request.until, "model": policy.model,
    }  # fmt: skip
