"""Turns the stored bytes of a batch into documents, page by page: a bad page costs itself only."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString, TypeVar

import msgspec
import psycopg
from isal import isal_zlib
from psycopg.types.json import Jsonb

from include.gleaner.errors import GleanerError
from include.gleaner.load.store import REFUSALS
from include.gleaner.models import Batch, Document, NotContent, Snapshot
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.collecting import collector_paused
from include.gleaner.process.choose import main_contents
from include.gleaner.process.document import OpenPage, document_of, open_page
from include.gleaner.process.records import document_to_json
from include.gleaner.process.repeats import block_hashes
from include.gleaner.process.similar import bands_of
from include.gleaner.report.pace import BatchPace, tell_nothing_left, tell_run
from include.gleaner.report.stats import count, timing
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PAGES_PER_TRANSACTION = 10  # what a killed task does again at most, and what is in memory at once
WORDS_PER_STATEMENT = 100_000
CHARACTERS_AT_ONCE = 500_000  # of pages whose trees are in memory together, which take many times that


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
    pace = BatchPace(batch, "process")
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
        pace.tell(done=tally.earlier + tally.pages, now=tally.pages - before, seconds=seconds, failed=tally.failed)
    pace.tell_last()
    if tally.pages == before:
        tell_nothing_left(batch, "process")
    tally.save(conn, finished=True)
    timing("batch.process", time.monotonic() - began)
    tell_run(conn, tenant_id=tally.tenant_id, job_id=tally.job_id, stage="process")
    if tally.failed == tally.pages > 1:
        raise GleanerError(f"none of {tally.pages} pages could be processed; dead_letter has the reasons")


def _process_and_store(conn: psycopg.Connection, tally: BatchTally, pages: list[Snapshot]) -> None:
    results = list(zip(pages, _process(pages), strict=True))
    key = {"tenant_id": tally.tenant_id}
    with conn.transaction():
        conn.execute(queries("plan")["lock_pages"], {**key, "page_ids": [page.page_id for page in pages]})
        refused: dict[uuid.UUID, Exception] = {}
        for portion in _portions([(page, result) for page, result in results if isinstance(result, _Read)]):
            refused.update(_store_or_refuse(conn, tally, portion))
        for page, result in results:
            if isinstance(result, NotContent):
                _skip(conn, tally, page, result)
            elif isinstance(error := refused.get(page.page_id, result), Exception):
                refused[page.page_id] = error
                _fail(conn, tally, page, error)
        read = [page.page_id for page, _ in results if page.page_id not in refused]
        conn.execute(queries("load")["resolve_dead_letters"], {**key, "stages": ["process"], "page_ids": read})


def _portions(read: list[tuple[Snapshot, _Read]]) -> Iterator[list[tuple[Snapshot, _Read]]]:
    """Few statements for usual pages, one each for huge ones: a statement holds all its documents once more."""
    portion: list[tuple[Snapshot, _Read]] = []
    words = 0
    for page, result in read:
        words += result.document.word_count
        if portion and words > WORDS_PER_STATEMENT:
            yield portion
            portion, words = [], result.document.word_count
        portion.append((page, result))
    if portion:
        yield portion


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


_T = TypeVar("_T")
_Result = _Read | NotContent | Exception


def _process(pages: Sequence[Snapshot]) -> list[_Result]:
    """What came of each page. Their contents are chosen together, as far as their trees are small."""
    results: dict[int, _Result] = {}
    waiting: dict[int, OpenPage] = {}
    for at, page in enumerate(pages):
        opened = _attempt(_open, page)
        if isinstance(opened, OpenPage):
            waiting[at] = opened
        else:
            results[at] = opened
        if at == len(pages) - 1 or sum(page.size for page in waiting.values()) >= CHARACTERS_AT_ONCE:
            results.update(zip(waiting, _finish(list(waiting.values())), strict=True))
            waiting.clear()
    return [results[at] for at in range(len(pages))]


def _open(page: Snapshot) -> OpenPage | NotContent:
    return open_page(replace(page, body=isal_zlib.decompress(page.body)))


def _finish(pages: Sequence[OpenPage]) -> list[_Result]:
    chosen = _attempt(main_contents, [(page.outline, page.head) for page in pages])
    if not isinstance(chosen, Exception):
        return [_attempt(_read_of, page, leaves) for page, leaves in zip(pages, chosen, strict=True)]
    return [chosen] if len(pages) == 1 else [result for page in pages for result in _finish([page])]


def _read_of(page: OpenPage, chosen: Sequence[int]) -> _Read | NotContent:
    result = document_of(page, chosen)
    if isinstance(result, NotContent):
        return result
    return _Read(document=result, block_hashes=block_hashes(result), bands=bands_of(result))


def _attempt(step: Callable[..., _T], *arguments: Any) -> _T | Exception:
    try:
        return step(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever one page does, its neighbours go on; it is recorded below
        return error


def _store_or_refuse(
    conn: psycopg.Connection, tally: BatchTally, read: list[tuple[Snapshot, _Read]]
) -> dict[uuid.UUID, Exception]:
    """Store the documents. Each that Postgres refuses costs itself only: these, with what it says."""
    try:
        with conn.transaction():
            _store_documents(conn, tally, read)
    except REFUSALS as error:
        if len(read) == 1:
            return {read[0][0].page_id: error}
    else:
        return {}
    half = len(read) // 2
    return {**_store_or_refuse(conn, tally, read[:half]), **_store_or_refuse(conn, tally, read[half:])}


def _store_documents(conn: psycopg.Connection, tally: BatchTally, read: list[tuple[Snapshot, _Read]]) -> None:
    plan, documents = queries("plan"), [result.document for _, result in read]
    key: dict[str, Any] = {
        "tenant_id": tally.tenant_id,
        "page_ids": [page.page_id for page, _ in read],
        "generations": [page.generation for page, _ in read],
    }
    conn.execute(
        plan["store_documents"],
        {
            **key,
            "titles": [document.title for document in documents],
            "languages": [document.language for document in documents],
            "word_counts": [document.word_count for document in documents],
            "content_hashes": [document.content_hash for document in documents],
            "documents": [Jsonb(document_to_json(document), msgspec.json.encode) for document in documents],
            "block_hashes": [_literal(result.block_hashes) for _, result in read],
            "bands": [_literal(result.bands) for _, result in read],
        },
    )
    conn.execute(plan["mark_completed"], key)


def _literal(numbers: list[int]) -> str:
    """An array as Postgres writes it: arrays of different lengths make no array of arrays."""
    return f"{{{','.join(map(str, numbers))}}}"


def _skip(conn: psycopg.Connection, tally: BatchTally, page: Snapshot, result: NotContent) -> None:
    tally.skipped += 1
    log.info("%s: no content, %s", page.url, result.reason)
    key = {"tenant_id": tally.tenant_id, "page_id": page.page_id, "generation": page.generation}
    conn.execute(queries("plan")["mark_skipped"], {**key, "reason": result.reason, "job_id": tally.job_id})


def _fail(conn: psycopg.Connection, tally: BatchTally, page: Snapshot, error: Exception) -> None:
    tally.failed += 1
    reason = type(error).__name__
    log.warning("%s: could not be processed, %s", page.url, reason)
    key = {"tenant_id": tally.tenant_id, "page_id": page.page_id, "reason": reason}
    conn.execute(queries("plan")["mark_failed"], {**key, "generation": page.generation})
    # Only Gleaner's own messages are known to hold no page text.
    detail = str(error) if isinstance(error, GleanerError) else ""
    conn.execute(
        queries("load")["write_dead_letter"],
        {**key, "stage": "process", "item": "", "detail": detail, "job_id": tally.job_id},
    )
