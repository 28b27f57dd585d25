"""Chunks, embeds and loads the documents of a batch.

Vectors the tenant has are taken, the rest is asked for in requests that carry many pages, and each answer is stored
before the next is waited for: a task that is killed pays again for the requests under way at most.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, LiteralString

import psycopg

from include.gleaner.chunk.encodings import encoding
from include.gleaner.config import DEFAULT_ENCODING, ChunkPolicy
from include.gleaner.embed import Embedder
from include.gleaner.errors import EmbeddingPausedError, EmbeddingQuotaError, GleanerError
from include.gleaner.load.rows import Refusal, text_hash, tldr_hash
from include.gleaner.load.store import KnowledgeStore, LoadOutcome
from include.gleaner.models import Batch, EmbeddedBatch, PageChunks, Usage
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.collecting import collector_paused
from include.gleaner.pipeline.grouping import Page, next_group, texts_of, write_dead_letter
from include.gleaner.pipeline.quota import quota_of
from include.gleaner.report.pace import tell_batch, tell_run
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
) -> None:
    """Load every page of the batch that waits for it, and count into `tally`.

    `documents` is another query for the pages than the usual one, with its columns; `where` holds what else it takes.
    Raises EmbeddingError when the model cannot be asked, and GleanerError when nothing of several pages was stored.
    """
    tally.start(conn)
    began = time.monotonic()
    store = KnowledgeStore(conn, tenant_id=tally.tenant_id, model=embedder.model, dimensions=embedder.dimensions)
    encoding(chunk.encoding)  # without it no page can be chunked: that is no matter of single pages
    query = documents or queries("plan")["documents_of_batch"]
    key = {**(where or {}), "tenant_id": tally.tenant_id, "model": embedder.model, "source_id": source_id}
    has_counts = chunk.encoding == DEFAULT_ENCODING
    paid = tally.embedded  # before this try had to wait; found among the paid vectors now, and not reused
    failed: set[uuid.UUID] = set()
    after = uuid.UUID(int=0)
    while True:
        with collector_paused():
            group = next_group(conn, tally, query, {**key, "after": after}, batch, chunk, embedder.limit)
        if group.last is None:
            break
        after = group.last
        failed |= group.failed
        chunks = sum(len(page.chunks) for page in group.pages)
        tally.chunks += chunks
        tally.save(conn)
        try:
            vectors, refused, known = _vectors(conn, store, embedder, group.pages, tally, has_counts=has_counts)
        except EmbeddingQuotaError:
            tally.chunks -= chunks  # cut and counted again when the endpoint may be asked
            tally.save(conn)
            raise
        tally.reused += max(0, known - paid)
        paid = max(0, paid - known)
        outcome = store.replace_pages([_with_vectors(page, fingerprint, vectors) for page in group.pages])
        tally.stored += outcome.counts
        failed |= _settle(conn, tally, group.pages, outcome, refused)
        tally.pages += len(group.pages)
        count("pages.load", len(group.pages))
        count("chunks", outcome.counts.created + outcome.counts.updated)
        count("failed.load", len(failed) - tally.failed)
        tally.failed = len(failed)
        tally.save(conn)
        seconds = time.monotonic() - began
        tell_batch(batch.label, "load", done=tally.pages, of=batch.pages, seconds=seconds, chunks=tally.chunks)
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


def _vectors(
    conn: psycopg.Connection,
    store: KnowledgeStore,
    embedder: Embedder,
    pages: Sequence[Page],
    tally: BatchTally,
    *,
    has_counts: bool,
) -> tuple[dict[bytes, bytes], dict[bytes, str], int]:
    """Vectors by text hash, the reasons of those that were refused, and how many vectors were there already.

    Without counts by the endpoint's own encoding its requests are packed safely below their limit.
    """
    texts, tokens, inputs = texts_of(pages)
    vectors = store.known_vectors(texts)
    wanted = [key for key in texts if key not in vectors]
    known = inputs - len(wanted)
    refused: dict[bytes, str] = {}
    if not wanted:
        return vectors, refused, known
    with quota_of(conn, tenant_id=tally.tenant_id, holder=f"{tally.job_id}/{tally.stage}/{tally.batch_index}") as quota:
        admitted = quota.admit([tokens[key] for key in wanted])
        tally.withheld += len(wanted) - admitted
        del wanted[admitted:]
        counts = [tokens[key] for key in wanted] if has_counts else None
        waiting = set(wanted)
        asked = time.monotonic()
        try:
            for answer in embedder.embed([texts[key] for key in wanted], counts):
                fresh = {
                    wanted[at]: vector.tobytes() for at, vector in zip(answer.positions, answer.vectors, strict=True)
                }
                requests = int(answer.tokens > 0)  # what is refused before it is sent is no request
                if fresh:
                    store.keep_vectors(fresh, Usage(requests=requests, inputs=len(fresh), tokens=answer.tokens))
                    quota.spent(answer.tokens)
                vectors.update(fresh)
                refused.update({wanted[at]: reason for at, reason in answer.refused.items()})
                tally.embedded += len(fresh)
                tally.requests += requests
                tally.tokens += answer.tokens
                tally.waited(answer.patience)
                _tell(answer, requests, time.monotonic() - asked)
                asked = time.monotonic()
                tally.save(conn)
                waiting.difference_update(fresh, (wanted[at] for at in answer.refused))
        except EmbeddingPausedError as error:
            tally.paused += len(waiting)
            log.warning(
                "%s. %d texts are stored without vectors; maintain_knowledge fills them in", error, len(waiting)
            )
    return vectors, refused, known


def _tell(answer: EmbeddedBatch, requests: int, seconds: float) -> None:
    """What one answer was, and how long it was waited for."""
    if requests:
        timing("embedding.seconds", seconds)
    count("embedding.requests", requests)
    count("embedding.inputs", len(answer.positions))
    count("embedding.tokens", answer.tokens)
    count("embedding.throttled", answer.patience.throttled)
    count("embedding.failures", answer.patience.failures)
    count("limiter.waits", answer.patience.waits)
    if answer.patience.waits:
        timing("limiter.seconds", answer.patience.seconds)


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
    encoding(chunk.encoding)
    query = documents or queries("plan")["documents_of_batch"]
    key = {**(where or {}), "tenant_id": tally.tenant_id, "model": embedder.model, "source_id": source_id}
    tally.pages = tally.failed = tally.chunks = tally.embedded = tally.reused = tally.tokens = 0  # counted anew
    asked: set[bytes] = set()
    after = uuid.UUID(int=0)
    while True:
        group = next_group(conn, tally, query, {**key, "after": after}, batch, chunk, embedder.limit)
        if group.last is None:
            break
        after = group.last
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
) -> set[uuid.UUID]:
    """Write what became of the pages: state, dead letters, old dead letters resolved. Returns the failed pages."""
    generations = {page.page_id: page.generation for page in pages}
    refusals = [*outcome.refusals, *_refused_inputs(pages, refused)]
    failed = {refusal.page_id for refusal in refusals if not refusal.item}
    touched = {refusal.page_id for refusal in refusals}
    with conn.transaction():
        conn.execute(
            queries("plan")["mark_chunked"],
            {
                "tenant_id": tally.tenant_id,
                "page_ids": list(outcome.loaded),
                "generations": [generations[page_id] for page_id in outcome.loaded],
            },
        )
        for refusal in refusals:
            stage = "embed" if refusal.reason.startswith("endpoint: ") else "load"
            write_dead_letter(conn, tally, stage, refusal.page_id, refusal.item, refusal.reason)
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
