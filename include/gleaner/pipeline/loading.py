"""Chunks, embeds and loads the documents of a batch: group after group of pages, each in one transaction.

While the vectors of some groups are under way, the next is cut and the last is stored.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, LiteralString

import psycopg

from include.gleaner.chunk.encodings import counter
from include.gleaner.config import DEFAULT_ENCODING, ChunkPolicy
from include.gleaner.embed import Embedder
from include.gleaner.errors import GleanerError
from include.gleaner.load.rows import Refusal, text_hash, tldr_hash
from include.gleaner.load.store import KnowledgeStore, LoadOutcome
from include.gleaner.models import Batch, PageChunks, TokenLimit
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.collecting import collector_paused
from include.gleaner.pipeline.connections import check_dimensions
from include.gleaner.pipeline.estimates import LEAST_ROWS, look_at_chunks
from include.gleaner.pipeline.grouping import Group, Page, next_group, texts_of, write_dead_letter
from include.gleaner.pipeline.quota import quota_of
from include.gleaner.pipeline.vectors import VectorFlow
from include.gleaner.report.pace import BatchPace, tell_nothing_left, tell_run
from include.gleaner.report.stats import count, timing
from include.gleaner.sql import queries

log = logging.getLogger(__name__)


def load_batch(
    conn: psycopg.Connection,
    *,
    source_id: uuid.UUID,
    batch: Batch,
    chunk: ChunkPolicy,
    fingerprint: str,
    embedder: Embedder,
    tally: BatchTally,
    documents: LiteralString | None = None,
    where: Mapping[str, Any] | None = None,
    is_beside: bool = False,
) -> None:
    """Load every page of the batch that waits for it, and count into `tally`.

    `documents` is another query for the pages than the usual one, with its columns; `where` holds what else it takes.
    With `is_beside` the model stands beside the one that runs load with, for which the pages may still wait.
    Raises EmbeddingError when the model cannot be asked, SetupError when its vectors would have another length than
    those that are there, and GleanerError when nothing of several pages was stored.
    """
    tally.start(conn)
    before = tally.pages
    began = time.monotonic()
    store = KnowledgeStore(conn, tenant_id=tally.tenant_id, model=embedder.model, dimensions=embedder.dimensions)
    check_dimensions(conn, embedder, tally.tenant_id)
    counter(chunk.encoding)  # without it no page can be chunked: that is no matter of single pages
    query = documents or queries("plan")["documents_of_batch"]
    key = {**(where or {}), "tenant_id": tally.tenant_id, "model": embedder.model, "source_id": source_id}
    paid = tally.embedded  # before this try had to wait; found among the paid vectors now, and not reused
    failed: set[uuid.UUID] = set()
    written, look_again = 0, LEAST_ROWS
    pace = BatchPace(batch, "load")
    groups = _groups(conn, tally, query, key, batch, chunk, embedder.limit)
    holder = f"{tally.job_id}/{tally.stage}/{tally.batch_index}"
    with quota_of(conn, tenant_id=tally.tenant_id, holder=holder) as quota:
        flow = VectorFlow(conn, store, embedder, tally, quota, has_counts=chunk.encoding == DEFAULT_ENCODING)
        with closing(flow.of(groups)) as complete:
            for item in complete:
                pages = item.group.pages
                tally.chunks += sum(len(page.chunks) for page in pages)
                tally.withheld += item.withheld
                tally.paused += item.without
                tally.reused += max(0, item.known - paid)
                paid = max(0, paid - item.known)
                outcome = store.replace_pages([_with_vectors(page, fingerprint, item.vectors) for page in pages])
                tally.stored += outcome.counts
                failed |= item.group.failed | _settle(conn, tally, pages, outcome, item.refused, is_beside=is_beside)
                tally.pages += len(pages)
                count("pages.load", len(pages))
                count("chunks", outcome.counts.created + outcome.counts.updated)
                count("failed.load", len(failed) - tally.failed)
                tally.failed = len(failed)
                tally.save(conn)
                written += outcome.counts.created
                if written >= look_again:
                    look_at_chunks(conn, tenant_id=tally.tenant_id, model=embedder.model, rows=written)
                    look_again = 2 * written
                seconds = time.monotonic() - began
                pace.tell(
                    done=tally.earlier + tally.pages, now=tally.pages - before, seconds=seconds, chunks=tally.chunks
                )
    pace.tell_last()
    if tally.pages == before and not failed:
        tell_nothing_left(batch, "load")
    tally.save(conn, finished=True)
    timing("batch.load", time.monotonic() - began)
    log.info(
        "%s: %d pages, %d chunks (%d created, %d updated, %d unchanged, %d deleted; %d pages refused as stale), "
        "%d vectors asked for, %d reused",
        batch.label, tally.pages, tally.chunks, tally.stored.created, tally.stored.updated, tally.stored.unchanged,
        tally.stored.deleted, tally.stored.stale_pages, tally.embedded, tally.reused,
    )  # fmt: skip
    tell_run(conn, tenant_id=tally.tenant_id, job_id=tally.job_id, stage="load")
    if len(failed) > 1 and len(failed) >= tally.pages:
        raise GleanerError(f"none of {len(failed)} pages could be loaded; dead_letter has the reasons")


def _groups(
    conn: psycopg.Connection,
    tally: BatchTally,
    query: LiteralString,
    key: Mapping[str, Any],
    batch: Batch,
    chunk: ChunkPolicy,
    limit: TokenLimit | None,
) -> Iterator[Group]:
    """Group after group of the batch's pages, cut when it is asked for."""
    after = uuid.UUID(int=0)
    while True:
        with collector_paused():
            group = next_group(conn, tally, query, {**key, "after": after}, batch, chunk, limit)
        if group.last is None:
            return
        after = group.last
        yield group


def estimate_batch(
    conn: psycopg.Connection,
    *,
    source_id: uuid.UUID,
    batch: Batch,
    chunk: ChunkPolicy,
    embedder: Embedder,
    tally: BatchTally,
    documents: LiteralString | None = None,
    where: Mapping[str, Any] | None = None,
) -> None:
    """Count what `load_batch` would do: chunks, vectors to ask for, their tokens. Asks for nothing, stores no chunk."""
    tally.start(conn)
    store = KnowledgeStore(conn, tenant_id=tally.tenant_id, model=embedder.model, dimensions=embedder.dimensions)
    counter(chunk.encoding)
    query = documents or queries("plan")["documents_of_batch"]
    key = {**(where or {}), "tenant_id": tally.tenant_id, "model": embedder.model, "source_id": source_id}
    tally.pages = tally.failed = tally.chunks = tally.embedded = tally.reused = tally.tokens = 0  # counted anew
    asked: set[bytes] = set()
    for group in _groups(conn, tally, query, key, batch, chunk, embedder.limit):
        texts, tokens, inputs = texts_of(group.pages)
        known = store.known_vectors(texts)
        wanted = [text for text in texts if text not in known and text not in asked]
        asked.update(wanted)
        tally.pages += len(group.pages)
        tally.failed += len(group.failed)
        tally.chunks += sum(len(page.chunks) for page in group.pages)
        tally.embedded += len(wanted)
        tally.reused += inputs - len(wanted)
        tally.tokens += sum(tokens[text] for text in wanted)
    tally.save(conn, finished=True)
    log.info("%s: %d pages, %d chunks; %d vectors would be asked for (%d tokens), %d reused",
             batch.label, tally.pages, tally.chunks, tally.embedded, tally.tokens, tally.reused)  # fmt: skip


def _with_vectors(page: Page, fingerprint: str, vectors: Mapping[bytes, bytes]) -> PageChunks:
    return PageChunks(
        page_id=page.page_id,
        generation=page.generation,
        fingerprint=fingerprint,
        chunks=page.chunks,
        vectors=tuple(vectors.get(text_hash(chunk)) for chunk in page.chunks),
        tldr_vectors=tuple(vectors.get(tldr_hash(chunk) or b"") for chunk in page.chunks),
    )


def _settle(
    conn: psycopg.Connection,
    tally: BatchTally,
    pages: Sequence[Page],
    outcome: LoadOutcome,
    refused: Mapping[bytes, str],
    *,
    is_beside: bool,
) -> set[uuid.UUID]:
    """Write what became of the pages: state, dead letters, old dead letters resolved. Returns the failed pages.

    What is loaded beside settles nothing: the pages' state and old failures are about the model that runs load with.
    """
    generations = {page.page_id: page.generation for page in pages}
    refusals = [*outcome.refusals, *_refused_inputs(pages, refused)]
    failed = {refusal.page_id for refusal in refusals if not refusal.item}
    touched = {refusal.page_id for refusal in refusals}
    with conn.transaction():
        for refusal in refusals:
            stage = "embed" if refusal.reason.startswith("endpoint: ") else "load"
            write_dead_letter(conn, tally, stage, refusal.page_id, refusal.item, refusal.reason)
        if is_beside:
            return failed
        conn.execute(
            queries("plan")["mark_chunked"],
            {
                "tenant_id": tally.tenant_id,
                "page_ids": list(outcome.loaded),
                "generations": [generations[page_id] for page_id in outcome.loaded],
            },
        )
        conn.execute(
            queries("load")["resolve_dead_letters"],
            {
                "tenant_id": tally.tenant_id,
                "stages": ["embed", "load"],
                "page_ids": [page_id for page_id in outcome.loaded if page_id not in touched],
            },
        )
    return failed


def _refused_inputs(pages: Sequence[Page], refused: Mapping[bytes, str]) -> Iterator[Refusal]:
    for page in pages:
        for chunk in page.chunks:
            if reason := refused.get(text_hash(chunk)) or refused.get(tldr_hash(chunk) or b""):
                item = f"{chunk.chunk_type}/{chunk.chunk_index}"
                yield Refusal(page_id=page.page_id, item=item, reason=f"endpoint: {reason}")
