"""The pages of a batch in groups that are embedded and stored together: memory does not grow with the batch."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy
from include.gleaner.load.rows import text_hash, tldr_hash
from include.gleaner.models import Batch, Chunk, TokenLimit
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.process.records import document_from_json
from include.gleaner.process.repeats import without_repeats
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PAGES_PER_GROUP = 50  # of documents in memory, and in one transaction
CHUNKS_PER_GROUP = 300  # about; their vectors are asked for together


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page with its chunks, not embedded yet."""

    page_id: uuid.UUID
    generation: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """So many pages as are embedded and stored together: memory does not grow with the batch."""

    pages: tuple[Page, ...]
    failed: frozenset[uuid.UUID]
    last: uuid.UUID | None  # the last page that was looked at; None when there was none


def next_group(
    conn: psycopg.Connection,
    tally: BatchTally,
    query: LiteralString,
    key: Mapping[str, Any],
    batch: Batch,
    policy: ChunkPolicy,
    limit: TokenLimit | None,
) -> Group:
    """The next pages of the batch after `key['after']`, cut; one that cannot be cut is a dead letter."""
    places = {"first_page": batch.first_page, "last_page": batch.last_page, "limit": PAGES_PER_GROUP}
    pages: list[Page] = []
    failed: set[uuid.UUID] = set()
    last: uuid.UUID | None = None
    chunks_so_far = 0
    for page_id, url, generation, document, dropped in conn.execute(query, {**key, **places}):
        last = page_id
        try:
            chunks = split(without_repeats(document_from_json(document), dropped), policy, url, limit)
        except Exception as error:  # noqa: BLE001 - whatever one page does, its neighbours go on; it is recorded
            log.warning("%s: could not be chunked, %s", url, type(error).__name__)
            write_dead_letter(conn, tally, "load", page_id, "", type(error).__name__)
            failed.add(page_id)
            continue
        pages.append(Page(page_id=page_id, generation=generation, chunks=chunks))
        chunks_so_far += len(chunks)
        if chunks_so_far >= CHUNKS_PER_GROUP:
            break
    return Group(pages=tuple(pages), failed=frozenset(failed), last=last)


def texts_of(pages: Sequence[Page]) -> tuple[dict[bytes, str], dict[bytes, int], int]:
    """What needs a vector, by hash, with its tokens; and how many vectors the chunks take."""
    texts: dict[bytes, str] = {}
    tokens: dict[bytes, int] = {}
    inputs = 0
    for chunk in (chunk for page in pages for chunk in page.chunks):
        for key, text in ((text_hash(chunk), chunk.embedded_text), (tldr_hash(chunk), chunk.embedded_tldr)):
            if key is not None and text is not None:
                texts[key], tokens[key] = text, chunk.token_count  # a gist has fewer than its chunk
                inputs += 1
    return texts, tokens, inputs


def write_dead_letter(
    conn: psycopg.Connection, tally: BatchTally, stage: str, page_id: uuid.UUID, item: str, reason: str
) -> None:
    """Keep that a page, or an item of it, failed."""
    conn.execute(
        queries("load")["write_dead_letter"],
        {
            "tenant_id": tally.tenant_id,
            "stage": stage,
            "page_id": page_id,
            "item": item,
            "reason": reason.removeprefix("endpoint: ")[:200],
            "detail": "",
            "job_id": tally.job_id,
        },
    )
