"""What keeps the knowledge whole between runs: missing vectors are filled in, and the table is looked over.

Vectors are missing where the endpoint failed, a quota was spent, or a task died. Their pages are loaded again as they
are: same document, same chunks, same fence. Nothing changes its state, so a kill anywhere costs nothing.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.config import EmbedPolicy, fingerprint
from include.gleaner.embed import Embedder
from include.gleaner.errors import EmbeddingQuotaError, KnowledgeDamagedError
from include.gleaner.models import Batch
from include.gleaner.ops import forget
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.batches import BatchData
from include.gleaner.pipeline.connections import endpoint_name, endpoint_state
from include.gleaner.pipeline.indexing import index_model
from include.gleaner.pipeline.loading import load_batch
from include.gleaner.pipeline.patience import reschedule, waited_seconds
from include.gleaner.pipeline.rework import Part, load_part, newest_crawl, open_parts, process_part, to_batches
from include.gleaner.pipeline.surveying import survey
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PAGES_PER_BATCH: Final = 50
MOST_BATCHES: Final = 40  # in one run; the next one goes on
REPLAYS: Final = {
    "first_delay": "1 hour",
    "last_attempt": 6,
}  # of a failure: after 1, 4, 16, 64 and 256 hours, then no more
LARGE: Final = 1_000_000  # chunks, which are read in about a second
KEEP: Final = "90 days"  # bytes of older versions, and the names of pages that are gone
FORGET_SECONDS: Final = 600.0  # for the rest of websites whose removal was stopped; the next run goes on
CONSTRAINT: Final = "UNIQUE (tenant_id, source_id, chunk_type, chunk_index, embedding_model)"


def find_missing(conn: psycopg.Connection, policy: EmbedPolicy) -> list[tuple[str, uuid.UUID, Batch]]:
    """(tenant, source, batch) of pages whose chunks wait for vectors, tenants in fair turns.

    Empty while the circuit breaker of the endpoint is open: whoever asks now would only keep it open.
    """
    if not policy.is_local and (seconds := _closed_for(conn, policy)) > 0:
        log.info("%s failed again and again: nothing is asked of it for %.0f s", endpoint_name(policy), seconds)
        return []
    rows = conn.execute(
        queries("maintenance")["batches_without_vectors"],
        {"tenant_id": None, "model": policy.model, "size": PAGES_PER_BATCH, "batches": MOST_BATCHES, **REPLAYS},
    ).fetchall()
    return [
        (tenant, source, Batch(index=number, of=len(rows), first_page=first, last_page=last, pages=pages))
        for number, (tenant, source, first, last, pages) in enumerate(rows, start=1)
    ]


def fill_batch(
    conn: psycopg.Connection,
    *,
    tenant_id: str,
    source_id: uuid.UUID,
    batch: Batch,
    policy: EmbedPolicy,
    embedder: Embedder,
    try_number: int,
) -> BatchTally:
    """Load the batch's pages again with the vectors that they lack; the counts.

    A long wait for the endpoint is a reschedule. Raises like `load_batch`.
    """
    job_id, chunk = newest_crawl(conn, tenant_id, source_id)
    tally = BatchTally(
        tenant_id=tenant_id, job_id=job_id, stage="renew", batch_index=batch.index, try_number=try_number
    )
    try:
        load_batch(
            conn,
            source_id=source_id,
            batch=batch,
            chunk=chunk,
            fingerprint=fingerprint(chunk, policy),
            embedder=embedder,
            tally=tally,
            documents=queries("maintenance")["documents_without_vectors"],
            where=REPLAYS,
        )
    except EmbeddingQuotaError as error:
        reschedule(error, waited=waited_seconds(conn, tally))
    return tally


def find_to_mend(conn: psycopg.Connection, run_id: str) -> list[BatchData]:
    """Batches of pages that a dead run left behind, or that failed and are due for another try."""
    found = conn.execute(
        queries("maintenance")["parts_to_mend"],
        {"tenant_id": None, "size": PAGES_PER_BATCH, "batches": MOST_BATCHES, **REPLAYS},
    ).fetchall()
    return to_batches(open_parts(conn, "mend", run_id, {}, found))


def mend_part(
    conn: psycopg.Connection, part: Part, *, policy: EmbedPolicy, embedder: Embedder, try_number: int
) -> BatchTally:
    """Read the part's pages, look over what their site repeats, and load them; the counts of the load.

    A long wait for the endpoint is a reschedule. Raises like `load_batch`.
    """
    sql = queries("maintenance")
    process_part(conn, part, try_number, snapshots=sql["snapshots_to_mend"], where=REPLAYS)
    survey(conn, tenant_id=part.tenant_id, source_id=part.source_id)
    return load_part(
        conn, part, try_number, policy=policy, embedder=embedder, documents=sql["documents_to_mend"], where=REPLAYS
    )


def look_over(conn: psycopg.Connection, policy: EmbedPolicy, *, hour: int = 0) -> dict[str, Any]:
    """Remove what nobody needs any more, see to the index, and check what must always be true; the report.

    Where a table is large, the fences of one page in 24 are compared with their chunks, others each `hour` of the day:
    to compare all of them reads the whole table. Raises KnowledgeDamagedError when it is not.
    """
    sql = queries("maintenance")
    key = {"tenant_id": None, "model": policy.model}
    pruned = conn.execute(sql["prune_pending"], key).rowcount
    conn.execute(sql["prune_reservations"], key)
    conn.execute(sql["prune_endpoints"], key)
    snapshots = conn.execute(sql["prune_snapshots"], {**key, "keep": KEEP}).rowcount
    with conn.transaction():
        old = conn.execute(sql["prune_tombstones"], {**key, "keep": KEEP}).fetchall()
        ids = {"tenant_ids": [tenant for tenant, _ in old], "page_ids": [page for _, page in old]}
        conn.execute(sql["delete_tombstones"], {**key, **ids})
    forgotten = forget.go_on(conn, seconds=FORGET_SECONDS)
    index_model(conn, policy)
    definition = _one(conn, "constraint_definition", key)
    chunks, tenants = conn.execute(sql["missing_vectors"], key).fetchone() or (0, 0)
    report: dict[str, Any] = {
        "constraint": definition,
        "duplicates": 0 if definition == CONSTRAINT else _one(conn, "duplicate_keys", key),
        "invalid_indexes": [name for (name,) in conn.execute(sql["invalid_indexes"], key)],
        "disagreeing_fences": _one(conn, "disagreeing_fences", {**key, **pages_of(*_turn(conn, hour, key))}),
        "chunks_without_vector": chunks,
        "tenants_without_vectors": tenants,
        "pages_not_chunked": _one(conn, "not_chunked", key),
        "pruned_vectors": pruned,
        "pruned_snapshots": snapshots,
        "pruned_tombstones": len(old),
        "forgotten_websites": forgotten,
        "given_up": _one(conn, "given_up", {**key, **REPLAYS}),
    }
    conn.execute(queries("metrics")["store_check"], {"report": Jsonb(report)})
    conn.execute(queries("metrics")["fold"])
    log.info("knowledge: %s", report)
    if report["disagreeing_fences"]:
        log.warning("%d pages have another number of chunks than their fence says", report["disagreeing_fences"])
    if reason := _damage(report):
        raise KnowledgeDamagedError(reason)
    return report


def _turn(conn: psycopg.Connection, hour: int, key: dict[str, Any]) -> tuple[int, int]:
    return (hour % 24, 24) if _one(conn, "estimated_chunks", key) > LARGE else (0, 1)


def pages_of(turn: int, of: int) -> dict[str, uuid.UUID]:
    """First and last id of the `turn`-th of `of` equal ranges; ids are hashes, so pages fall into all alike."""
    first, after = ((1 << 128) * number // of for number in (turn, turn + 1))
    return {"first_page": uuid.UUID(int=first), "last_page": uuid.UUID(int=after - 1)}


def _damage(report: dict[str, Any]) -> str | None:
    if report["constraint"] != CONSTRAINT:
        found = report["constraint"] or "gone"
        return (
            f"the constraint unique_chunk_per_source is {found}, there are {report['duplicates']} duplicate keys; "
            f"remove them, then run: ALTER TABLE gleaner.tenant_knowledge ADD CONSTRAINT "
            f"unique_chunk_per_source {CONSTRAINT}"
        )
    if report["invalid_indexes"]:
        names = ", ".join(report["invalid_indexes"])
        return f"these indexes are not valid: {names}; run REINDEX INDEX CONCURRENTLY gleaner.NAME for each"
    return None


def _closed_for(conn: psycopg.Connection, policy: EmbedPolicy) -> float:
    """Seconds for which the breaker of the endpoint is open; 0 when it may be asked."""
    return endpoint_state(conn).change(
        endpoint_name(policy),
        lambda state, now: state.breaker.open_until - now if state.breaker.state(now) == "open" else 0.0,
    )


def _one(conn: psycopg.Connection, query: str, key: dict[str, Any]) -> Any:
    row = conn.execute(queries("maintenance")[query], key).fetchone()
    return None if row is None else row[0]
