"""The tasks of ingest_website, in their order."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.gleaner import pools
from include.gleaner.config import DEFAULT_ENCODING, IngestRequest, fingerprint
from include.gleaner.errors import EmbeddingQuotaError, RunFailedError
from include.gleaner.models import source_id_of
from include.gleaner.pipeline.batches import BatchData, batch_from_data, batch_to_data

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)


def crawl_website(params: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Fetch what is new or changed of the website; the counts of the crawl.

    Raises InvalidParamError, UnknownParamError, SetupError, CrawlError.
    """
    request = IngestRequest.from_params(params)
    from psycopg.types.json import Jsonb

    from include.gleaner.chunk.encodings import counter
    from include.gleaner.crawl.crawler import crawl
    from include.gleaner.ops.forget import check_not_forgotten
    from include.gleaner.pipeline.collecting import spare_modules
    from include.gleaner.pipeline.connections import check_dimensions, embedding, knowledge_connection
    from include.gleaner.report.stats import count, timing
    from include.gleaner.sql import queries

    began = time.monotonic()
    spare_modules()
    # What cannot be used is better told now than after an hour of crawling.
    policy, _ = embedding()
    if request.chunk.encoding != DEFAULT_ENCODING:
        counter(request.chunk.encoding)
    with knowledge_connection() as conn:
        check_dimensions(conn, policy, request.tenant_id)
        check_not_forgotten(conn, request.tenant_id, _source_id(request))
        outcome = crawl(conn, tenant_id=request.tenant_id, request=request, run_id=run_id)
        if not request.dry_run and outcome.state != "failed":
            key = {"tenant_id": request.tenant_id, "source_id": outcome.source_id}
            conn.execute(queries("crawl")["remember_params"], {**key, "params": Jsonb(dict(params))})
        conn.execute(queries("metrics")["fold"])
    count("pages.crawl", outcome.visited)
    count("failed.crawl", outcome.failed)
    timing("batch.crawl", time.monotonic() - began)
    return {
        "job_id": outcome.job_id,
        "state": outcome.state,
        "found": outcome.found,
        "visited": outcome.visited,
        "changed": outcome.changed,
        "unchanged": outcome.unchanged,
        "failed": outcome.failed,
    }


def plan_batches(params: Mapping[str, Any], run_id: str) -> list[BatchData]:
    """The batches that are left to do, one per mapped task; empty when the knowledge is up to date."""
    request = IngestRequest.from_params(params)
    from include.gleaner.pipeline import planning
    from include.gleaner.pipeline.connections import embedding, knowledge_connection
    from include.gleaner.pipeline.estimates import look_at_pages

    policy, _ = embedding()
    with knowledge_connection() as conn:
        source_id, job_id = _job(conn, request, run_id)
        look_at_pages(conn, tenant_id=request.tenant_id, source_id=source_id)
        batches = planning.plan_batches(
            conn,
            tenant_id=request.tenant_id,
            source_id=source_id,
            job_id=job_id,
            model=policy.model,
            fingerprint=fingerprint(request.chunk, policy),
            policy=request.run,
            slots=pools.PROCESS.slots,
        )
    log.info("%d pages to do in %d batches", sum(batch.pages for batch in batches), len(batches))
    return [batch_to_data(batch) for batch in batches]


def process_pages(params: Mapping[str, Any], run_id: str, batch: BatchData, try_number: int) -> dict[str, int]:
    """Turn the batch's stored pages into documents; counts.

    Raises GleanerError when nothing of the batch could be processed.
    """
    request = IngestRequest.from_params(params)
    from include.gleaner.pipeline.accounting import BatchTally
    from include.gleaner.pipeline.collecting import spare_modules
    from include.gleaner.pipeline.connections import knowledge_connection
    from include.gleaner.pipeline.pacing import keep_pace
    from include.gleaner.pipeline.processing import process_batch

    spare_modules()
    work = batch_from_data(batch)
    with knowledge_connection() as conn:
        source_id, job_id = _job(conn, request, run_id)
        tally = BatchTally(
            tenant_id=request.tenant_id, job_id=job_id, stage="process", batch_index=work.index, try_number=try_number
        )
        keep_pace(conn, request.run, tally, source_id=source_id, pages=work.pages)
        process_batch(conn, source_id=source_id, batch=work, tally=tally)
    return {"pages": tally.pages, "skipped": tally.skipped, "failed": tally.failed}


def survey_site(params: Mapping[str, Any], run_id: str) -> list[BatchData]:
    """Learn what the site repeats and which pages say nearly the same; the batches of pages to load."""
    request = IngestRequest.from_params(params)
    from include.gleaner.pipeline import planning
    from include.gleaner.pipeline.connections import embedding, knowledge_connection
    from include.gleaner.pipeline.indexing import defer_for
    from include.gleaner.pipeline.surveying import survey

    policy, _ = embedding()
    with knowledge_connection() as conn:
        source_id, _ = _job(conn, request, run_id)
        survey(conn, tenant_id=request.tenant_id, source_id=source_id, policy=request.run)
        batches = planning.load_batches(
            conn, tenant_id=request.tenant_id, source_id=source_id, policy=request.run, slots=pools.LOAD.slots,
            is_local=policy.is_local,
        )  # fmt: skip
        if not request.dry_run:
            defer_for(conn, policy, pages=sum(batch.pages for batch in batches))
    return [batch_to_data(batch) for batch in batches]


def load_chunks(params: Mapping[str, Any], run_id: str, batch: BatchData, try_number: int) -> dict[str, int]:
    """Chunk, embed and load the batch's documents; counts as the database gave them. A dry run only counts.

    When the endpoint asks for patience, the task is rescheduled. Raises EmbeddingError when the model cannot be asked,
    GleanerError when nothing of the batch could be loaded.
    """
    request = IngestRequest.from_params(params)
    from include.gleaner.embed import open_embedder
    from include.gleaner.pipeline.accounting import BatchTally
    from include.gleaner.pipeline.collecting import spare_modules
    from include.gleaner.pipeline.connections import embedding, endpoint_gate, knowledge_connection
    from include.gleaner.pipeline.loading import estimate_batch, load_batch
    from include.gleaner.pipeline.pacing import keep_pace
    from include.gleaner.pipeline.patience import reschedule, waited_seconds

    spare_modules()
    work = batch_from_data(batch)
    policy, api_key = embedding()
    with knowledge_connection() as conn:
        source_id, job_id = _job(conn, request, run_id)
        tally = BatchTally(
            tenant_id=request.tenant_id,
            job_id=job_id,
            stage="estimate" if request.dry_run else "load",
            batch_index=work.index,
            try_number=try_number,
        )
        keep_pace(conn, request.run, tally, source_id=source_id, pages=work.pages)
        embedder = open_embedder(policy, api_key, endpoint_gate(conn, policy, request.tenant_id))
        if request.dry_run:
            estimate_batch(conn, source_id=source_id, batch=work, chunk=request.chunk, embedder=embedder, tally=tally)
        else:
            try:
                load_batch(
                    conn,
                    source_id=source_id,
                    batch=work,
                    chunk=request.chunk,
                    fingerprint=fingerprint(request.chunk, policy),
                    embedder=embedder,
                    tally=tally,
                )
            except EmbeddingQuotaError as error:
                reschedule(error, waited=waited_seconds(conn, tally))
    return {"pages": tally.pages, "chunks": tally.chunks, "embedded": tally.embedded, **asdict(tally.stored)}


def reconcile(params: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Retire what is gone, measure the gap, store the report and return it.

    Raises RunFailedError when the run did not do what it had to: this is the task that makes the run red or green.
    """
    request = IngestRequest.from_params(params)
    from include.gleaner.pipeline import reconciling
    from include.gleaner.pipeline.connections import embedding, knowledge_connection

    policy, _ = embedding()
    with knowledge_connection() as conn:
        source_id, job_id = _job(conn, request, run_id)
        report = reconciling.finish(conn, source_id=source_id, job_id=job_id, request=request, policy=policy)
    log.info("report: %s", report)
    if reason := reconciling.verdict(report, request.run):
        raise RunFailedError(reason)
    return report


def _job(conn: psycopg.Connection, request: IngestRequest, run_id: str) -> tuple[uuid.UUID, int]:
    """The source and the crawl of this run. RunFailedError when the run never got as far as a crawl."""
    from include.gleaner.sql import queries

    source_id = _source_id(request)
    row = conn.execute(
        queries("plan")["job"], {"tenant_id": request.tenant_id, "source_id": source_id, "run_id": run_id}
    ).fetchone()
    if row is None:
        raise RunFailedError("this run has no crawl; look at the log of the crawl task, then clear it to run again")
    return source_id, int(row[0])


def _source_id(request: IngestRequest) -> uuid.UUID:
    from include.gleaner.crawl.urls import canonicalize

    return source_id_of(request.tenant_id, canonicalize(request.url) or request.url)
