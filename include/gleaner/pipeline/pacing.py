"""Spreads a run's batches over time, where a run asks for it, without a slot being held meanwhile."""

from __future__ import annotations

import hashlib
import uuid

import psycopg

from include.gleaner.config import RunPolicy
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.connections import endpoint_state
from include.gleaner.pipeline.patience import come_back_in, waited_seconds
from include.gleaner.shared import bucket
from include.gleaner.shared.bucket import Limits


def keep_pace(
    conn: psycopg.Connection, policy: RunPolicy, tally: BatchTally, *, source_id: uuid.UUID, pages: int
) -> None:
    """Return when the batch may begin; until then the task is rescheduled.

    The jitter of a batch is drawn from its own number and counts from its first try, so that a retry waits no second
    time. The pace counts the pages of a source over all workers and runs; a batch of more pages than ten seconds' worth
    goes when these are due, and leaves a debt that the next one waits out.
    """
    if not policy.jitter_seconds and not policy.pages_per_minute:
        return
    tally.start(conn)
    if (left := jitter(tally, policy.jitter_seconds) - waited_seconds(conn, tally, over_all_tries=True)) > 0:
        come_back_in(left, "jitter")
    if policy.pages_per_minute:
        limits = Limits(tokens=policy.pages_per_minute)
        wait = endpoint_state(conn).change(
            f"pace:{tally.tenant_id}/{source_id}/{tally.stage}",
            lambda state, now: bucket.take(state.bucket, now, tally.tenant_id, pages, limits),
        )
        if wait > 0:
            come_back_in(wait, f"{policy.pages_per_minute} pages a minute")


def jitter(tally: BatchTally, most: float) -> float:
    """Seconds from 0 to `most`, always the same for one batch of one job."""
    name = f"{tally.tenant_id}/{tally.job_id}/{tally.stage}/{tally.batch_index}"
    return most * int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) / 2**32
