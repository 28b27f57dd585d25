"""Pages that are stored already are done again: by rebuild_knowledge for a day, by maintain_knowledge where a run died.

No state says that it is under way, so a kill at any line leaves the knowledge as it was or as it is to be, and the next
try does what is left. A batch is several parts, each a range of pages of one source: many small websites share a task.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.config import MAX_BATCHES, ChunkPolicy, EmbedPolicy, fingerprint
from include.gleaner.embed import Embedder
from include.gleaner.errors import EmbeddingQuotaError
from include.gleaner.models import Batch
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.batches import BatchData
from include.gleaner.pipeline.loading import estimate_batch, load_batch
from include.gleaner.pipeline.patience import reschedule, waited_seconds
from include.gleaner.pipeline.processing import process_batch
from include.gleaner.sql import queries

PAGES_PER_BATCH: Final = 50

Kind = Literal["rebuild", "mend"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A range of pages of one source, and the job that it reports to."""

    tenant_id: str
    source_id: uuid.UUID
    job_id: int
    batch: Batch  # its index is that of the part within its job

    def to_data(self) -> dict[str, Any]:
        """The part as JSON, for XCom."""
        return {
            "tenant": self.tenant_id, "source": str(self.source_id), "job": self.job_id, "index": self.batch.index,
            "of": self.batch.of, "first_page": str(self.batch.first_page), "last_page": str(self.batch.last_page),
            "pages": self.batch.pages,
        }  # fmt: skip

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Part:
        """The part that `to_data` wrote down."""
        batch = Batch(
            index=data["index"], of=data["of"], first_page=uuid.UUID(data["first_page"]),
            last_page=uuid.UUID(data["last_page"]), pages=data["pages"],
        )  # fmt: skip
        return cls(tenant_id=data["tenant"], source_id=uuid.UUID(data["source"]), job_id=data["job"], batch=batch)


Found = tuple[str, uuid.UUID, uuid.UUID, uuid.UUID, int]  # tenant, source, first page, last page, pages


def open_parts(
    conn: psycopg.Connection, kind: Kind, run_id: str, conf: Mapping[str, Any], found: Sequence[Found]
) -> list[Part]:
    """A job for each source, and the ranges as parts of these; the same again for the same run."""
    jobs: dict[tuple[str, uuid.UUID], int] = {}
    numbers: dict[int, int] = {}
    parts: list[Part] = []
    for tenant_id, source_id, first, last, pages in found:
        key = {"tenant_id": tenant_id, "source_id": source_id}
        if (tenant_id, source_id) not in jobs:
            row = conn.execute(
                queries("rebuild")["create_job"],
                {**key, "run_id": f"{kind}:{run_id}", "conf": Jsonb(dict(conf)), "kind": kind},
            ).fetchone()
            if row is None:
                raise LookupError("the job that was just stored is not there")
            jobs[tenant_id, source_id] = int(row[0])
        job_id = jobs[tenant_id, source_id]
        numbers[job_id] = numbers.get(job_id, 0) + 1
        batch = Batch(index=numbers[job_id], of=0, first_page=first, last_page=last, pages=pages)
        parts.append(Part(tenant_id=tenant_id, source_id=source_id, job_id=job_id, batch=batch))
    return [replace(part, batch=replace(part.batch, of=numbers[part.job_id])) for part in parts]


def to_batches(parts: Iterable[Part], *, most: int = MAX_BATCHES) -> list[BatchData]:
    """The parts as batches of about equal pages, in their order, never more than `most`."""
    parts = list(parts)
    pages = sum(part.batch.pages for part in parts)
    enough = max(PAGES_PER_BATCH, -(-pages // most))
    groups: list[list[Part]] = []
    size = enough
    for part in parts:
        if size >= enough:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += part.batch.pages
    return [
        {
            "index": number,
            "of": len(groups),
            "label": f"batch {number}/{len(groups)} · {_tenants(group)} · {sum(p.batch.pages for p in group)} pages",
            "parts": [part.to_data() for part in group],
        }
        for number, group in enumerate(groups, start=1)
    ]


def _tenants(parts: Sequence[Part]) -> str:
    names = list(dict.fromkeys(part.tenant_id for part in parts))
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def process_part(
    conn: psycopg.Connection, part: Part, try_number: int, *, snapshots: LiteralString, where: Mapping[str, Any]
) -> BatchTally:
    """Read the pages of the part again from their stored bytes; the counts."""
    tally = BatchTally(
        tenant_id=part.tenant_id, job_id=part.job_id, stage="process", batch_index=part.batch.index,
        try_number=try_number,
    )  # fmt: skip
    process_batch(conn, source_id=part.source_id, batch=part.batch, tally=tally, snapshots=snapshots, where=where)
    return tally


def load_part(
    conn: psycopg.Connection,
    part: Part,
    try_number: int,
    *,
    policy: EmbedPolicy,
    embedder: Embedder,
    documents: LiteralString,
    where: Mapping[str, Any],
    dry_run: bool = False,
    is_beside: bool = False,
) -> BatchTally:
    """Cut, embed and load the part's documents, cut as the source's last crawl had it; the counts.

    `is_beside` is as in `load_batch`. A dry run only counts. A long wait for the endpoint is a reschedule. Raises like
    `load_batch`.
    """
    _, chunk = newest_crawl(conn, part.tenant_id, part.source_id)
    tally = BatchTally(
        tenant_id=part.tenant_id, job_id=part.job_id, stage="estimate" if dry_run else "load",
        batch_index=part.batch.index, try_number=try_number,
    )  # fmt: skip
    if dry_run:
        estimate_batch(
            conn, source_id=part.source_id, batch=part.batch, chunk=chunk, embedder=embedder, tally=tally,
            documents=documents, where=where,
        )  # fmt: skip
        return tally
    try:
        load_batch(
            conn, source_id=part.source_id, batch=part.batch, chunk=chunk, fingerprint=fingerprint(chunk, policy),
            embedder=embedder, tally=tally, documents=documents, where=where, is_beside=is_beside,
        )  # fmt: skip
    except EmbeddingQuotaError as error:
        reschedule(error, waited=waited_seconds(conn, tally))
    return tally


def newest_crawl(conn: psycopg.Connection, tenant_id: str, source_id: uuid.UUID) -> tuple[int, ChunkPolicy]:
    """The source's last crawl, and how it was told to cut the pages. LookupError when there was none."""
    key = {"tenant_id": tenant_id, "source_id": source_id}
    row = conn.execute(queries("maintenance")["newest_job"], key).fetchone()
    if row is None:
        raise LookupError(f"source {source_id} has pages but no crawl")
    return int(row[0]), ChunkPolicy(**row[1])
