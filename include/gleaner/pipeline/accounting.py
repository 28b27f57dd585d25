"""What one try of one mapped task did, written as it goes."""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg

from include.gleaner.models import LoadCounts, Patience
from include.gleaner.sql import queries


@dataclass(kw_only=True)
class BatchTally:
    """Counts of one try of one stage of one batch; `save` writes them to `batch_report`."""

    tenant_id: str
    job_id: int
    stage: str
    batch_index: int
    try_number: int
    earlier: int = 0  # pages that earlier tries of the batch have done, and this one has not to do
    pages: int = 0
    failed: int = 0
    skipped: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    requests: int = 0
    tokens: int = 0
    withheld: int = 0  # texts whose vector was not asked for, because the month's quota is spent
    paused: int = 0  # texts whose vector was not asked for, because the endpoint failed again and again
    throttled: int = 0  # requests that the endpoint answered with 429
    endpoint_failures: int = 0
    limiter_waits: int = 0
    limiter_seconds: float = 0.0
    stored: LoadCounts = field(default_factory=LoadCounts)

    def start(self, conn: psycopg.Connection) -> None:
        """Begin, or go on: a try that waited for the endpoint is begun again, and what it did before counts once."""
        row = conn.execute(queries("plan")["start_batch"], self.key()).fetchone()
        if row is not None:
            (self.earlier, self.pages, self.failed, self.skipped, self.chunks, self.embedded, self.reused,
             self.requests, self.tokens, self.withheld, self.paused, self.throttled, self.endpoint_failures,
             self.limiter_waits, self.limiter_seconds, *stored) = row  # fmt: skip
            names = ("created", "updated", "unchanged", "deleted", "stale_pages")
            self.stored = LoadCounts(**dict(zip(names, stored, strict=True)))

    def waited(self, patience: Patience) -> None:
        """Add what it took to get an answer."""
        self.throttled += patience.throttled
        self.endpoint_failures += patience.failures
        self.limiter_waits += patience.waits
        self.limiter_seconds += patience.seconds

    def save(self, conn: psycopg.Connection, *, finished: bool = False) -> None:
        conn.execute(
            queries("plan")["report_batch"],
            {
                **self.key(),
                "pages": self.pages,
                "failed": self.failed,
                "skipped": self.skipped,
                "chunks": self.chunks,
                "embedded": self.embedded,
                "reused": self.reused,
                "requests": self.requests,
                "tokens": self.tokens,
                "withheld": self.withheld,
                "paused": self.paused,
                "throttled": self.throttled,
                "endpoint_failures": self.endpoint_failures,
                "limiter_waits": self.limiter_waits,
                "limiter_seconds": self.limiter_seconds,
                "created": self.stored.created,
                "updated": self.stored.updated,
                "unchanged": self.stored.unchanged,
                "deleted": self.stored.deleted,
                "stale_pages": self.stored.stale_pages,
                "finished": finished,
            },
        )
        if finished:
            conn.execute(queries("metrics")["fold"])

    def key(self) -> dict[str, object]:
        """Names the try's row."""
        return {
            "tenant_id": self.tenant_id,
            "job_id": self.job_id,
            "stage": self.stage,
            "batch_index": self.batch_index,
            "try_number": self.try_number,
        }
