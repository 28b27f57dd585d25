"""Turns the stored bytes of a batch into documents, page by page: a bad page costs itself only."""

from __future__ import annotations

import logging
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.errors import GleanerError
from include.gleaner.models import Batch, Document, NotContent, Snapshot
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.collecting import collector_paused
from include.gleaner.process.document import read_document
from include.gleaner.process.records import document_to_json
from include.gleaner.process.repeats import block_hashes
from include.gleaner.process.similar import bands_of
from include.gleaner.report.pace import tell_batch, tell_nothing_left, tell_run
from include.gleaner.report.stats import count, timing
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PAGES_PER_TRANSACTION = 10  # what a killed task does again at most, and what is in memory at once


def process_batch(
    conn: psycopg.Connection,
    *,
    source_id: uuid.UUID,
    batch: Batch,
    tally: BatchTally,
    snapshots: LiteralString | None = None,
    where: Mapping[str, Any] | None = None,
) -> None:
    """Process every page of the batch that waits for it, and count into `tally`.

    `snapshots` is another query for the pages than the usual one, with its columns; `where` holds what else it takes.
    Raises GleanerError when not one page of a batch of several could be processed: that is no matter of single pages.
    """
    after = uuid.UUID(int=0)
    began = time.monotonic()
    tally.start(conn)
    before = tally.pages
    query = snapshots or queries("plan")["snapshots_of_batch"]
    key = {**(where or {}), "tenant_id": tally.tenant_id, "source_id": source_id}
    while pages := _read(conn, query, key, batch, after):
        failed = tally.failed
        with collector_paused():  # whose end finds what a function has let go of
            _process_and_store(conn, tally, pages)
        after = pages[-1].page_id
        tally.pages += len(pages)
        tally.save(conn)
        seconds = time.monotonic() - began
        count("pages.process", len(pages))
        count("failed.process", tally.failed - failed)
        tell_batch(
            batch, "process", done=tally.earlier + tally.pages, now=tally.pages - before, seconds=seconds,
            failed=tally.failed,
        )  # fmt: skip
    if tally.pages == before:
        tell_nothing_left(batch, "process")
    tally.save(conn, finished=True)
    timing("batch.process", time.monotonic() - began)
    tell_run(conn, tenant_id=tally.tenant_id, job_id=tally.job_id, stage="process")
    if tally.failed == tally.pages > 1:
        raise GleanerError(f"none of {tally.pages} pages could be processed; dead_letter has the reasons")


def _process_and_store(conn: psycopg.Connection, tally: BatchTally, pages: list[Snapshot]) -> None:
    results = [(page, _process(page)) for page in pages]
    with conn.transaction():
        for page, result in results:
            _store(conn, tally, page, result)


def _read(
    conn: psycopg.Connection, query: LiteralString, key: Mapping[str, Any], batch: Batch, after: uuid.UUID
) -> list[Snapshot]:
    rows = conn.execute(
        query,
        {
            **key,
            "first_page": batch.first_page,
            "last_page": batch.last_page,
            "after": after,
            "limit": PAGES_PER_TRANSACTION,
        },
        binary=True,
    ).fetchall()
    return [
        Snapshot(page_id=page_id, url=url, generation=generation, body=body, content_type=content_type)
        for page_id, url, generation, body, content_type in rows
    ]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A document, with what the survey of its site needs."""

    document: Document
    block_hashes: list[int]
    bands: list[int]


def _process(page: Snapshot) -> _Read | NotContent | Exception:
    try:
        result = read_document(replace(page, body=zlib.decompress(page.body)))
        if isinstance(result, NotContent):
            return result
        return _Read(document=result, block_hashes=block_hashes(result), bands=bands_of(result))
    except Exception as error:  # noqa: BLE001 - whatever one page does, its neighbours go on; it is recorded below
        return error


def _store(conn: psycopg.Connection, tally: BatchTally, page: Snapshot, result: _Read | NotContent | Exception) -> None:
    key: dict[str, Any] = {"tenant_id": tally.tenant_id, "page_id": page.page_id, "generation": page.generation}
    plan, load = queries("plan"), queries("load")
    if isinstance(result, _Read):
        document = result.document
        conn.execute(
            plan["store_document"],
            {
                **key,
                "title": document.title,
                "language": document.language,
                "word_count": document.word_count,
                "content_hash": document.content_hash,
                "document": Jsonb(document_to_json(document)),
                "block_hashes": result.block_hashes,
                "bands": result.bands,
            },
        )
        conn.execute(plan["mark_completed"], key)
    elif isinstance(result, NotContent):
        tally.skipped += 1
        log.info("%s: no content, %s", page.url, result.reason)
        conn.execute(plan["mark_skipped"], {**key, "reason": result.reason, "job_id": tally.job_id})
    else:
        tally.failed += 1
        reason = type(result).__name__
        log.warning("%s: could not be processed, %s", page.url, reason)
        conn.execute(plan["mark_failed"], {**key, "reason": reason})
        # Only Gleaner's own messages are known to hold no page text.
        detail = str(result) if isinstance(result, GleanerError) else ""
        conn.execute(
            load["write_dead_letter"],
            {**key, "stage": "process", "item": "", "reason": reason, "detail": detail, "job_id": tally.job_id},
        )
        return
    conn.execute(load["resolve_dead_letters"], {**key, "stages": ["process"], "page_ids": [page.page_id]})
